"""Limits that somebody set for a while, kept by whoever sends: in force at once, and for no longer.

The usual limits hold beside them. Without such a limit nothing is asked and nothing is cut: a look
into a dictionary for each send.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime

from dcmvault.errors import StateError
from dcmvault.model.job import Priority
from dcmvault.model.live import Slowed
from dcmvault.ports.clock import Clock
from dcmvault.ports.live import SlowedBook
from dcmvault.ports.pacing import Pacer, Pacing
from dcmvault.ports.status import StatusCatalogue

#: Seconds between questions what is slowed: so soon it is in force everywhere.
_ASKED_EACH_S = 1.0


def slowed_by_address(
    book: SlowedBook, status: StatusCatalogue, now: datetime
) -> Mapping[str, Slowed]:
    """Return the limits in force, by the destination's address."""
    slowed = book.slowed(now)
    addresses = status.destinations() if slowed else {}
    return {addresses[key]: one for key, one in slowed.items() if key in addresses}


@dataclass(slots=True)
class Slowing:
    """The limits of now, by the destination's address. Safe for threads.

    `ask` returns those in force; `make` makes what keeps one of so many bytes per second.
    """

    ask: Callable[[datetime], Mapping[str, Slowed]]
    make: Callable[[str, float], Pacing | None]
    clock: Clock
    _limits: Mapping[str, tuple[Slowed, Pacing]] = field(default_factory=dict)
    _due_s: float = float("-inf")
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def limits(self, destination: str) -> Pacing | None:
        """Return the limit of a destination; None where it has none, or none any more."""
        if self.clock.monotonic() >= self._due_s and self._lock.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._lock.release()
        found = self._limits.get(destination)
        if found is None or found[0].until <= self.clock.now():
            return None
        return found[1]

    def _look(self) -> None:
        # Before the question: where it fails, the next sender asks in a second, not at once.
        self._due_s = self.clock.monotonic() + _ASKED_EACH_S
        # What cannot be asked now stays as it was: nobody's delivery fails by that.
        with suppress(StateError):
            known, limits = self._limits, {}
            for address, slowed in self.ask(self.clock.now()).items():
                before = known.get(address)
                if before is not None and before[0] == slowed:
                    limits[address] = before
                elif (pacing := self.make(address, slowed.bytes_per_s)) is not None:
                    limits[address] = (slowed, pacing)
            self._limits = limits


@dataclass(frozen=True, slots=True)
class SlowablePacing:
    """Implements `ports.pacing.Pacing`: the usual limits, and what is set for a while."""

    slowing: Slowing
    destination: str
    usual: Pacing

    def pacer(self, priority: Priority) -> Pacer:
        """Return what paces work of this priority."""
        return _SlowablePacer(self, self.usual.pacer(priority), lambda one: one.pacer(priority))

    def joint_pacer(self) -> Pacer:
        """Return what paces bytes that belong to several deliveries."""
        return _SlowablePacer(self, self.usual.joint_pacer(), lambda one: one.joint_pacer())

    def at_work(self, priority: Priority) -> AbstractContextManager[None]:
        """Say that a delivery of this priority is at work, until the context is left."""
        return self._at_work(priority)

    @contextmanager
    def _at_work(self, priority: Priority) -> Iterator[None]:
        with ExitStack() as stack:
            stack.enter_context(self.usual.at_work(priority))
            if (limits := self.slowing.limits(self.destination)) is not None:
                stack.enter_context(limits.at_work(priority))
            yield


@dataclass(frozen=True, slots=True)
class _SlowablePacer:
    of: SlowablePacing
    usual: Pacer
    pacer_of: Callable[[Pacing], Pacer]

    @property
    def piece(self) -> int:
        slow = self._slow()
        return self.usual.piece if slow is None else min(self.usual.piece, slow.piece)

    def take(self, size: int) -> None:
        while size > 0:
            slow = self._slow()
            if slow is None:
                self.usual.take(size)
                return
            # Piece by piece: it may begin, change or end while much is waiting to pass.
            part = min(size, slow.piece)
            slow.take(part)
            self.usual.take(part)
            size -= part

    def _slow(self) -> Pacer | None:
        limits = self.of.slowing.limits(self.of.destination)
        return None if limits is None else self.pacer_of(limits)
