"""Waits that grow with every failed login: guessing becomes slow, and nobody is locked out."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

#: After so long without a failure all is forgotten.
_MEMORY = timedelta(days=1)
_MOST_KEPT = 10_000


class Scope(StrEnum):
    """Of what failures are counted."""

    ACCOUNT = "account"
    ADDRESS = "address"
    #: A browser that was logged in with this account before: what others do is not held against it.
    DEVICE = "device"


#: Failures without a wait, and the longest wait in seconds.
_LIMITS = {Scope.ACCOUNT: (4, 300.0), Scope.ADDRESS: (19, 60.0), Scope.DEVICE: (4, 300.0)}

#: What is counted: a scope, and which one of it.
Counted = tuple[Scope, str]


@dataclass(slots=True)
class _Failures:
    count: int
    last_at: datetime


class LoginThrottle:
    """Counts failures in this process; safe for several threads.

    An attempt counts as failed while it is made: a hundred at once gain nothing.
    """

    def __init__(self) -> None:
        self._failures: dict[Counted, _Failures] = {}
        self._lock = threading.Lock()

    def attempt(self, counted: Iterable[Counted], now: datetime) -> float:
        """Begin an attempt; return 0, or the seconds to wait before one is made at all."""
        counted = tuple(counted)
        with self._lock:
            self._forget(now)
            waits = max(self._wait_s(one, now) for one in counted)
            if waits <= 0:
                for one in counted:
                    known = self._failures.pop(one, None)
                    # Last in the order, which is by time.
                    self._failures[one] = _Failures(known.count + 1 if known else 1, now)
        return max(waits, 0.0)

    def succeeded(self, counted: Iterable[Counted]) -> None:
        """Take back what an attempt counted; failures of the account and browser are forgotten."""
        with self._lock:
            for one in counted:
                known = self._failures.get(one)
                if known is None:
                    continue
                known.count -= 1
                # One account that is known does not pay for guesses at the others.
                if one[0] is not Scope.ADDRESS or known.count <= 0:
                    del self._failures[one]

    def _wait_s(self, one: Counted, now: datetime) -> float:
        known = self._failures.get(one)
        if known is None:
            return 0.0
        free, longest = _LIMITS[one[0]]
        over = known.count - free
        wait = min(2.0 ** min(over - 1, 20), longest) if over > 0 else 0.0
        return wait - (now - known.last_at).total_seconds()

    def _forget(self, now: datetime) -> None:
        for one, known in list(self._failures.items()):
            if len(self._failures) <= _MOST_KEPT and now - known.last_at < _MEMORY:
                break
            del self._failures[one]
