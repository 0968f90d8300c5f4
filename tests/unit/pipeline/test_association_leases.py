"""A worker's part of the associations of a destination: asked for, kept, given back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from dcmvault.app.wiring.clock import SystemClock
from dcmvault.destinations.dimse_pool import AssociationSlots
from dcmvault.pipeline.association_leases import AssociationLeases

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
        self.slots = AssociationSlots(4, SystemClock())
        self.closed = 0

    def close_idle(self) -> None:
        self.closed += 1


def _eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "the awaited condition did not come"
        time.sleep(0.01)


def test_as_many_as_are_granted_are_taken_and_the_share_is_given_back() -> None:
    shares, pacs = Shares(2), Pacs()
    leases = AssociationLeases(shares, "me")
    leases.share(pacs)
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


def test_without_others_all_may_be_taken() -> None:
    slots = AssociationSlots(2, SystemClock())
    slots.take()
    slots.take()
    assert slots.in_use == 2
    slots.give_back()
    slots.give_back()
    assert not slots.is_wanted
