"""Questions to one PACS, over an association that is made anew when it was lost."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from dcmvault.dicom.association import PeerAssociation
from dcmvault.dicom.attribute_query import (
    SERIES_INSTANCE_UID,
    SOP_INSTANCE_UID,
    STUDY_INSTANCE_UID,
    Answers,
    AttributeQuery,
    Row,
    Tag,
)
from dcmvault.dicom.channel import Peer
from dcmvault.dicom.command import is_usable_uid
from dcmvault.dicom.query_model import open_for_queries
from dcmvault.dicom.told_studies import PATIENT_KEYS, STUDY_KEYS, telling_most
from dcmvault.errors import AssociationLostError, DestinationError

#: Seconds that all questions for the list of studies may take, and those about one of them.
_LONGEST_LIST_S, _LONGEST_STUDY_S = 12 * 3600.0, 3600.0
#: UIDs in one question.
_UIDS_PER_QUESTION = 50


@dataclass(slots=True)
class Questions:
    """Asks one peer, used by one thread as a context; whose end releases the association.

    Raises DestinationError with its subclasses.
    """

    peer: Peer
    _query: AttributeQuery | None = None
    _association: PeerAssociation | None = None
    _deadline: float = field(default_factory=lambda: time.monotonic() + _LONGEST_LIST_S)
    #: Relational queries are asked for until the peer shows that it cannot.
    _asks_relational: bool = True

    def begin_study(self) -> None:
        """Give the questions about a study time of their own."""
        self._deadline = time.monotonic() + _LONGEST_STUDY_S
        if self._query is not None:
            self._query.deadline = self._deadline

    @property
    def is_relational(self) -> bool:
        """Whether questions need no keys of the levels above. Raises DestinationError."""
        return self._asks_relational and self._standing().granted.is_relational

    @property
    def needs_patient(self) -> bool:
        """Whether questions about studies must name the patient. Raises DestinationError."""
        return self._standing().granted.needs_patient

    def give_relational_up(self) -> None:
        """Ask no relational questions any more: the peer grants them, and cannot answer them."""
        self._asks_relational = False
        if self._association is not None:
            self._association.release()

    def ask(self, level: str, keys: Mapping[Tag, str], returned: Collection[Tag]) -> Answers:
        """Ask at a level; once more where the association was lost over it."""
        with suppress(AssociationLostError):
            return self._standing().ask(level, keys, returned)
        return self._standing().ask(level, keys, returned)

    def patients(self, keys: Mapping[Tag, str]) -> Answers:
        """Ask for patients, by their IDs, with all that is told of them."""
        return self.ask("PATIENT", keys, PATIENT_KEYS)

    def studies_of_series(self, keys: Mapping[Tag, str]) -> Answers:
        """Ask for the UIDs of studies by what is told of their series: a relational question."""
        return self.ask("SERIES", keys, (STUDY_INSTANCE_UID, SERIES_INSTANCE_UID))

    def studies(self, keys: Mapping[Tag, str]) -> Answers:
        """Ask for studies with all that is told of them.

        Where questions name the patient, what is told of that is asked at PATIENT level only.
        """
        if self.needs_patient:
            return self.ask("STUDY", keys, [tag for tag in STUDY_KEYS if tag not in PATIENT_KEYS])
        return self.ask("STUDY", keys, STUDY_KEYS)

    def study(self, study_instance_uid: str) -> Row:
        """Ask what is told of one study; nothing, where the peer does not know it."""
        rows = self.studies({STUDY_INSTANCE_UID: study_instance_uid}).rows
        return telling_most(
            row for row in rows if row.get(STUDY_INSTANCE_UID) == study_instance_uid
        )

    def instances_among(self, place: Mapping[Tag, str], among: Collection[str]) -> frozenset[str]:
        """Return which of these instances are in a `place` (a series, by its keys and those above).

        They are asked for by lists of UIDs and one by one: some peers do not know lists (PS3.4
        section C.2.2.2.2), or cut what they answer to them.
        """
        wanted = sorted(uid for uid in among if is_usable_uid(uid))
        found: set[str] = set()
        for start in range(0, len(wanted), _UIDS_PER_QUESTION):
            some = wanted[start : start + _UIDS_PER_QUESTION]
            for asked in (some, *([uid] for uid in some)):
                if not found.issuperset(asked):
                    keys = {**place, SOP_INSTANCE_UID: "\\".join(asked)}
                    rows = self.ask("IMAGE", keys, (SOP_INSTANCE_UID,)).rows
                    found.update(row.get(SOP_INSTANCE_UID, "") for row in rows)
        return frozenset(found.intersection(wanted))

    def _standing(self) -> AttributeQuery:
        if time.monotonic() > self._deadline:
            raise DestinationError(
                f"{self.peer.name} takes too long to tell what it holds",
                hint="Look at its load and at the network between.",
            )
        if self._query is None or self._association is None or not self._association.still_stands():
            self._association = open_for_queries(self.peer, relational=self._asks_relational)
            # What failed over this once is not proposed again.
            self._asks_relational &= any(
                one.relational for one in self._association.contexts.proposed
            )
            self._query = AttributeQuery(self._association, self._deadline)
        return self._query

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._association is not None:
            self._association.__exit__(kind, error, traceback)
            self._association = self._query = None
