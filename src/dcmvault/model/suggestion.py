"""What recorded history says of hours of the week, and the windows that follow from it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Arrival:
    """A study that was seen for the first time, or more of it."""

    #: When its first file was written at the source, where that is known; else when it was seen.
    at: datetime
    bytes: int


@dataclass(frozen=True, slots=True)
class Transfer:
    """What one run sent to one destination."""

    began: datetime
    ended: datetime
    #: Seconds in which something was sent; waits for open hours are left out.
    busy_s: float
    bytes: int
    instances: int
    failed: int


@dataclass(frozen=True, slots=True)
class SuggestedWindow:
    """Hours in which a day's transfers do best, and why."""

    begins: datetime
    ends: datetime
    #: How long the transfers of a day like this take, by what was measured (seconds).
    expected_s: float
    #: What such a day brings.
    expected_bytes: int
    #: Studies that come in an hour of the window, and in an hour of the day, on average.
    arrivals_per_hour: float
    usual_arrivals_per_hour: float
    #: What was measured in these hours of the week; None where nothing was sent in them.
    bytes_per_second: float | None
    #: Instances that were sent in these hours, and failed.
    instances: int
    failed: int


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Windows for the coming days; none where history says too little."""

    windows: tuple[SuggestedWindow, ...]
    #: Days from the first recorded transfer until now, and runs that sent something.
    observed_days: int
    runs: int
    #: Median over the runs; 0 where nothing was sent.
    bytes_per_second: float
    studies: int
    needed_days: int
    needed_runs: int

    @property
    def is_founded(self) -> bool:
        """Whether there is enough history."""
        return self.observed_days >= self.needed_days and self.runs >= self.needed_runs
