"""What is remembered of schedules, of the runs that they asked for, and of held queues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from dcmvault.model.identifiers import DestinationId, RunId
from dcmvault.model.schedule import ScheduledRun, ScheduleState


class ScheduleBook(Protocol):
    """Schedules from one start of the program to the next; names are those of the configuration."""

    def schedules(self) -> Mapping[str, ScheduleState]:
        """Return what is remembered, by name."""
        ...

    def define(self, name: str, definition: str, next_at: datetime | None) -> None:
        """Write down when a new or changed schedule is due; what waited of it is forgotten."""
        ...

    def set_enabled(self, name: str, *, enabled: bool, next_at: datetime | None) -> None:
        """Keep what somebody said of a schedule that was defined, and when it is due next."""
        ...

    def wait(self, name: str, due_at: datetime, next_at: datetime | None) -> None:
        """Note that it was due while its plan ran; the earliest such time is kept."""
        ...

    def claim(
        self, before: ScheduleState, next_at: datetime | None, runs: Sequence[ScheduledRun]
    ) -> bool:
        """Write down at once that it began and when it is due next.

        False, and nothing is written, where another process changed it since `before`.
        """
        ...

    def open_runs(self) -> Sequence[ScheduledRun]:
        """List runs that are not settled, in the order in which they are to begin."""
        ...

    def update_run(self, run: ScheduledRun) -> None:
        """Write a run's `run_id`, `settled` and `problem`; it is found by schedule, time, place."""
        ...

    def last_runs(self, name: str, limit: int) -> Sequence[ScheduledRun]:
        """List the runs of a schedule, newest first."""
        ...


class HoldState(StrEnum):
    """Who has the say over the queue of a destination in its closed hours."""

    #: The window: it is resumed when they end.
    HELD = "held"
    #: Somebody took it up in spite of them.
    LIFTED = "lifted"
    #: Somebody paused it, before or in them: no window takes it up again.
    USERS = "users"


class QueueHolds(Protocol):
    """Which destinations have closed hours now."""

    def holds(self) -> Mapping[DestinationId, HoldState]:
        """Return all, by destination."""
        ...

    def set_hold(self, destination_id: DestinationId, state: HoldState | None) -> None:
        """Write a destination's state; None where no hours are closed."""
        ...


class UnfinishedRuns(Protocol):
    """Which runs have not ended."""

    def unfinished(self) -> Sequence[RunId]:
        """List their names, oldest first."""
        ...
