"""Duties that come round: each is a plain function of the time, supervised beside the others.

A duty does what is due at `now` and says when it is due next:

    def look_after_schedules(now: datetime) -> datetime: ...

It holds no thread and asks no clock (times are aware UTC), so that days of duties can be run by
hand, with `Timetable.run_due(now)`, in no time. The daemon gives each duty a thread (`Loops`): a
slow one never delays another. An exception ends neither the duty nor its neighbours: it is logged,
and the duty is tried again, later each time. Whoever has a duty writes a function that makes it, in
`app`, and names it in `daemon/duties.py`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from dcmvault.ports.clock import Clock

_log = logging.getLogger(__name__)

#: Wait after the first failure of a duty; twice as long after each further one, and at most.
_RETRY = timedelta(seconds=5)
_LONGEST_RETRY = timedelta(minutes=5)
#: Seconds between looks at the clock, however far the next duty is: clocks are set, machines sleep.
_LOOK_S = 5.0
#: And between two times of a duty that is always due at once.
_BREATH_S = 0.05


@dataclass(frozen=True, slots=True)
class Duty:
    """Something to be done again and again; `perform` takes the time and returns the next due.

    What is returned and not later than `now` means: at once.
    """

    name: str
    perform: Callable[[datetime], datetime]


class _Round:
    """One duty and when it is due."""

    def __init__(self, duty: Duty) -> None:
        self.duty = duty
        #: None: at once.
        self.due: datetime | None = None
        self._failures = 0

    def is_due(self, now: datetime) -> bool:
        return self.due is None or self.due <= now

    def perform(self, now: datetime) -> datetime:
        """Do it; a failure is logged, and is the reason for the next time."""
        try:
            due = self.duty.perform(now)
            self._failures = 0
        # Outermost frame of a duty: a defect in one must never end another.
        except Exception:  # noqa: BLE001
            _log.exception("the duty “%s” failed and is tried again", self.duty.name)
            wait = min(_RETRY * 2 ** min(self._failures, 10), _LONGEST_RETRY)
            self._failures += 1
            due = now + wait
        self.due = due
        return due


class Timetable:
    """All duties, done by whoever calls: for tests and campaigns with a clock of their own."""

    def __init__(self, duties: Sequence[Duty]) -> None:
        self._rounds = [_Round(duty) for duty in duties]

    def run_due(self, now: datetime) -> datetime | None:
        """Do each duty that is due, once, in order; return when the next is due (None: no duty)."""
        for one in self._rounds:
            if one.is_due(now):
                one.perform(now)
        return min((one.due for one in self._rounds if one.due is not None), default=None)

    def hasten(self, name: str) -> None:
        """Have the duty of this name due at once; harmless where there is none."""
        for one in self._rounds:
            if one.duty.name == name:
                one.due = None


class Loops:
    """All duties, each in a thread of its own, until `stop`."""

    def __init__(self, duties: Sequence[Duty], clock: Clock) -> None:
        self._clock = clock
        self._stopping = threading.Event()
        self._threads = [_Loop(_Round(duty), clock, self._stopping) for duty in duties]

    def start(self) -> None:
        """Begin; every duty is due at once."""
        for thread in self._threads:
            thread.start()

    def hasten(self, name: str) -> None:
        """Have the duty of this name done at once, from any thread; harmless where there is none.

        While it is being done it is done once more afterwards.
        """
        for thread in self._threads:
            if thread.round.duty.name == name:
                thread.hasten()

    def stop(self, grace_s: float) -> Sequence[str]:
        """Begin no duty any more; return the names of those that outlived `grace_s` seconds."""
        self._stopping.set()
        deadline = self._clock.monotonic() + grace_s
        for thread in self._threads:
            thread.wake.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - self._clock.monotonic()))
        return [thread.round.duty.name for thread in self._threads if thread.is_alive()]


class _Loop(threading.Thread):
    """One duty's thread. A daemon thread: what it does when the process ends is done again."""

    def __init__(self, one: _Round, clock: Clock, stopping: threading.Event) -> None:
        super().__init__(name=f"dcmvault-{one.duty.name}", daemon=True)
        self.round = one
        self.wake = threading.Event()
        self._clock = clock
        self._stopping = stopping
        self._hastened = False

    def hasten(self) -> None:
        """Have it done at once."""
        self._hastened = True
        self.wake.set()

    def run(self) -> None:
        """Do the duty whenever it is due."""
        while not self._stopping.is_set():
            now = self._clock.now()
            if self._hastened or self.round.is_due(now):
                self._hastened = False
                self.round.perform(now)
            left = (self.round.due or now) - self._clock.now()
            self.wake.wait(min(max(left.total_seconds(), _BREATH_S), _LOOK_S))
            self.wake.clear()
