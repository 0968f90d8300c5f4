"""Where samples are kept, and the figures of work that they are made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from dcmvault.model.alert import Subject
from dcmvault.model.identifiers import DestinationId, RunId
from dcmvault.model.job import JobState
from dcmvault.model.report import RunState
from dcmvault.model.sample import Sample


class SampleBook(Protocol):
    """Keeps samples: each second for an hour, each minute for a week, each hour for a year."""

    def keep_samples(self, samples: Sequence[Sample]) -> None:
        """Write many in one transaction; of the same moment, span and subject the last stays."""
        ...

    def thin_samples(self, now: datetime) -> None:
        """Make samples of minutes and hours that are over, and forget what is too old.

        Harmless however often or seldom it is called; each call's work is bounded.
        """
        ...

    def samples(
        self,
        span_s: int,
        since: datetime,
        until: datetime,
        subject: Subject | None = None,
    ) -> list[Sample]:
        """List samples of a span from `since` on and before `until`, by time and subject."""
        ...


@dataclass(frozen=True, slots=True)
class RunFigures:
    """How far an unfinished run has come at one destination."""

    run_id: RunId
    destination_id: DestinationId
    state: RunState
    scanned: int
    items: int
    settled: int
    sent: int
    bytes: int
    settled_bytes: int
    failed: int = 0


class WorkFigures(Protocol):
    """What there is to do, counted cheaply: asked each second."""

    def unfinished_runs(self) -> list[RunFigures]:
        """List runs that have not ended, once for each destination that was planned."""
        ...

    def open_jobs(self) -> Mapping[DestinationId, Mapping[JobState, int]]:
        """Count jobs that have not ended, by destination and state."""
        ...
