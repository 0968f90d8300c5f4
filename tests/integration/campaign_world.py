"""Days of a practice in seconds: a clock that is set, the daemon's duties, peers that go down."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from dcmvault.app.monitoring import Monitoring
from dcmvault.app.monitoring_thread import MonitoringThread
from dcmvault.app.wiring.workplace import Workplace
from dcmvault.config.settings import Settings
from dcmvault.daemon.loops import Timetable

#: When something happens, and what.
Event = tuple[datetime, Callable[[], None]]
#: Duties are called so often, at whole steps of the clock; the daemon does it more often.
STEP = timedelta(hours=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LOOK_S = 0.05
#: Nothing that a day brings takes so long.
_LONGEST_S = 120.0


class SetClock:
    """A wall clock that is set; what it was set forward by has passed, and so has real time."""

    def __init__(self, start: datetime, *, goes_on: bool = False) -> None:
        self._now, self._set_at = start, time.monotonic()
        self._passed_s = 0.0
        self._goes_on = goes_on

    def now(self) -> datetime:
        """Return the time it was set to; a clock that goes on adds what passed since."""
        passed = time.monotonic() - self._set_at if self._goes_on else 0.0
        return self._now + timedelta(seconds=passed)

    def monotonic(self) -> float:
        """Return the seconds that passed."""
        return self._passed_s + time.monotonic()

    def set_now(self, now: datetime) -> None:
        """Set it."""
        self._passed_s += max((now - self._now).total_seconds(), 0.0)
        self._now, self._set_at = now, time.monotonic()


class WatchingDuty(MonitoringThread):
    """What monitors a process that works, as a duty: it looks when it is called."""

    _settings_of_now: Settings | None = None
    _monitoring: Monitoring | None = None

    def __call__(self, now: datetime) -> datetime:
        """Look once; anew by settings that are others."""
        settings = self._settings()
        if self._monitoring is None or settings is not self._settings_of_now:
            if self._monitoring is not None:
                self._monitoring.end(now)
            self._settings_of_now, self._monitoring = settings, self.monitoring(settings)
        return self._monitoring.look(now)

    def start(self) -> None:
        """Begin: the first look comes when it is called."""

    def stop(self) -> None:
        """End, as the thread does."""
        if self._monitoring is not None:
            self._monitoring.end(self._clock.now())


@dataclass(slots=True)
class Days:
    """Lets time go on from one due duty to the next, and waits until the work rests."""

    workplace: Workplace
    clock: SetClock
    timetable: Timetable
    #: Duties that follow the work: whenever it rests they are due.
    following: Collection[str]
    #: What happens at a time: moments and deeds, in order.
    events: list[Event] = field(default_factory=list)
    #: Between these nothing is called: the machine sleeps.
    asleep: tuple[datetime, datetime] | None = None

    def until(self, end: datetime) -> None:
        """Go on to `end`, and do what is due there."""
        self._perform(self.clock.now())
        while (now := self.clock.now()) < end:
            following = min(now - (now - _EPOCH) % STEP + STEP, end)
            if self.events:
                following = min(following, self.events[0][0])
            if self.asleep is not None and self.asleep[0] <= following < self.asleep[1]:
                following = self.asleep[1]
            self.clock.set_now(following)
            while self.events and self.events[0][0] <= following:
                self.events.pop(0)[1]()
            self._perform(following)

    def _perform(self, now: datetime) -> None:
        """Do what is due until nothing is left to do at this moment."""
        while True:
            before = self._open()
            for name in self.following:
                self.timetable.hasten(name)
            self.timetable.run_due(now)
            if not self._rest() and before == self._open():
                return

    def _open(self) -> tuple[object, ...]:
        catalogue = self.workplace.catalogue
        return (*catalogue.schedules.open_runs(), *catalogue.unfinished.unfinished())

    def _rest(self) -> bool:
        """Wait until no run goes on, or all that is left is held; say whether it was waited."""
        catalogue, queue = self.workplace.catalogue, self.workplace.queue
        waited = False
        deadline = time.monotonic() + _LONGEST_S
        while unfinished := catalogue.unfinished.unfinished():
            paused = {
                one.destination_id for one in queue.queues() if one.paused and not one.running
            }
            jobs = catalogue.runs.jobs()
            planned = all(catalogue.runs.run(one).planned_at for one in unfinished)
            waits = {job.run_id for job in jobs if job.destination_id in paused}
            goes_on = any(job.destination_id not in paused for job in jobs)
            if planned and not goes_on and waits >= set(unfinished):
                break
            assert time.monotonic() < deadline, (unfinished, jobs)
            waited = True
            time.sleep(_LOOK_S)
        # A slow mail server is not waited for by the duty, but by time.
        while any(one.name.startswith("tell-") for one in threading.enumerate()):
            assert time.monotonic() < deadline
            time.sleep(_LOOK_S)
        return waited


class Gate:
    """A port before a peer, which can be shut: then every connection ends at once."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._shut = threading.Event()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._threads: list[threading.Thread] = []

    def shut(self) -> None:
        """Have the peer be down."""
        self._shut.set()
        for pair in self._pairs:
            for one in pair:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
        self._pairs.clear()

    def open(self) -> None:
        """Have the peer be up again."""
        self._shut.clear()

    def serve(self) -> None:
        """Hand connections on until the port is closed."""
        while True:
            try:
                near, _address = self._listening.accept()
            except OSError:
                return
            if self._shut.is_set():
                near.close()
                continue
            far = socket.create_connection(self._target)
            self._pairs.append((near, far))
            thread = threading.Thread(target=_join, args=(near, far), daemon=True)
            self._threads.append(thread)
            thread.start()

    def close(self) -> None:
        """Close the port and all connections."""
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.shut()
        for thread in self._threads:
            thread.join()


def _join(near: socket.socket, far: socket.socket) -> None:
    """Hand on both ways until both have ended."""
    with near, far:
        back = threading.Thread(target=_hand_on, args=(far, near), daemon=True)
        back.start()
        _hand_on(near, far)
        back.join()


def _hand_on(one: socket.socket, other: socket.socket) -> None:
    with suppress(OSError):
        while piece := one.recv(65_536):
            other.sendall(piece)
    for each in (one, other):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


@contextmanager
def gate(host: str, port: int) -> Iterator[Gate]:
    """Put a gate before a peer."""
    made = Gate(host, port)
    thread = threading.Thread(target=made.serve, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.close()
        thread.join()
