"""One worker's part of limits that several workers share, leased for seconds at a time."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass

from dcmvault.errors import StateError
from dcmvault.ports.clock import Clock
from dcmvault.ports.pacing import BandwidthShares

#: How long a part is ours without asking again. So long a newcomer waits before it sends, if
#: others send: until then they may use what they had before it came.
LEASE_S = 3.0
_RENEWED_AFTER_S = LEASE_S / 3
#: So much earlier it ends for its holder, who may be about to send.
_MARGIN_S = 0.3


@dataclass(frozen=True, slots=True)
class _Lease:
    """A part of a limit, between two moments (monotonic)."""

    part: float
    begins_s: float
    asked_s: float

    def part_at(self, now_s: float) -> float:
        """Return the part that may be used."""
        return self.part if self.begins_s <= now_s < self.asked_s + LEASE_S - _MARGIN_S else 0.0


class Leases:
    """Parts of limits for one `holder`. Safe for several threads.

    All holders' parts of a limit never make more than the whole: a lease is counted from before
    it was asked for, and every other holder has asked anew before a newcomer begins.
    """

    def __init__(self, shares: BandwidthShares, holder: str, clock: Clock) -> None:
        self._shares = shares
        self._holder = holder
        self._clock = clock
        self._lock = threading.Lock()
        self._leases: dict[str, _Lease] = {}

    def part(self, limit: str) -> float:
        """Return which part of a limit may be used now, from 0 to 1. Raises StateError."""
        with self._lock:
            now_s = self._clock.monotonic()
            lease = self._leases.get(limit)
            if lease is None or now_s >= lease.asked_s + _RENEWED_AFTER_S:
                claim = self._shares.claim(limit, self._holder, LEASE_S)
                answered_s = self._clock.monotonic()
                if claim.is_new or lease is None:
                    begins_s = answered_s + (LEASE_S if claim.holders > 1 else 0.0)
                else:
                    begins_s = lease.begins_s
                lease = self._leases[limit] = _Lease(1 / claim.holders, begins_s, now_s)
                now_s = answered_s
            return lease.part_at(now_s)

    def give_back(self) -> None:
        """Use nothing any more until a part is asked for again."""
        with self._lock:
            if self._leases:
                self._leases.clear()
                # Nobody need be told: leases run out by themselves.
                with suppress(StateError):
                    self._shares.give_back(self._holder)
