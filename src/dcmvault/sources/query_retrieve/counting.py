"""What a PACS tells of whole studies: its own counts, beside what lists are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dcmvault.dicom.attribute_query import (
    ACCESSION_NUMBER,
    MODALITIES_IN_STUDY,
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


@dataclass(slots=True)
class Counting:
    """Asks for studies with counts and modalities, which are optional keys (PS3.4 C.3.4)."""

    questions: Questions
    #: By Study Instance UID: series, instances, modalities.
    _told: dict[str, tuple[int, int, str]] = field(default_factory=dict)
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
        series, instances, modalities = self._told.get(uid, (-1, -1, ""))
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
        """Keep the highest counts of several answers: their sum could count instances twice."""
        uid = row.get(STUDY_INSTANCE_UID, "")
        series, instances, modalities = self._told.get(uid, (-1, -1, ""))
        self._told[uid] = (
            max(series, _number(row.get(STUDY_RELATED_SERIES, ""))),
            max(instances, _number(row.get(STUDY_RELATED_INSTANCES, ""))),
            max(modalities, row.get(MODALITIES_IN_STUDY, "")),
        )


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 9 else -1
