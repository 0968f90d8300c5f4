"""How many bytes per second may pass, by the day of the week and the time of day."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from dcmvault.model.week import WeekWindow


@dataclass(frozen=True, slots=True)
class RateWindow(WeekWindow):
    """Another rate in a window of the week; without a rate it is unlimited."""

    bytes_per_second: float | None


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
