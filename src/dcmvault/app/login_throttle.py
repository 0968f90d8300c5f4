"""Waits that grow with every failed login: guessing becomes slow, and nobody is locked out."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from dcmvault.ports.clock import Clock
from dcmvault.ports.login_failures import KeptFailures, LoginFailureBook

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
    """Counts failures, and keeps them for the next start; safe for several threads.

    An attempt counts as failed while it is made: a hundred at once gain nothing, nor does who makes
    the daemon end before it was found to be wrong.
    """

    def __init__(self, book: LoginFailureBook, clock: Clock) -> None:
        self._book = book
        self._clock = clock
        #: In the order of time. None until they were read.
        self._failures: dict[bytes, _Failures] | None = None
        self._lock = threading.Lock()

    def attempt(self, counted: Iterable[Counted]) -> float:
        """Begin an attempt; return 0, or the seconds to wait before one is made at all."""
        counted, now = tuple(counted), self._clock.now()
        with self._lock:
            failures = self._known(now)
            waits = max(_wait_s(failures.get(_digest(one)), one[0], now) for one in counted)
            if waits > 0:
                return waits
            changed = []
            for one in counted:
                known = failures.pop(_digest(one), None)
                # Last in the order, which is by time.
                failures[_digest(one)] = _Failures(known.count + 1 if known else 1, now)
                changed.append(_digest(one))
            self._put(failures, changed)
        return 0.0

    def succeeded(self, counted: Iterable[Counted]) -> None:
        """Take back what an attempt counted; failures of the account and browser are forgotten."""
        with self._lock:
            failures, changed = self._known(self._clock.now()), []
            for one in counted:
                known = failures.get(_digest(one))
                if known is None:
                    continue
                known.count -= 1
                # One account that is known does not pay for guesses at the others.
                if one[0] is not Scope.ADDRESS or known.count <= 0:
                    del failures[_digest(one)]
                changed.append(_digest(one))
            self._put(failures, changed)

    def _known(self, now: datetime) -> dict[bytes, _Failures]:
        """Return what failed, without what is forgotten by now."""
        if self._failures is None:
            kept = self._book.failures(now - _MEMORY, _MOST_KEPT)
            self._failures = {one.digest: _Failures(one.count, one.last_at) for one in kept}
        gone: list[bytes] = []
        for digest, known in self._failures.items():
            if len(self._failures) - len(gone) <= _MOST_KEPT and now - known.last_at < _MEMORY:
                break
            gone.append(digest)
        for digest in gone:
            del self._failures[digest]
        if gone:
            self._put(self._failures, gone)
        return self._failures

    def _put(self, failures: Mapping[bytes, _Failures], changed: Sequence[bytes]) -> None:
        nothing = _Failures(0, self._clock.now())
        told = [(digest, failures.get(digest, nothing)) for digest in changed]
        self._book.put([KeptFailures(digest, one.count, one.last_at) for digest, one in told])


def _wait_s(known: _Failures | None, scope: Scope, now: datetime) -> float:
    if known is None:
        return 0.0
    free, longest = _LIMITS[scope]
    over = known.count - free
    wait = min(2.0 ** min(over - 1, 20), longest) if over > 0 else 0.0
    # A clock that was set back makes nobody wait longer than that.
    return min(wait - (now - known.last_at).total_seconds(), wait)


def _digest(one: Counted) -> bytes:
    """Return what is kept of who tried: what was typed may be a password."""
    scope, which = one
    return hashlib.sha256(f"{scope.value}\0{which}".encode("utf-8", "surrogatepass")).digest()
