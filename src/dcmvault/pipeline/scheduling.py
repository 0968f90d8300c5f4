"""When a schedule is due next: a pure function of its trigger and the time."""

from __future__ import annotations

from datetime import datetime, timedelta

from dcmvault.model.schedule import Trigger
from dcmvault.pipeline.cron import next_fire


def next_due(trigger: Trigger, now: datetime, last: datetime | None = None) -> datetime | None:
    """Return the first due time after `now`, in UTC; None for none.

    An interval keeps its rhythm from `last`, when it was last due, however many times were missed;
    without one it begins now.
    """
    if trigger.cron is not None:
        return next_fire(trigger.cron, now, trigger.zone)
    every = timedelta(seconds=trigger.every_s)
    if last is None or last > now:
        return now + every
    return last + ((now - last) // every + 1) * every
