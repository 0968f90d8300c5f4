"""How many bytes per second may pass, by the day of the week and the time of day."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

MINUTES_PER_DAY = 24 * 60
_DAYS_PER_WEEK = 7


@dataclass(frozen=True, slots=True)
class RateWindow:
    """Another rate between two times of day; it belongs to the days on which it begins.

    `days` counts from Monday, 0. Times are minutes since midnight; one that ends no later than
    it begins goes on into the next day. Without a rate it is unlimited.
    """

    days: frozenset[int]
    begin_min: int
    end_min: int
    bytes_per_second: float | None

    def covers(self, local: datetime) -> bool:
        """Say whether a moment, in local time, lies in the window."""
        minute = local.hour * 60 + local.minute
        today = local.weekday()
        if self.begin_min < self.end_min:
            return today in self.days and self.begin_min <= minute < self.end_min
        if minute >= self.begin_min:
            return today in self.days
        return minute < self.end_min and (today - 1) % _DAYS_PER_WEEK in self.days


@dataclass(frozen=True, slots=True)
class RateTable:
    """The usual rate and its windows, of which the first that covers a moment counts.

    A moment is looked at as local clocks show it. So an hour that they show twice counts twice,
    and a window whose beginning they leave out begins with the next minute that they show.
    """

    bytes_per_second: float | None = None
    windows: tuple[RateWindow, ...] = ()

    @property
    def is_unlimited(self) -> bool:
        """Whether there is no limit at any time."""
        rates = (self.bytes_per_second, *(window.bytes_per_second for window in self.windows))
        return all(rate is None for rate in rates)

    def rate_at(self, local: datetime) -> float | None:
        """Return bytes per second in the minute of a moment in local time; None: unlimited."""
        for window in self.windows:
            if window.covers(local):
                return window.bytes_per_second
        return self.bytes_per_second
