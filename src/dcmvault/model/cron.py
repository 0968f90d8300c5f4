"""A cron expression as sets: which minutes of which days it names."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime


@dataclass(frozen=True, slots=True)
class CronExpression:
    """The five fields of crontab(5), read. `weekdays` counts from Sunday, 0."""

    #: As it was written.
    text: str
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    #: Day of month and day of week must both match: one of these fields begins with `*`.
    #: Otherwise one of them is enough.
    both_days: bool
    #: Neither minute nor hour begins with `*`: it names times of day, not a rhythm.
    is_fixed_time: bool

    def names_day(self, day: date) -> bool:
        """Say whether it has times on a day."""
        if day.month not in self.months:
            return False
        by_month, by_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return by_month and by_week if self.both_days else by_month or by_week

    def names(self, local: datetime) -> bool:
        """Say whether it names the minute of a moment, as clocks show it."""
        return (
            local.minute in self.minutes
            and local.hour in self.hours
            and self.names_day(local.date())
        )
