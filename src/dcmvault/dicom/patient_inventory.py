"""All studies of a peer that must be asked patient by patient (Patient Root, hierarchical).

There a question about studies names one patient (PS3.4 section C.4.1.2.1), so the patients are
listed first. An answer that may be cut is split by the beginnings of their IDs; it is believed to
be whole when those bring no more. Of each patient the studies are a `StudyInventory`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from dcmvault.dicom.attribute_query import PATIENT_ID, Answers, Row
from dcmvault.dicom.command import is_usable_uid
from dcmvault.dicom.study_inventory import (
    ID_CHARACTERS,
    LONGEST_ID,
    LOWEST_CAP,
    Ask,
    Keys,
    StudyInventory,
    doubt,
    is_round,
)
from dcmvault.dicom.told_studies import TooMuchToldError, telling_most
from dcmvault.errors import DestinationError, DestinationUnreachableError

#: More are a peer without end.
_MOST_PATIENTS = 5_000_000
_MAX_QUESTIONS = 1_000_000


@dataclass(slots=True)
class PatientInventory:
    """Lists the patients of one peer, then the studies of each of them into `inventory`.

    `ask_patients` asks at PATIENT level, the inventory's `ask` at STUDY level.
    """

    ask_patients: Ask
    inventory: StudyInventory
    #: Studies that were looked for by UID in vain, where a question without a patient may be none.
    unconfirmed: int = 0
    #: What was told of each patient, by ID.
    _patients: dict[str, Row] = field(default_factory=dict)
    #: Patients that a question by the beginning of their IDs brought.
    _shown: set[str] = field(default_factory=set)
    #: As many patients in one answer, or more, may be cut; 0: no cap is known.
    _cap: int = 0
    _is_one_nameless: bool = False
    #: Answers to questions by ID are about others, too.
    _ignores_ids: bool = False
    _asked: int = 0

    def collect(self) -> None:
        """Ask until everything is found, as far as that can be known.

        Raises DestinationError when the peer refuses whatever is asked.
        """
        self._cap = self.inventory.max_answers
        self._collect_patients()
        if self._is_one_nameless:
            self._doubt("some patients have no ID, and their studies cannot be asked for")
        refusal: DestinationError | None = None
        for patient_id in sorted(self._patients):
            try:
                self._collect_studies(patient_id)
            except (DestinationUnreachableError, TooMuchToldError):
                raise
            except DestinationError as error:
                refusal = error
                self._doubt("the studies of some patients cannot be listed")
        if refusal is not None and not self.inventory.found:
            raise refusal

    def confirm(self, uids: Iterable[str]) -> Iterator[str]:
        """Yield those of these studies that are there though they were not found.

        They are asked for by UID alone, which a peer may refuse: those are `unconfirmed`.
        """
        for uid in uids:
            if uid in self.inventory.found or not is_usable_uid(uid):
                continue
            try:
                confirmed = list(self.inventory.confirm([uid]))
            except DestinationUnreachableError:
                raise
            except DestinationError:
                confirmed = []
            if not confirmed:
                self.unconfirmed += 1
            yield from confirmed

    def _collect_patients(self) -> None:
        whole = self._take({})
        count = len(whole.rows)
        if not self._is_cut(whole) and count < LOWEST_CAP:
            return
        named = set(self._patients)
        parts = self._split("")
        if len(self._patients) > len(named):
            self._cap = min(self._cap, count) if self._cap else count
        elif not self._is_cut(whole) and not (self._ignores_ids and is_round(count)):
            return
        while parts and not self._ignores_ids:
            beginning, answers = parts.pop()
            if not self._is_cut(answers):
                continue
            if len(beginning) >= LONGEST_ID - 1:
                self._doubt("patient IDs cannot be told apart")
                continue
            self._take({PATIENT_ID: beginning})
            parts += self._split(beginning)
        if self._ignores_ids:
            self._doubt("the peer does not split its patients by ID")
        elif not named <= self._shown:
            self._doubt("asked by the beginnings of their IDs the peer names fewer patients")

    def _split(self, beginning: str) -> list[tuple[str, Answers]]:
        """Ask for each longer beginning; return those that answers show, with the answers."""
        shown = []
        for character in ID_CHARACTERS:
            longer = beginning + character
            if not longer.strip():
                continue  # spaces before an ID mean nothing
            answers = self._take({PATIENT_ID: f"{longer}*"})
            named = {row.get(PATIENT_ID, "") for row in answers.rows}
            # Some peers do not tell capitals.
            if not all(one.casefold().startswith(longer.casefold()) for one in named):
                self._ignores_ids = True
                return []
            fitting = {one for one in named if one.startswith(longer)}
            self._shown |= fitting
            if fitting:
                shown.append((longer, answers))
        return shown

    def _take(self, keys: Keys) -> Answers:
        """Ask for patients and keep them."""
        self._asked += 1
        if self._asked > _MAX_QUESTIONS or len(self._patients) > _MOST_PATIENTS:
            raise TooMuchToldError(
                "the peer's list of patients has no end", hint="Look for a defect of the peer."
            )
        answers = self.ask_patients(keys)
        for row in answers.rows:
            if patient_id := row.get(PATIENT_ID, ""):
                told = self._patients.get(patient_id, {})
                self._patients[patient_id] = telling_most((told, row))
            else:
                self._is_one_nameless = True
        return answers

    def _is_cut(self, answers: Answers) -> bool:
        return answers.is_cut or (bool(self._cap) and len(answers.rows) >= self._cap)

    def _collect_studies(self, patient_id: str) -> None:
        """List the studies of one patient. Raises DestinationError where that is refused."""
        patient = self._patients[patient_id]

        def ask(keys: Keys) -> Answers:
            # Asked by the beginning of an ID: that of this patient, or nobody's.
            beginning = keys.get(PATIENT_ID, patient_id)
            if beginning not in (patient_id, "*") and not (
                beginning.endswith("*") and patient_id.startswith(beginning[:-1])
            ):
                return Answers(())
            answers = self.inventory.ask({**keys, PATIENT_ID: patient_id})
            rows = [{**row, **patient} for row in answers.rows]
            return Answers(rows, answers.is_cut)

        of_patient = StudyInventory(ask, self.inventory.cap or self.inventory.max_answers)
        of_patient.collect()
        self.inventory.found.keep_all(of_patient.found)
        self.inventory.nameless += of_patient.nameless
        self.inventory.cap = of_patient.cap or self.inventory.cap
        for reason in of_patient.doubts:
            doubt(self.inventory.doubts, reason)

    def _doubt(self, reason: str) -> None:
        doubt(self.inventory.doubts, reason)
