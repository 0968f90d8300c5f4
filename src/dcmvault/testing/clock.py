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


class SharedTime(FakeClock):
    """Time that goes on only when all of so many threads wait for it.

    Threads that share it run as if each needed no time for anything but its waits, however busy
    the machine is. A thread calls `leave` when it is done.
    """

    def __init__(self, threads: int) -> None:
        super().__init__()
        self._threads = threads
        self._until: dict[int, float] = {}
        self._changed = threading.Condition()

    def sleep(self, seconds: float) -> None:
        """Wait for so many seconds of this time."""
        me = threading.get_ident()
        with self._changed:
            self._until[me] = until = self.monotonic() + seconds
            self._go_on()
            while self.monotonic() < until:
                self._changed.wait()
            self._until.pop(me)

    def leave(self) -> None:
        """Have the others wait for one thread fewer."""
        with self._changed:
            self._threads -= 1
            self._go_on()

    def _go_on(self) -> None:
        if self._until and len(self._until) == self._threads:
            self.advance(max(0.0, min(self._until.values()) - self.monotonic()))
            self._changed.notify_all()
