"""A limit for a while: in force at once, beside the usual ones, and over by itself."""

from __future__ import annotations

from datetime import datetime, timedelta

from dcmvault.errors import StateError
from dcmvault.model.bandwidth import RateTable
from dcmvault.model.job import Priority
from dcmvault.model.live import Slowed
from dcmvault.pipeline.bandwidth import Bandwidth
from dcmvault.pipeline.metered_pacing import MeteredPacing
from dcmvault.pipeline.slowing import SlowablePacing, Slowing
from dcmvault.ports.pacing import Pacing
from dcmvault.telemetry.meter import ByteMeter
from dcmvault.testing.clock import FakeClock

PLACE = "vault:/copies"


class Machine:
    """A process that sends to one place, and a book in which others write."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.book: dict[str, Slowed] = {}
        self.broken = False
        self.meter = ByteMeter()
        slowing = Slowing(self._ask, self._make, self.clock)
        self.pacing = SlowablePacing(slowing, PLACE, MeteredPacing(self.meter, PLACE, None))

    def _ask(self, now: datetime) -> dict[str, Slowed]:
        if self.broken:
            raise StateError("the catalogue cannot be read")
        return {place: one for place, one in self.book.items() if one.until > now}

    def _make(self, address: str, bytes_per_s: float) -> Pacing | None:
        bandwidth = Bandwidth(RateTable(), self.clock, self.clock.advance)
        return bandwidth.pacing(address, RateTable(bytes_per_s))

    def slow(self, bytes_per_s: float, seconds: float) -> None:
        self.book[PLACE] = Slowed(bytes_per_s, self.clock.now() + timedelta(seconds=seconds))
        self.clock.advance(1.1)

    def seconds_for(self, size: int) -> float:
        """Send so much, and return how long it took."""
        began = self.clock.monotonic()
        pacer = self.pacing.pacer(Priority.NORMAL)
        with self.pacing.at_work(Priority.NORMAL):
            pacer.take(size)
        return self.clock.monotonic() - began


def test_without_a_limit_nothing_is_cut_or_waited_for() -> None:
    machine = Machine()
    assert machine.pacing.pacer(Priority.NORMAL).piece > 1 << 28
    assert machine.seconds_for(1 << 30) == 0
    assert machine.meter.totals() == {PLACE: 1 << 30}


def test_a_limit_holds_and_ends_by_itself() -> None:
    machine = Machine()
    machine.slow(1_000_000, 60)
    assert 9 < machine.seconds_for(10_000_000) <= 10.1
    assert machine.pacing.joint_pacer().piece < 1 << 20
    machine.clock.advance(60)
    assert machine.seconds_for(1 << 30) == 0
    assert machine.meter.totals() == {PLACE: 10_000_000 + (1 << 30)}


def test_what_waits_when_it_ends_waits_no_longer() -> None:
    """Much that is taken at once is let go piece by piece."""
    machine = Machine()
    machine.slow(1_000_000, 11.1)
    assert 9 < machine.seconds_for(1 << 30) < 12


def test_it_can_be_changed_and_lifted_meanwhile() -> None:
    machine = Machine()
    machine.slow(1_000_000, 3600)
    machine.seconds_for(1_000_000)
    machine.slow(10_000_000, 3600)
    assert machine.seconds_for(10_000_000) < 1.1
    del machine.book[PLACE]
    machine.clock.advance(1.1)
    assert machine.seconds_for(1 << 30) == 0


def test_a_book_that_cannot_be_read_fails_no_delivery() -> None:
    """What was known stays in force until its time."""
    machine = Machine()
    machine.slow(1_000_000, 60)
    machine.seconds_for(1_000_000)
    machine.broken = True
    machine.clock.advance(2)
    assert machine.seconds_for(5_000_000) > 4
    machine.clock.advance(60)
    assert machine.seconds_for(1 << 30) == 0
