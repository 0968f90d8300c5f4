"""Drills: studies that were restored to scratch and proven, to know that and how fast it works."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class DrilledStudy:
    """One study that was restored to scratch."""

    study_instance_uid: str
    files: int
    bytes: int
    seconds: float
    #: Why it did not come back whole; empty where every file did, byte for byte.
    problem: str = ""

    @property
    def passed(self) -> bool:
        """Whether it was proven."""
        return not self.problem


@dataclass(frozen=True, slots=True)
class Drill:
    """One drill: which studies, and how long all that there is would take."""

    #: Where they were restored from: an address without a snapshot.
    place: str
    drilled_at: datetime
    studies: tuple[DrilledStudy, ...]
    #: What the place held then; 0 where that is not known without reading all of it.
    whole_studies: int = 0
    whole_bytes: int = 0
    #: Seconds until the first study could begin: opening, and listing.
    opening_s: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether every study came back as it was."""
        return bool(self.studies) and all(study.passed for study in self.studies)

    @property
    def bytes(self) -> int:
        """Bytes of all studies that were restored."""
        return sum(study.bytes for study in self.studies)

    @property
    def seconds(self) -> float:
        """How long its studies took together."""
        return sum(study.seconds for study in self.studies)

    @property
    def recovery_s(self) -> float | None:
        """Seconds that all there is would take at this pace (an RTO); None where nobody can say."""
        if not (self.bytes and self.whole_bytes):
            return None
        return self.opening_s + self.seconds * self.whole_bytes / self.bytes
