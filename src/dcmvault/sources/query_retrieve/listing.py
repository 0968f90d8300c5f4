"""What a PACS answers about one study, as entries."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count

from dcmvault.dicom.attribute_query import (
    ACCESSION_NUMBER,
    BODY_PART_EXAMINED,
    INSTANCE_NUMBER,
    MODALITY,
    PATIENT_BIRTH_DATE,
    PATIENT_ID,
    PATIENT_NAME,
    PATIENT_SEX,
    SERIES_DESCRIPTION,
    SERIES_INSTANCE_UID,
    SERIES_NUMBER,
    SERIES_RELATED_INSTANCES,
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    STUDY_DATE,
    STUDY_DESCRIPTION,
    STUDY_INSTANCE_UID,
    STUDY_RELATED_SERIES,
    STUDY_TIME,
    Answers,
    Row,
    Tag,
)
from dcmvault.dicom.command import is_usable_uid
from dcmvault.dicom.study_inventory import LOWEST_CAP, is_round
from dcmvault.errors import DestinationError, DestinationUnreachableError
from dcmvault.model.instance import (
    Fingerprint,
    InstanceEntry,
    InstanceHeader,
    InstanceIdentity,
    SeriesAttributes,
    StudyAttributes,
)
from dcmvault.sources.query_retrieve.questions import Questions

_SERIES_KEYS = (
    SERIES_INSTANCE_UID,
    MODALITY,
    SERIES_NUMBER,
    SERIES_DESCRIPTION,
    BODY_PART_EXAMINED,
    SERIES_RELATED_INSTANCES,
)
_INSTANCE_KEYS = (SOP_INSTANCE_UID, SOP_CLASS_UID, INSTANCE_NUMBER)
_LOCATOR = re.compile(r"([0-9.]{1,64})/([0-9.]{1,64})/([0-9.]{1,64})\Z", re.ASCII)
#: Numbers asked for in vain, one after the other, before none is believed to follow.
_NUMBERS_IN_VAIN = 3
_MOST_NUMBERS = 100_000
#: Under this name `largest` keeps how many answers about all series at once were too many.
_AT_ONCE = "at-once"
#: More instances in one study are a peer without end.
_MOST_INSTANCES = 250_000


def identity_in(locator: str) -> InstanceIdentity | None:
    """Return the UIDs that a locator is made of; None for one that is not ours."""
    found = _LOCATOR.match(locator)
    if found is None or not all(map(is_usable_uid, found.groups())):
        return None
    return InstanceIdentity(*found.groups())


def study_attributes(row: Row) -> StudyAttributes:
    """Return what a PACS says of a study."""
    return StudyAttributes(
        patient_name=row.get(PATIENT_NAME, ""),
        patient_id=row.get(PATIENT_ID, ""),
        patient_birth_date=row.get(PATIENT_BIRTH_DATE, ""),
        patient_sex=row.get(PATIENT_SEX, ""),
        study_date=row.get(STUDY_DATE, ""),
        study_time=row.get(STUDY_TIME, ""),
        study_description=row.get(STUDY_DESCRIPTION, ""),
        accession_number=row.get(ACCESSION_NUMBER, ""),
    )


@dataclass(slots=True)
class StudyListing:
    """The instances of one study. `cap` is how many answers a PACS gives at most; 0: not known."""

    questions: Questions
    study_instance_uid: str
    study: StudyAttributes
    cap: int = 0
    #: The most answers that the PACS gave to one question, by level: it does not cap below that.
    largest: dict[str, int] = field(default_factory=dict)
    #: Why there may be more, each in words, without patient data.
    doubts: list[str] = field(default_factory=list)

    def entries(self) -> Iterator[InstanceEntry]:
        """List the instances, series by series, each once. Raises DestinationError."""
        answers = self._ask("SERIES", {}, _SERIES_KEYS)
        if self._lacks_series(answers):
            self.doubts.append("the PACS may name only some of its series")
        if not answers.rows:
            self.doubts.append("the PACS names none of its series")
        fingerprint = _fingerprint(self.study)
        seen = set()
        series = self._series_of(answers)
        at_once = self._instances_at_once(series)
        for uid, rows in sorted(series.items()):
            for row in self._instances(uid, _told_instances(rows), at_once.get(uid, {})):
                sop_uid = row[SOP_INSTANCE_UID]
                if (uid, sop_uid) not in seen:
                    seen.add((uid, sop_uid))
                    if len(seen) > _MOST_INSTANCES:
                        raise DestinationError(
                            f"the peer names more than {_MOST_INSTANCES:,} instances of one study",
                            hint="Look for a defect of the peer.",
                        )
                    yield self._entry(rows[0], row, fingerprint)

    def _instances_at_once(self, series: dict[str, list[Row]]) -> Mapping[str, dict[str, Row]]:
        """Ask for the instances of all series in one question where the PACS grants that.

        Answers by series and UID. They are believed only as far as the counts told of each series
        confirm them; a series that only they name is asked for by its UID, and added.
        """
        told = [_told_instances(rows) for rows in series.values()]
        limit = min(filter(None, (self.cap, self.largest.get(_AT_ONCE, 0))), default=0)
        if len(told) < 2 or not all(told) or (limit and sum(told) >= limit):
            return {}
        if not self.questions.is_relational:
            return {}
        try:
            answers = self._ask("IMAGE", {}, (SERIES_INSTANCE_UID, *_INSTANCE_KEYS))
        except DestinationError:
            self.questions.give_relational_up()
            return {}
        if len(answers.rows) < sum(told):
            self.largest[_AT_ONCE] = max(len(answers.rows), 1)
        found: dict[str, dict[str, Row]] = {}
        for row in self._named(answers):
            if is_usable_uid(uid := row.get(SERIES_INSTANCE_UID, "")):
                found.setdefault(uid, {})[row[SOP_INSTANCE_UID]] = row
        for uid in sorted(found.keys() - series.keys()):
            named = self._ask("SERIES", {SERIES_INSTANCE_UID: uid}, _SERIES_KEYS)
            series[uid] = self._series_of(named).get(uid, [{SERIES_INSTANCE_UID: uid}])
        return found

    def _lacks_series(self, answers: Answers) -> bool:
        """Say whether there may be more series than an answer names."""
        named = len(answers.rows)
        if answers.is_cut:
            return True
        if named < LOWEST_CAP or named < self.largest["SERIES"]:
            return False
        told = self._told_series()
        return told > named if told else self._may_be_cut("SERIES", answers)

    def _told_series(self) -> int:
        """Ask how many series the study has; 0 where the PACS does not say."""
        try:
            answers = self._ask("STUDY", {}, (STUDY_RELATED_SERIES,))
        except DestinationUnreachableError:
            raise
        except DestinationError:
            return 0  # it knows no such question
        counts = [row.get(STUDY_RELATED_SERIES, "") for row in answers.rows]
        return sum(int(text) for text in counts if _is_number(text))

    def _series_of(self, answers: Answers) -> dict[str, list[Row]]:
        """Gather the answers about each series: some peers split one in two."""
        series: dict[str, list[Row]] = {}
        for row in answers.rows:
            if is_usable_uid(uid := row.get(SERIES_INSTANCE_UID, "")):
                series.setdefault(uid, []).append(row)
            else:
                self.doubts.append("a series has a UID that no question can name")
        return series

    def _instances(self, series_uid: str, told: int, at_once: Mapping[str, Row]) -> Iterator[Row]:
        """Ask for the instances of a series, by number for those that a capped answer lacks.

        Those that were named `at_once` are all, where they are as many as were told.
        """
        if told and len(at_once) == told:
            yield from (at_once[uid] for uid in sorted(at_once))
            return
        answers = self._ask_instances(series_uid, {})
        rows = {**at_once, **{row[SOP_INSTANCE_UID]: row for row in self._named(answers)}}
        if self._lacks(answers, told):
            self._search_by_number(series_uid, rows, told)
            if len(rows) < told or not told:
                self.doubts.append(
                    f"of a series of {told:,} instances it names {len(rows):,}"
                    if told
                    else "a series may have more instances than it names at once"
                )
        elif not rows:
            self.doubts.append("of a series it names no instance")
        yield from (rows[uid] for uid in sorted(rows))

    def _lacks(self, answers: Answers, told: int) -> bool:
        """Say whether an answer is less than what the PACS said of the series, or may be cut."""
        named = len(answers.rows)
        if answers.is_cut or (self.cap and named >= self.cap):
            return named != told
        return named < told if told else self._may_be_cut("IMAGE", answers)

    def _may_be_cut(self, level: str, answers: Answers) -> bool:
        """Say whether an answer may be cut, where no other number is there to compare with."""
        named = len(answers.rows)
        if answers.is_cut or (self.cap and named >= self.cap):
            return True
        # Each level may have a cap of its own.
        return named >= LOWEST_CAP and named >= self.largest[level] and is_round(named)

    def _ask_instances(self, series_uid: str, keys: Mapping[Tag, str]) -> Answers:
        return self._ask("IMAGE", {SERIES_INSTANCE_UID: series_uid, **keys}, _INSTANCE_KEYS)

    def _ask(self, level: str, keys: Mapping[Tag, str], returned: Collection[Tag]) -> Answers:
        """Ask about this study, and note how many answers one question can have."""
        fixed = {STUDY_INSTANCE_UID: self.study_instance_uid}
        if self.questions.needs_patient:
            fixed[PATIENT_ID] = self.study.patient_id
        answers = self.questions.ask(level, {**fixed, **keys}, returned)
        self.largest[level] = max(self.largest.get(level, 0), len(answers.rows))
        return answers

    def _named(self, answers: Answers) -> Iterator[Row]:
        for row in answers.rows:
            if is_usable_uid(row.get(SOP_INSTANCE_UID, "")):
                yield row
            else:
                self.doubts.append("an instance has a UID that no question can name")

    def _search_by_number(self, series_uid: str, rows: dict[str, Row], told: int) -> None:
        """Ask for each instance number that no answer had, until all that was told is found."""
        seen = {row.get(INSTANCE_NUMBER, "") for row in rows.values()}
        highest = max((int(number) for number in seen if _is_number(number)), default=0)
        in_vain = 0
        for number in count():
            if number > _MOST_NUMBERS or (told and len(rows) >= told):
                return
            if str(number) in seen:
                continue
            found = list(
                self._named(self._ask_instances(series_uid, {INSTANCE_NUMBER: str(number)}))
            )
            rows.update((row[SOP_INSTANCE_UID], row) for row in found)
            in_vain = 0 if found else in_vain + 1
            if number > max(highest, told) and in_vain >= _NUMBERS_IN_VAIN:
                return

    def _entry(self, series: Row, row: Row, fingerprint: Fingerprint) -> InstanceEntry:
        series_uid, sop_uid = series[SERIES_INSTANCE_UID], row[SOP_INSTANCE_UID]
        return InstanceEntry(
            f"{self.study_instance_uid}/{series_uid}/{sop_uid}",
            fingerprint,
            expected_sop_instance_uid=sop_uid,
            indexed=InstanceHeader(
                sop_class_uid=row.get(SOP_CLASS_UID, ""),
                sop_instance_uid=sop_uid,
                study_instance_uid=self.study_instance_uid,
                series_instance_uid=series_uid,
                transfer_syntax_uid="",
                study=self.study,
                series=SeriesAttributes(
                    modality=series.get(MODALITY, ""),
                    series_number=series.get(SERIES_NUMBER, ""),
                    series_description=series.get(SERIES_DESCRIPTION, ""),
                    body_part_examined=series.get(BODY_PART_EXAMINED, ""),
                ),
                instance_number=row.get(INSTANCE_NUMBER, ""),
                data_set_start=0,
                data_set_end=0,
            ),
        )


def _told_instances(rows: list[Row]) -> int:
    """Return how many instances a series has by the peer's word; 0 where it does not say."""
    counts = [row.get(SERIES_RELATED_INSTANCES, "") for row in rows]
    return sum(int(text) for text in counts if _is_number(text))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 9


def _fingerprint(study: StudyAttributes) -> Fingerprint:
    """Make a fingerprint of whose study it is.

    A PACS tells nothing of an instance's content; but what it sends carries a correction of the
    patient's name or of the order, which it makes for all instances of a study at once.
    """
    told = (
        study.patient_name,
        study.patient_id,
        study.patient_birth_date,
        study.patient_sex,
        study.accession_number,
    )
    digest = hashlib.sha256("\0".join(told).encode("utf-8", "surrogatepass")).digest()
    return Fingerprint(0, (int.from_bytes(digest[:8], "big") >> 1) or 1, 0)
