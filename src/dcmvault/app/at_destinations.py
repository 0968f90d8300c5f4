"""What the steps of a process share of each destination: its circuit breaker and its lanes."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from dcmvault.model.identifiers import DestinationId
from dcmvault.pipeline.concurrency import ConcurrencyController
from dcmvault.pipeline.lanes import LaneGate
from dcmvault.pipeline.retry import Answering, CircuitBreaker, RetryPolicy
from dcmvault.ports.clock import Clock
from dcmvault.ports.destination import Destination, TakesSeveral

#: How long a destination is left alone, in first waits of the retry policy, and at most.
_BREAKER_WAITS = 12
_LONGEST_REST_S = 60.0


@dataclass(frozen=True, slots=True)
class LastProbe:
    """When somebody last looked whether a destination answers, and how long that took."""

    at: datetime
    seconds: float


@dataclass(slots=True)
class Probed:
    """What was found where nobody delivers: whether destinations answer. Safe for threads."""

    _answering: dict[DestinationId, Answering] = field(default_factory=dict)
    _failures: dict[DestinationId, int] = field(default_factory=dict)
    _last: dict[DestinationId, LastProbe] = field(default_factory=dict)

    def note(self, destination_id: DestinationId, code: str, last: LastProbe | None = None) -> None:
        """Note what a probe found; `code` is empty if it answered. One failure is no news yet."""
        if last is not None:
            self._last[destination_id] = last
        failures = self._failures.get(destination_id, 0) + 1 if code else 0
        self._failures[destination_id] = failures
        answers = None if failures == 1 else not code
        self._answering[destination_id] = Answering(answers, code)

    def forget(self) -> None:
        """Forget all that was found: nobody probes any more."""
        self._answering.clear()
        self._failures.clear()

    def answering(self) -> Mapping[DestinationId, Answering]:
        """Say which destinations answered lately."""
        return dict(self._answering)

    def last(self) -> Mapping[DestinationId, LastProbe]:
        """Return the last look at each destination."""
        return dict(self._last)


@dataclass(slots=True)
class AtDestinations:
    """One circuit breaker and one gate per destination, for all jobs. Safe for threads."""

    policy: RetryPolicy
    clock: Clock
    _breakers: dict[DestinationId, CircuitBreaker] = field(default_factory=dict)
    _gates: dict[DestinationId, LaneGate] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def breaker(self, destination_id: DestinationId) -> CircuitBreaker:
        """Return the destination's circuit breaker, shared by all its jobs in this process."""
        with self._lock:
            # It rests as long as a few waits: a minute, where these are not configured.
            rest_s = min(_BREAKER_WAITS * self.policy.wait_s, _LONGEST_REST_S)
            return self._breakers.setdefault(
                destination_id, CircuitBreaker(self.clock, open_s=rest_s)
            )

    def gate(self, destination_id: DestinationId, destination: Destination) -> LaneGate | None:
        """Return what counts the deliveries at once, of a destination that takes several."""
        if not isinstance(destination, TakesSeveral):
            return None
        with self._lock:
            controller = ConcurrencyController(
                destination.first_deliveries, destination.max_deliveries
            )
            return self._gates.setdefault(destination_id, LaneGate(controller, self.clock))

    def busy_lanes(self) -> Mapping[DestinationId, int]:
        """Count the deliveries at once, of destinations that take several."""
        with self._lock:
            gates = dict(self._gates)
        return {destination_id: gate.busy for destination_id, gate in gates.items()}

    def answering(self) -> Mapping[DestinationId, Answering]:
        """Say which destinations answered lately."""
        with self._lock:
            breakers = dict(self._breakers)
        return {destination_id: one.answering() for destination_id, one in breakers.items()}
