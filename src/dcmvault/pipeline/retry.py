"""Retry: how often, how long to wait, and when to leave a destination alone for a while."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, field

from dcmvault.errors import AssociationLostError, DestinationError, DestinationUnreachableError
from dcmvault.ports.clock import Clock


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Attempts in all, and exponential waits with jitter between them (seconds)."""

    attempts: int = 3
    wait_s: float = 5.0
    jitter: float = 0.2
    longest_wait_s: float = 300.0

    def wait_after(self, attempt: int) -> float:
        """Return the seconds to wait after the given attempt (1 is the first)."""
        wait: float = min(self.wait_s * 2.0 ** (attempt - 1), self.longest_wait_s)
        return wait * random.uniform(1 - self.jitter, 1 + self.jitter)  # noqa: S311 - no secret


#: So many failures in a row mean that a destination is down, and for how long (seconds).
_DOWN_AFTER = 3
_RECENT_S = 600.0


@dataclass(frozen=True, slots=True)
class Answering:
    """Whether a destination answered lately; None: nobody knows. `code` says why not."""

    answers: bool | None
    code: str = ""


@dataclass(slots=True)
class CircuitBreaker:
    """Keeps work away from a destination that did not answer several times in a row.

    While it is open, attempts fail at once instead of waiting for one more time-out each.
    One per destination and process; shared by threads.
    """

    clock: Clock
    failures_to_open: int = 5
    open_s: float = 60.0
    _failures: int = 0
    _open_until: float = 0.0
    _failed_at: float = float("-inf")
    _answered: bool = False
    _answered_at: float = float("-inf")
    _last_error: DestinationError | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def is_open(self) -> bool:
        """Whether the destination should be left alone now."""
        with self._lock:
            return self._failures >= self.failures_to_open and (
                self.clock.monotonic() < self._open_until
            )

    @property
    def rest_s(self) -> float:
        """Seconds for which waiting is better than trying; 0 where nothing ever answered.

        A destination that went away in the middle (a restart) is waited for; of one that never
        answered, a wrong address say, people hear soon.
        """
        with self._lock:
            if self._failures < self.failures_to_open or not self._answered:
                return 0.0
            return max(self._open_until - self.clock.monotonic(), 0.0)

    def answering(self) -> Answering:
        """Say whether the destination lately answered, or failed often; else nobody knows."""
        with self._lock:
            since = self.clock.monotonic() - _RECENT_S
            if self._failures >= _DOWN_AFTER and self._failed_at >= since:
                return Answering(False, self._last_error.code if self._last_error else "")
            is_answering = not self._failures and self._answered_at >= since
            return Answering(True if is_answering else None)

    def refusal(self) -> DestinationError:
        """Make the error for what is not even tried: the last true one says what to mend."""
        with self._lock:
            last = self._last_error
        if last is None:
            return DestinationUnreachableError("the destination did not answer")
        if isinstance(last, AssociationLostError):
            # What was not tried was not in flight, either.
            return DestinationUnreachableError(last.message, hint=last.hint)
        return last

    def succeeded(self) -> None:
        """Note that the destination answered."""
        with self._lock:
            self._failures = 0
            self._answered = True
            self._answered_at = self.clock.monotonic()

    def failed(self, error: DestinationError) -> None:
        """Note that the destination could not be reached or went away, and why."""
        with self._lock:
            self._failures += 1
            self._failed_at = self.clock.monotonic()
            self._last_error = error
            if self._failures >= self.failures_to_open:
                self._open_until = self.clock.monotonic() + self.open_s
