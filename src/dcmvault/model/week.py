"""Windows of a week: from a time of day to another, on the days on which they begin."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

MINUTES_PER_DAY = 24 * 60
DAYS_PER_WEEK = 7


@dataclass(frozen=True, slots=True)
class WeekWindow:
    """Some time between two times of day; it belongs to the days on which it begins.

    `days` counts from Monday, 0. Times are minutes since midnight; one that ends no later than
    it begins goes on into the next day.
    """

    days: frozenset[int]
    begin_min: int
    end_min: int

    def covers(self, local: datetime) -> bool:
        """Say whether a moment, in local time, lies in the window."""
        minute = local.hour * 60 + local.minute
        today = local.weekday()
        if self.begin_min < self.end_min:
            return today in self.days and self.begin_min <= minute < self.end_min
        if minute >= self.begin_min:
            return today in self.days
        return minute < self.end_min and (today - 1) % DAYS_PER_WEEK in self.days
