"""What many runs did, and how evidence stands after them: for reports over a time or a place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import RunId
from dcmvault.model.report import Counts, DestinationReport, RunState


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run, with its parts at destinations (only the asked one's, if one was asked for)."""

    run_id: RunId
    kind: str
    source: str
    strategy: str
    state: RunState
    started_at: datetime
    finished_at: datetime | None
    exit_status: int
    #: Studies that were due.
    studies: int
    parts: tuple[DestinationReport, ...]
    #: Seconds by stage, of the run as a whole.
    stages: Mapping[str, float]

    @property
    def counts(self) -> Counts:
        """Counts summed over destinations."""
        return sum((part.counts for part in self.parts), Counts())

    @property
    def transferred_bytes(self) -> int:
        """Bytes that destinations took."""
        return sum(part.transferred_bytes for part in self.parts)

    @property
    def duration_s(self) -> float | None:
        """Seconds from start to end; None while it runs."""
        if self.finished_at is None:
            return None
        return max((self.finished_at - self.started_at).total_seconds(), 0.0)

    @property
    def bytes_per_s(self) -> float | None:
        """Bytes that destinations took, by the second of the run; None where that says nothing."""
        seconds = self.duration_s
        return self.transferred_bytes / seconds if seconds and self.transferred_bytes else None


@dataclass(frozen=True, slots=True)
class EvidenceRow:
    """How evidence of one source's instances stands at one destination, now."""

    source: str
    destination: str
    studies: int
    #: Studies of which every instance is held by evidence.
    studies_protected: int
    instances: int
    #: Instances by the strongest evidence (or claim) of them.
    by_level: Mapping[Level, int]
    oldest_evidence_at: datetime | None

    @property
    def held(self) -> int:
        """Instances with evidence."""
        return sum(count for level, count in self.by_level.items() if level > Level.SENT)

    @property
    def claimed(self) -> int:
        """Instances that were sent, and nothing else is known of."""
        return self.by_level.get(Level.SENT, 0)


@dataclass(frozen=True, slots=True)
class CauseRow:
    """How often one cause kept instances from their level, at one destination."""

    destination: str
    code: str
    status: str
    instances: int
    runs: int


@dataclass(frozen=True, slots=True)
class PeriodReport:
    """What happened in a time."""

    #: None: since the first run.
    since: datetime | None
    until: datetime
    made_at: datetime
    #: None: all destinations.
    destination: str | None
    #: By their start, oldest first.
    runs: tuple[RunRow, ...]
    #: Different studies that were due.
    studies: int
    evidence: tuple[EvidenceRow, ...]
    #: Most frequent first.
    causes: tuple[CauseRow, ...]

    @property
    def counts(self) -> Counts:
        """Counts summed over runs and destinations."""
        return sum((run.counts for run in self.runs), Counts())

    @property
    def transferred_bytes(self) -> int:
        """Bytes that destinations took."""
        return sum(run.transferred_bytes for run in self.runs)

    @property
    def source_bytes(self) -> int:
        """Bytes of what was due, as they are at the source, once for each destination."""
        return sum(part.source_bytes for run in self.runs for part in run.parts)

    @property
    def bytes_per_s(self) -> float | None:
        """Bytes that destinations took by the second of runs that took any."""
        timed = [run for run in self.runs if run.bytes_per_s is not None]
        seconds = sum(run.duration_s or 0.0 for run in timed)
        return sum(run.transferred_bytes for run in timed) / seconds if seconds else None

    @property
    def success(self) -> float | None:
        """The share of instances that were due and reached their level; None of none."""
        counts = self.counts
        due = max(counts.selected, counts.stored + counts.short)
        return counts.stored / due if due else None
