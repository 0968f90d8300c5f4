"""The matrix of studies and destinations: what is asked of it, and what stands in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum

from dcmvault.model.evidence import Level


class Coverage(IntEnum):
    """How a study stands, at one destination or at all that should have it; worst first."""

    #: Evidence says that copies are damaged or missing.
    DAMAGED = 0
    #: Nothing is held by evidence; a receipt alone is a claim.
    NOT = 1
    #: Not all of it, or not everywhere.
    PARTLY = 2
    #: All that the sources have now is held, at every destination that they are sent to.
    PROTECTED = 3
    #: No source has any of it any more.
    GONE = 4
    #: Not to be backed up, because somebody said so; none of its copies is known to be damaged.
    EXCLUDED = 5

    @property
    def word(self) -> str:
        """The word that stands in addresses and files."""
        return self.name.lower()

    @classmethod
    def from_word(cls, word: str) -> Coverage:
        """Read the word; KeyError for another one."""
        return cls[word.upper()]


class StudyOrder(StrEnum):
    """What studies are sorted by; equal ones by when they were seen first."""

    DATE = "date"
    NAME = "name"
    STATE = "state"
    SIZE = "size"


@dataclass(frozen=True, slots=True)
class StudyQuery:
    """Which studies are meant; what is empty leaves none out.

    Several values of one kind are alternatives.
    """

    #: Words that all stand in the patient's name or ID, the accession number, the description or
    #: the Study Instance UID; neither case nor accents count.
    text: str = ""
    modalities: tuple[str, ...] = ()
    #: Study Dates from and to, both included, as eight digits.
    first_date: str = ""
    last_date: str = ""
    #: Canonical addresses.
    sources: tuple[str, ...] = ()
    #: What is said of states and levels is then about copies there, and studies that neither
    #: should be nor are there are left out.
    destination: str = ""
    states: tuple[Coverage, ...] = ()
    #: The least level of all copies is at least this, or is below it.
    level_at_least: Level | None = None
    level_below: Level | None = None
    #: Under legal hold in a vault, or not; None: either.
    held: bool | None = None
    #: Study Instance UIDs.
    studies: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether it means every study."""
        return self == StudyQuery()


@dataclass(frozen=True, slots=True)
class StudyPlace:
    """Where a page begins: behind or before a study that was shown. Says nothing of the patient."""

    study_key: int
    #: What it was sorted by, where that is a number: it may have changed since.
    value: int | None = None
    before: bool = False


@dataclass(frozen=True, slots=True)
class CopyCounts:
    """A study at one destination; counts are of instance versions.

    `expected` is what sources that are sent there have now, and for a study that is gone what was
    ever sent.
    """

    destination: str
    state: Coverage
    #: The least of all that is expected; NONE where one of them is not there.
    level: Level
    expected: int
    held: int  #: by evidence
    unverified: int  #: a receipt alone
    missing: int
    damaged: int
    coerced: int  #: held, but for attributes that the destination writes itself
    by_level: Mapping[Level, int]
    #: When the oldest evidence was given on which `held` stands.
    oldest_evidence_at: datetime | None


@dataclass(frozen=True, slots=True)
class StudyLine:
    """One study of the matrix. It has patient data."""

    study_key: int
    study_instance_uid: str
    patient_name: str
    patient_id: str
    accession_number: str
    study_description: str
    study_date: str
    modalities: tuple[str, ...]
    #: Addresses of the sources that have it now.
    sources: tuple[str, ...]
    state: Coverage
    level: Level
    series: int
    instances: int
    bytes: int
    unreadable: int  #: entries that could not be read at the last pass
    #: Addresses of the vaults that keep it under legal hold.
    held_in: tuple[str, ...]
    #: By the destination's address; where it neither should be nor is, there is none.
    copies: Mapping[str, CopyCounts]
    #: When this was counted; something changed since if `is_changing`.
    counted_at: datetime
    is_changing: bool = False
    #: Whether somebody said that it is not to be backed up, whatever its state.
    is_excluded: bool = False


@dataclass(frozen=True, slots=True)
class StudyPage:
    """Some studies in order, and how many there are in all."""

    lines: tuple[StudyLine, ...]
    #: What matches, by state: also of the states that were not asked for.
    by_state: Mapping[Coverage, int]
    total: int
    #: Studies that changed and are still to be counted.
    uncounted: int
    previous: StudyPlace | None = None
    next: StudyPlace | None = None


@dataclass(frozen=True, slots=True)
class MatchedStudies:
    """What a query means, in numbers."""

    studies: int = 0
    instances: int = 0
    bytes: int = 0
    #: Studies by the address of the source that has them, and by that of the destination that
    #: holds any of them.
    by_source: Mapping[str, int] = field(default_factory=dict)
    by_destination: Mapping[str, int] = field(default_factory=dict)


#: The account of views that everybody sees; no account has this name.
SHARED = ""


@dataclass(frozen=True, slots=True)
class SavedView:
    """A query under a name, as one account saved it: how it is asked, and what is shown."""

    account: str
    name: str
    #: The parameters of the page's address.
    query: str
    #: How the columns differ from those that are shown at first; words without spaces.
    columns: tuple[str, ...] = ()
