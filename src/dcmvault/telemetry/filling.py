"""When a disk will be full, if it goes on as in the last hours: a straight line through samples."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from datetime import datetime, timedelta

#: The past that the line goes through, how far apart its points are, and how long it must be.
WINDOW = timedelta(hours=6)
APART = timedelta(minutes=1)
_LEAST = timedelta(minutes=10)


class Filling:
    """Free bytes of one disk, minute by minute."""

    def __init__(self, past: Iterable[tuple[datetime, float]] = ()) -> None:
        self._past: deque[tuple[datetime, float]] = deque(past)

    def observe(self, now: datetime, free: float) -> None:
        """Take in the free bytes of now, if the last look is long enough ago."""
        if self._past and now < self._past[-1][0]:
            self._past.clear()  # the clock was set back
        if not self._past or now - self._past[-1][0] >= APART:
            self._past.append((now, free))
        while self._past and now - self._past[0][0] > WINDOW:
            self._past.popleft()

    def full_in_s(self, free: float) -> float | None:
        """Return the seconds until nothing is left; None where it does not fill, or is unknown."""
        if len(self._past) < 3 or self._past[-1][0] - self._past[0][0] < _LEAST:
            return None
        begin = self._past[0][0]
        times = [(at - begin).total_seconds() for at, _free in self._past]
        values = [value for _at, value in self._past]
        mean_t, mean_v = sum(times) / len(times), sum(values) / len(values)
        spread = sum((t - mean_t) ** 2 for t in times)
        covariance = sum((t - mean_t) * (v - mean_v) for t, v in zip(times, values, strict=True))
        slope = covariance / spread  # bytes per second
        return free / -slope if slope < 0 else None
