"""What a PACS tells of whole studies: its own counts, beside what lists are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from dcmvault.dicom.attribute_query import (
    ACCESSION_NUMBER,
    MODALITIES_IN_STUDY,
    PATIENT_ID,
    STUDY_DATE,
    STUDY_INSTANCE_UID,
    STUDY_RELATED_INSTANCES,
    STUDY_RELATED_SERIES,
    Answers,
    Row,
    Tag,
)
from dcmvault.dicom.command import is_usable_uid
from dcmvault.dicom.told_studies import PATIENT_KEYS, STUDY_KEYS, telling_most
from dcmvault.errors import DestinationError, DestinationUnreachableError
from dcmvault.model.comparison import StudySummary
from dcmvault.sources.query_retrieve.questions import Questions

_COUNTED_KEYS = (*STUDY_KEYS, MODALITIES_IN_STUDY, STUDY_RELATED_SERIES, STUDY_RELATED_INSTANCES)


class _Told(NamedTuple):
    """What one answer tells of a study; -1 is no count."""

    series: int
    instances: int
    modalities: str
    patient_id: str


_NOTHING = _Told(-1, -1, "", "")
#: In place of a patient's ID: no patient has it, so that no further answer is believed.
_SEVERAL = "\\"


@dataclass(slots=True)
class Counting:
    """Asks for studies with counts and modalities, which are optional keys (PS3.4 C.3.4)."""

    questions: Questions
    #: By Study Instance UID.
    _told: dict[str, _Told] = field(default_factory=dict)
    #: A peer may refuse what it need not know.
    _is_refused: bool = False

    def studies(self, keys: Mapping[Tag, str]) -> Answers:
        """Ask for studies, and note what the answers count. Raises as Questions."""
        if self._is_refused:
            return self.questions.studies(keys)
        try:
            # Of whom it is, a peer that is asked by patient tells at PATIENT level.
            left_out = PATIENT_KEYS if self.questions.needs_patient else ()
            returned = [tag for tag in _COUNTED_KEYS if tag not in left_out]
            answers = self.questions.ask("STUDY", keys, returned)
        except DestinationUnreachableError:
            raise
        except DestinationError:
            answers = self.questions.studies(keys)  # raises if it was for another reason
            self._is_refused = True
        for row in answers.rows:
            self._note(row)
        return answers

    def summary(self, uid: str, row: Row) -> StudySummary:
        """Put together what was told of a study."""
        series, instances, modalities, _patient = self._told.get(uid, _NOTHING)
        return StudySummary(
            uid,
            series if series >= 0 else None,
            instances if instances >= 0 else None,
            row.get(STUDY_DATE, ""),
            row.get(ACCESSION_NUMBER, ""),
            tuple(sorted({one.strip() for one in modalities.split("\\")} - {""})),
        )

    def ask_for(self, uid: str) -> StudySummary | None:
        """Ask for one study by its UID alone; None where the peer does not know it."""
        if not is_usable_uid(uid):
            return None
        if self.questions.needs_patient:
            raise DestinationError(
                f"{self.questions.peer.name} must be asked by patient, not by study alone",
                hint="Allow our AE title to query in the Study Root model.",
            )
        rows = self.studies({STUDY_INSTANCE_UID: uid}).rows
        row = telling_most(row for row in rows if row.get(STUDY_INSTANCE_UID) == uid)
        return self.summary(uid, row) if row else None

    def _note(self, row: Row) -> None:
        """Keep the counts, but of answers that contradict each other none.

        A peer may have one study under two patients: neither the sum nor the highest is right then,
        and the instances have to be listed.
        """
        uid = row.get(STUDY_INSTANCE_UID, "")
        told = _Told(
            _number(row.get(STUDY_RELATED_SERIES, "")),
            _number(row.get(STUDY_RELATED_INSTANCES, "")),
            row.get(MODALITIES_IN_STUDY, ""),
            row.get(PATIENT_ID, ""),
        )
        before = self._told.setdefault(uid, told)
        if before == told:
            return
        is_another = before.patient_id != told.patient_id
        self._told[uid] = _Told(
            -1 if is_another else _agreed(before.series, told.series),
            -1 if is_another else _agreed(before.instances, told.instances),
            max(before.modalities, told.modalities),
            before.patient_id if not is_another else _SEVERAL,
        )


def _agreed(one: int, other: int) -> int:
    """Return what two answers count, if at least one does and they agree; else -1."""
    if one < 0 or other < 0:
        return max(one, other)
    return one if one == other else -1


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 9 else -1
