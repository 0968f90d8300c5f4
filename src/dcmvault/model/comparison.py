"""Comparisons: what two places hold of each study, and where they differ."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

_MOST_REASONS = 10
#: The digits of a year and a month: what is no month is not counted as one.
_MONTH = re.compile("[0-9]{4}(?:0[1-9]|1[0-2])")
#: Contents known under one SOP Instance UID, by SHA-256; empty where they were not read.
Contents = frozenset[bytes]


class Depth(StrEnum):
    """Down to what the two places are compared."""

    STUDY = "study"
    SERIES = "series"
    INSTANCE = "instance"


class Verdict(StrEnum):
    """What is true of one study."""

    SAME = "same"
    DIFFERENT = "different"
    ONLY_A = "only_a"
    ONLY_B = "only_b"
    #: One side did not answer, or named only a part: nothing may be concluded.
    UNKNOWN = "unknown"


class Basis(StrEnum):
    """What a verdict rests on, weakest first."""

    NONE = "none"
    #: Numbers of series and instances: a reason to believe, no proof.
    COUNT = "count"
    #: Sets of SOP Instance UIDs.
    INSTANCES = "instances"
    #: SHA-256 of every file, as both sides know it.
    CONTENT = "content"


class StudySummary(NamedTuple):
    """What a side tells of one study as a whole. A count is None where it does not tell."""

    study_instance_uid: str
    series: int | None = None
    instances: int | None = None
    study_date: str = ""  #: DA as it stands
    accession_number: str = ""
    modalities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HeldStudy:
    """One study at one side, with its instances where they were listed."""

    summary: StudySummary
    #: By Series Instance UID, by SOP Instance UID; None where only the counts are known.
    series: Mapping[str, Mapping[str, Contents]] | None = None
    #: Why more, or less, may be there than this says; empty where all was listed.
    doubt: str = ""


@dataclass(frozen=True, slots=True)
class SeriesDifference:
    """One series that differs. Instances are SOP Instance UIDs, in order."""

    series_instance_uid: str
    instances_a: int
    instances_b: int
    only_a: tuple[str, ...] = ()
    only_b: tuple[str, ...] = ()
    #: Under one UID in both, in other bytes.
    other_content: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StudyComparison:
    """What is true of one study in A and in B, and what that rests on."""

    study_instance_uid: str
    verdict: Verdict
    basis: Basis = Basis.NONE
    a: StudySummary | None = None
    b: StudySummary | None = None
    #: Those series that differ, where instances were listed.
    series: tuple[SeriesDifference, ...] = ()
    #: Merkle roots over the SOP Instance UIDs, hexadecimal; empty where they were not listed.
    root_a: str = ""
    root_b: str = ""
    #: Why nothing is known; empty for every other verdict.
    reason: str = ""

    @property
    def missing_in_b(self) -> bool:
        """Whether A has something that B has not."""
        return self.verdict is Verdict.ONLY_A or any(one.only_a for one in self.series)

    @property
    def is_whole_in_b(self) -> bool:
        """Whether B certainly has all that A has of it, and the same, whatever it has beside."""
        if self.verdict is Verdict.DIFFERENT:
            lacks = any(one.only_a or one.other_content for one in self.series)
            return bool(self.series) and not lacks and not self.reason
        return self.verdict in (Verdict.SAME, Verdict.ONLY_B)

    @property
    def month(self) -> str:
        """The month of the study, as 2026-01; empty where neither side knows it."""
        for side in (self.a, self.b):
            digits = side.study_date.replace(".", "")[:6] if side is not None else ""
            if _MONTH.fullmatch(digits):
                return f"{digits[:4]}-{digits[4:]}"
        return ""

    @property
    def modalities(self) -> str:
        """The modalities of the study in one word, as CT+SR; empty where neither side knows."""
        for side in (self.a, self.b):
            if side is not None and side.modalities:
                return "+".join(sorted(side.modalities))
        return ""


@dataclass(slots=True)
class SideCounts:
    """Studies and instances at the two sides."""

    studies_a: int = 0
    studies_b: int = 0
    instances_a: int = 0
    instances_b: int = 0

    def add(self, compared: StudyComparison) -> None:
        """Count one study; instances that a side does not tell of count as none."""
        if compared.a is not None:
            self.studies_a += 1
            self.instances_a += compared.a.instances or 0
        if compared.b is not None:
            self.studies_b += 1
            self.instances_b += compared.b.instances or 0


@dataclass(slots=True)
class Tally:
    """All studies of a comparison, counted."""

    verdicts: dict[Verdict, int] = field(default_factory=lambda: dict.fromkeys(Verdict, 0))
    #: Studies that are the same, by what that rests on.
    same_by: dict[Basis, int] = field(default_factory=lambda: dict.fromkeys(Basis, 0))
    total: SideCounts = field(default_factory=SideCounts)
    #: By (month as 2026-01, modalities as CT+SR), both empty where they are not known.
    by_month: dict[tuple[str, str], SideCounts] = field(default_factory=dict)
    #: Instances in A only and in B only, and those in other bytes, as far as they were listed.
    instances_only_a: int = 0
    instances_only_b: int = 0
    other_content: int = 0
    #: Studies of which B lacks something, has something else, or nothing is known.
    not_whole_in_b: int = 0

    def add(self, compared: StudyComparison) -> None:
        """Count one study."""
        self.verdicts[compared.verdict] += 1
        self.not_whole_in_b += not compared.is_whole_in_b
        if compared.verdict is Verdict.SAME:
            self.same_by[compared.basis] += 1
        self.total.add(compared)
        month = (compared.month, compared.modalities)
        self.by_month.setdefault(month, SideCounts()).add(compared)
        for series in compared.series:
            self.instances_only_a += len(series.only_a)
            self.instances_only_b += len(series.only_b)
            self.other_content += len(series.other_content)
        # A study that one side lacks as a whole need not be listed to be counted.
        if not compared.series and compared.verdict is Verdict.ONLY_A and compared.a is not None:
            self.instances_only_a += compared.a.instances or 0
        if not compared.series and compared.verdict is Verdict.ONLY_B and compared.b is not None:
            self.instances_only_b += compared.b.instances or 0

    @property
    def is_same(self) -> bool:
        """Whether nothing differs, and nothing is unknown."""
        others = (count for verdict, count in self.verdicts.items() if verdict is not Verdict.SAME)
        return not any(others)


@dataclass(slots=True)
class SideNotes:
    """What of a side could not be compared, and what it says of itself."""

    #: Files, or studies, that could not be read: what they hold is not known.
    unreadable: int = 0
    #: Files that claim to be DICOM and are no instances.
    not_instances: int = 0
    #: It may have more than it told of, however it was asked: nothing of that was compared.
    may_have_more: bool = False
    #: Sentences, the first of each kind.
    reasons: list[str] = field(default_factory=list)

    def tell(self, reason: str) -> None:
        """Note a sentence once."""
        if reason not in self.reasons and len(self.reasons) < _MOST_REASONS:
            self.reasons.append(reason)
