"""A clock that moves only when told to."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta


class FakeClock:
    """A `ports.clock.Clock` for tests: starts at `start`, and stands still. Thread-safe."""

    def __init__(self, start: datetime = datetime(2026, 1, 31, 2, 0, tzinfo=UTC)) -> None:
        if start.utcoffset() != timedelta(0):
            message = "a clock starts at an aware UTC datetime"
            raise ValueError(message)
        self._lock = threading.Lock()
        self._now = start
        self._monotonic = 0.0

    def now(self) -> datetime:
        """Return the time it was set to."""
        with self._lock:
            return self._now

    def monotonic(self) -> float:
        """Return the seconds advanced so far; setting the time backwards does not touch it."""
        with self._lock:
            return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let `seconds` (not negative) pass."""
        if seconds < 0:
            message = "time does not run backwards; use set_now for a corrected wall clock"
            raise ValueError(message)
        with self._lock:
            self._now += timedelta(seconds=seconds)
            self._monotonic += seconds

    def set_now(self, now: datetime) -> None:
        """Correct the wall clock, backwards too, as an operator or NTP would."""
        with self._lock:
            self._now = now
