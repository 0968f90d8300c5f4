"""A worker's part of the associations of a destination: asked for, kept, given back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from dcmvault.app.wiring.clock import SystemClock
from dcmvault.destinations.dimse_pool import AssociationSlots
from dcmvault.pipeline.association_leases import AssociationLeases
from dcmvault.ports.queue import StageInterruption

_PATIENCE_S = 30.0


class Shares:
    """Grants as many as it is told."""

    def __init__(self, granted: int) -> None:
        self.granted = granted
        self.claims: list[int] = []
        self.given_back = 0

    def claim(self, limit: str, holder: str, in_use: int, most: int) -> int:
        assert (limit, holder, most) == ("pacs", "me", 4)
        self.claims.append(in_use)
        return self.granted

    def give_back(self, holder: str, limit: str) -> None:
        self.given_back += 1


class Pacs:
    """A destination that counts its associations."""

    name = "pacs"

    def __init__(self) -> None:
        self.idle = 0
        self.slots = AssociationSlots(4, SystemClock(), lambda: self.idle)
        self.closed = 0

    def close_idle(self) -> None:
        self.closed += 1
        self.idle = 0


def _eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "the awaited condition did not come"
        time.sleep(0.01)


def test_as_many_as_are_granted_are_taken_and_the_share_is_given_back() -> None:
    shares, pacs = Shares(2), Pacs()
    leases = AssociationLeases(shares, "me")
    leases.share(pacs, lambda: False)
    try:
        pacs.slots.take()
        pacs.slots.take()
        third = threading.Thread(target=pacs.slots.take)
        third.start()
        _eventually(lambda: 2 in shares.claims)
        assert pacs.slots.in_use == 2
        shares.granted = 3
        third.join(_PATIENCE_S)
        assert pacs.slots.in_use == 3
        # Another worker came: what is beyond the part ends, the idle ones at once.
        shares.granted = 1
        _eventually(lambda: pacs.closed)
        for _ in range(3):
            pacs.slots.give_back()
        _eventually(lambda: shares.given_back)
    finally:
        leases.close()


def test_who_waits_for_a_share_sees_the_end_of_the_work() -> None:
    """A wait that nobody ends by a grant ends with the work, and is no failure of anything."""
    pacs, over = Pacs(), threading.Event()
    leases = AssociationLeases(Shares(0), "me")
    leases.share(pacs, over.is_set)
    met: list[BaseException] = []

    def wait() -> None:
        try:
            pacs.slots.take()
        except BaseException as error:  # noqa: BLE001 - what it is is what is asked
            met.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    try:
        _eventually(lambda: pacs.slots.is_wanted)
        over.set()
        waiting.join(_PATIENCE_S)
        assert [type(error) for error in met] == [StageInterruption]
        assert not pacs.slots.is_wanted
    finally:
        leases.close()


def test_what_is_idle_is_told_of_and_closed_before_a_share_is_given_back() -> None:
    """It is open at the peer still: another worker must not have its place."""
    shares, pacs = Shares(4), Pacs()
    pacs.idle = 2
    leases = AssociationLeases(shares, "me")
    leases.share(pacs, lambda: False)
    try:
        pacs.slots.take()
        _eventually(lambda: 3 in shares.claims)
        pacs.slots.give_back()
        _eventually(lambda: shares.given_back)
        assert pacs.closed
    finally:
        leases.close()


def test_without_others_all_may_be_taken() -> None:
    slots = AssociationSlots(2, SystemClock())
    slots.take()
    slots.take()
    assert slots.in_use == 2
    slots.give_back()
    slots.give_back()
    assert not slots.is_wanted
