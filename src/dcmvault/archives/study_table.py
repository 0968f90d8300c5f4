"""The studies of a vault's state in memory: what its lists say of each, arranged to be searched.

A hundred thousand studies cost about a hundred megabytes, and a search through all of them less
than a tenth of a second.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from dcmvault.dicom import attributes as tags
from dcmvault.dicom.matching import Matcher, date_range, folded_name
from dcmvault.model.query import Attributes

#: What lists of studies call attributes (format page, 10).
_LISTED = {
    tags.PATIENT_NAME: "patient_name",
    tags.PATIENT_ID: "patient_id",
    tags.PATIENT_BIRTH_DATE: "patient_birth_date",
    tags.PATIENT_SEX: "patient_sex",
    tags.STUDY_DATE: "study_date",
    tags.STUDY_TIME: "study_time",
    tags.STUDY_DESCRIPTION: "study_description",
    tags.ACCESSION_NUMBER: "accession_number",
    tags.INSTITUTION_NAME: "institution_name",
    tags.MODALITIES_IN_STUDY: "modalities",
}
#: Rows that are compared before the first of them is answered.
_ROWS_AT_ONCE = 4096
#: Attributes that need no look into a study.
LISTED_TAGS = frozenset({*_LISTED, tags.STUDY_INSTANCE_UID})


@dataclass(frozen=True, slots=True)
class StudyRow:
    """One study as a list has it."""

    study_instance_uid: str
    about: Mapping[str, str]
    #: The blob that says what makes it up; empty where no single one does.
    manifest: bytes
    #: Files, which may be more than instances.
    files: int
    #: As names and dates are compared.
    name: str
    date: str

    @classmethod
    def of(cls, uid: str, about: Mapping[str, str], manifest: bytes, files: int) -> StudyRow:
        """Make the row of a study from what it is found by."""
        name = folded_name(about.get("patient_name", "").strip())
        date = about.get("study_date", "").replace(".", "").strip()
        return cls(uid, about, manifest, files, name, date)

    @property
    def patient_id(self) -> str:
        """Patient ID, as it is compared."""
        return self.about.get("patient_id", "").strip()

    def value(self, tag: int) -> str:
        """Return a listed attribute."""
        if tag == tags.STUDY_INSTANCE_UID:
            return self.study_instance_uid
        value = self.about.get(_LISTED[tag], "").strip()
        return value.replace(" ", "\\") if tag == tags.MODALITIES_IN_STUDY else value


class StudyTable:
    """Rows in the order of their dates."""

    def __init__(self, rows: Iterable[StudyRow]) -> None:
        self.rows: Sequence[StudyRow] = sorted(
            rows, key=lambda row: (row.date, row.study_instance_uid)
        )
        self._dates = [row.date for row in self.rows]
        self._names = [
            _Names(start, self.rows[start : start + _ROWS_AT_ONCE])
            for start in range(0, len(self.rows), _ROWS_AT_ONCE)
        ]
        self._by_uid = {row.study_instance_uid: row for row in self.rows}
        self._by_patient: dict[str, list[StudyRow]] = {}
        for row in self.rows:
            self._by_patient.setdefault(row.patient_id, []).append(row)

    def __len__(self) -> int:
        return len(self.rows)

    def study(self, study_instance_uid: str) -> StudyRow | None:
        """Return the row of one study."""
        return self._by_uid.get(study_instance_uid)

    def of_patient(self, row: StudyRow) -> Sequence[StudyRow]:
        """Return all studies of the patient of one; where no ID is known, of the same name."""
        same = self._by_patient[row.patient_id]
        return same if row.patient_id else [one for one in same if one.name == row.name]

    def matching(self, keys: Attributes, matchers: Mapping[int, Matcher]) -> Iterator[StudyRow]:
        """Yield the studies whose listed attributes match, the newest first."""
        tests = [(tag, one) for tag, one in matchers.items() if tag in LISTED_TAGS]
        # Where nearly everything differs comes first.
        tests.sort(key=lambda test: test[0] != tags.PATIENT_NAME)
        for some in self._candidates(keys, matchers):
            for tag, one in tests:
                if tag == tags.PATIENT_NAME:
                    test = one.test
                    some = [row for row in some if test(row.name)]
                else:
                    some = [row for row in some if one(row.value(tag))]
            yield from some

    def _candidates(
        self, keys: Attributes, matchers: Mapping[int, Matcher]
    ) -> Iterator[Sequence[StudyRow]]:
        """Yield rows that may match, some at a time."""
        if tags.STUDY_INSTANCE_UID in matchers:
            wanted = dict.fromkeys(keys[tags.STUDY_INSTANCE_UID].split("\\"))
            yield [self._by_uid[uid] for uid in wanted if uid in self._by_uid]
            return
        patient = keys.get(tags.PATIENT_ID, "")
        if tags.PATIENT_ID in matchers and not set(patient) & set("*?\\"):
            yield self._by_patient.get(patient, [])[::-1]
            return
        first, last = 0, len(self.rows)
        dates = date_range(keys.get(tags.STUDY_DATE, ""))
        if dates is not None:
            first, last = bisect_left(self._dates, dates[0]), bisect_right(self._dates, dates[1])
        name = matchers.get(tags.PATIENT_NAME)
        literal = name.literal if name is not None else ""
        while last > first:
            block = (last - 1) // _ROWS_AT_ONCE
            begin = max(block * _ROWS_AT_ONCE, first)
            if literal:
                numbers = self._names[block].holding(literal)
                some = [self.rows[one] for one in numbers if begin <= one < last]
            else:
                some = list(self.rows[begin:last])
            yield some[::-1]
            last = begin


class _Names:
    """Names of consecutive rows in one text: to look through it costs a tenth of asking each."""

    def __init__(self, first: int, rows: Sequence[StudyRow]) -> None:
        self._first = first
        self._text = "\n".join(row.name for row in rows)
        self._starts = array("L", accumulate((len(row.name) + 1 for row in rows), initial=0))

    def holding(self, literal: str) -> Iterator[int]:
        """Yield the numbers of rows whose names hold it, and perhaps of others."""
        at = self._text.find(literal)
        while at >= 0:
            row = bisect_right(self._starts, at) - 1
            yield self._first + row
            at = self._text.find(literal, self._starts[row + 1])
