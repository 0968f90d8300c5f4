"""Conditions of rules, looked at for one study: whether they hold, and what they met."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from dcmvault.model.classification import Conditions, StudyFacts
from dcmvault.pipeline.whole_words import contains, words_of

#: Of the studies that an auto-clean may delete, so many (or this share) are at risk.
_RISK_STUDIES, _RISK_SHARE = 10, 0.1
#: YYYYMMDD.
_DATE_DIGITS = 8
#: A study from further ahead has a wrong date, and its age is not known.
_CLOCK_ERROR = timedelta(days=1)


@dataclass(frozen=True)
class StudySeen:
    """A study as rules look at it at one moment; what several of them ask is found out once."""

    facts: StudyFacts
    #: An aware time; ages are counted from it.
    now: datetime

    @cached_property
    def descriptions(self) -> tuple[tuple[str, ...], ...]:
        """The words of each description."""
        return tuple(words_of(text) for text in self.facts.descriptions)

    @cached_property
    def age_s(self) -> float | None:
        """Seconds since the study was made; None where that is not known.

        Dates of DICOM have no time zone: they are taken as local. Without a time of day the study
        counts as made at the end of its day, so that it is never taken for older than it is.
        """
        at = made_at(self.facts.study_date, self.facts.study_time) or self.facts.marks.studied_at
        if at is None or at - self.now > _CLOCK_ERROR:
            return None
        return max((self.now - at).total_seconds(), 0.0)

    @property
    def is_at_auto_clean_risk(self) -> bool:
        """Whether the viewer's auto-clean may delete the study soon."""
        marks = self.facts.marks
        most = max(_RISK_STUDIES, int(marks.auto_clean_of * _RISK_SHARE))
        return marks.auto_clean_rank is not None and marks.auto_clean_rank < most

    def find(self, phrases: Sequence[str]) -> str:
        """Return the first of these phrases that is in a description; empty for none."""
        for phrase in phrases:
            if any(contains(words, words_of(phrase)) for words in self.descriptions):
                return phrase
        return ""


def made_at(study_date: str, study_time: str) -> datetime | None:
    """Read a date (DA) and time of day (TM) as local time; None where there is no date."""
    digits = study_date.replace(".", "").replace("-", "")[:8]
    if len(digits) != _DATE_DIGITS:  # or digits of the time would be read as the date's
        return None
    clock = study_time.replace(":", "").partition(".")[0]
    has_time = clock.isdecimal() and len(clock) in (2, 4, 6)
    clock = clock.ljust(6, "0") if has_time else "235959"
    try:
        return datetime.strptime(digits + clock, "%Y%m%d%H%M%S").astimezone()
    except (ValueError, OverflowError):
        return None


def met_by(conditions: Conditions, study: StudySeen) -> Mapping[str, str] | None:
    """Return what met each condition, by its name in the configuration; None if one fails."""
    met: dict[str, str] = {}
    facts = study.facts
    for name, wanted, there in (
        ("modality", conditions.modality, facts.modalities),
        ("body_part", conditions.body_part, facts.body_parts),
        ("ae_title", conditions.ae_title, facts.ae_titles),
        ("station", conditions.station, facts.stations),
    ):
        if wanted:
            known = {value.strip().casefold() for value in there}
            found = [value for value in wanted if value.casefold() in known]
            if not found:
                return None
            met[name] = found[0]
    if conditions.words:
        if not (word := study.find(conditions.words)):
            return None
        met["words"] = word
    if conditions.without_words and study.find(conditions.without_words):
        return None
    if conditions.institution:
        name_words = words_of(facts.institution)
        places = [one for one in conditions.institution if contains(name_words, words_of(one))]
        if not places:
            return None
        met["institution"] = places[0]
    measured = _measures(conditions, study)
    return None if measured is None else {**met, **measured, **_marks(conditions, study)}


def _measures(conditions: Conditions, study: StudySeen) -> Mapping[str, str] | None:
    """Look at age, size and marks; None where one does not fit."""
    age, size = study.age_s, study.facts.bytes
    fits = [
        not conditions.younger_than_s or (age is not None and age < conditions.younger_than_s),
        not conditions.older_than_s or (age is not None and age >= conditions.older_than_s),
        not conditions.larger_than_bytes or size > conditions.larger_than_bytes,
        not conditions.smaller_than_bytes or size < conditions.smaller_than_bytes,
        *(asked is None or asked is found for asked, found in _flags(conditions, study).values()),
    ]
    if not all(fits):
        return None
    met = {}
    if conditions.younger_than_s or conditions.older_than_s:
        met["age_s"] = f"{age:.0f}"
    if conditions.larger_than_bytes or conditions.smaller_than_bytes:
        met["bytes"] = str(size)
    return met


def _flags(conditions: Conditions, study: StudySeen) -> dict[str, tuple[bool | None, bool]]:
    """Return what is asked and what is so, by condition."""
    facts = study.facts
    return {
        "locked": (conditions.locked, facts.marks.locked),
        "in_album": (conditions.in_album, facts.marks.in_album),
        "single_copy": (conditions.single_copy, not facts.taken_by),
        "auto_clean_risk": (conditions.auto_clean_risk, study.is_at_auto_clean_risk),
    }


def _marks(conditions: Conditions, study: StudySeen) -> dict[str, str]:
    return {
        name: str(found).lower()
        for name, (asked, found) in _flags(conditions, study).items()
        if asked is not None
    }
