"""Schedules: when a plan is due, and in which hours of the week its transfers may run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, tzinfo

from dcmvault.model.cron import CronExpression
from dcmvault.model.identifiers import RunId
from dcmvault.model.week import WeekWindow


@dataclass(frozen=True, slots=True)
class Trigger:
    """When a schedule is due: by a cron expression in a time zone, or at an interval."""

    cron: CronExpression | None
    zone: tzinfo
    #: Seconds, where there is no expression.
    every_s: int = 0


@dataclass(frozen=True, slots=True)
class WeekTable:
    """In which hours of the week transfers run: within `open` (empty: always), never in `closed`.

    Hours are those that clocks show in `zone`.
    """

    zone: tzinfo
    open: tuple[WeekWindow, ...] = ()
    closed: tuple[WeekWindow, ...] = ()

    def is_open(self, moment: datetime) -> bool:
        """Say whether transfers may run at a moment (aware)."""
        return self.is_open_at(moment.astimezone(self.zone))

    def is_open_at(self, local: datetime) -> bool:
        """Say whether transfers may run at what clocks show in `zone`."""
        if any(window.covers(local) for window in self.closed):
            return False
        return not self.open or any(window.covers(local) for window in self.open)


@dataclass(frozen=True, slots=True)
class ScheduleState:
    """What is remembered of a schedule from one start of the program to the next."""

    name: str
    #: What `next_at` was worked out from; another text means that the configuration changed.
    definition: str
    #: When it is due; None: never again.
    next_at: datetime | None
    #: What it was due for when it last began.
    last_due_at: datetime | None = None
    #: Due since then, and waiting for the end of its plan's earlier runs.
    waiting_since: datetime | None = None
    #: What somebody said with `schedule enable` or `disable`; None: as configured.
    enabled: bool | None = None


@dataclass(frozen=True, slots=True)
class ScheduledRun:
    """One source's run of a plan that was due; the sources of a plan take their turns."""

    schedule: str
    plan: str
    due_at: datetime
    position: int
    source: str
    run_id: RunId
    #: Ended, or never to begin.
    settled: bool = False
    #: Why it could not begin; empty where it could.
    problem: str = ""
