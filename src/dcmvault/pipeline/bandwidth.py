"""Bandwidth: limits of all destinations together and of each, kept by whoever sends at once."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime

from dcmvault.model.bandwidth import RateTable
from dcmvault.model.job import Priority
from dcmvault.pipeline.bandwidth_leases import Leases
from dcmvault.pipeline.bandwidth_line import Bucket, Line, Turn
from dcmvault.ports.clock import Clock
from dcmvault.ports.pacing import Pacer, Pacing

#: Limits of a single wait, in seconds: nobody oversleeps a change, and nobody spins.
_LONGEST_WAIT_S = 0.1
_SHORTEST_WAIT_S = 0.001
#: How the limit for all destinations is called where workers share it.
_ALL = ""


def _as_shown_here(moment: datetime) -> datetime:
    """Return a moment as this machine's clock shows it."""
    return moment.astimezone()


class Bandwidth:
    """The limits of one process. Safe for all its threads.

    `overall` limits all destinations together. `leases` where other processes share the limits:
    then each has an equal part. `sleep` takes seconds, and may end early.
    """

    def __init__(
        self,
        overall: RateTable,
        clock: Clock,
        sleep: Callable[[float], object],
        *,
        leases: Leases | None = None,
        local: Callable[[datetime], datetime] = _as_shown_here,
    ) -> None:
        self._overall = overall
        self._clock = clock
        self._sleep = sleep
        self._leases = leases
        self._local = local
        self._lock = threading.Lock()
        self._line = Line(Bucket(overall))
        self._buckets: dict[str, Bucket] = {}
        self._at_work: dict[Bucket, Counter[Priority]] = defaultdict(Counter)

    def pacing(self, destination: str, table: RateTable) -> Pacing | None:
        """Return the limits of a destination by its address; None where there is never any.

        Asked again, it gives the same limits, whatever the table.
        """
        if self._overall.is_unlimited and table.is_unlimited:
            return None
        with self._lock:
            bucket = self._buckets.setdefault(destination, Bucket(table))
        limited = ((_ALL, self._overall), (destination, table))
        return _Limits(
            self, bucket, tuple(name for name, rates in limited if not rates.is_unlimited)
        )

    def limit_all(self, overall: RateTable) -> None:
        """Let another limit for all destinations together hold from now on.

        Limits of destinations that were given out while there was none are to be asked for again.
        """
        with self._lock:
            self._overall = overall
            self._line.overall.follow(overall)

    def give_back(self) -> None:
        """Leave the limits to other processes: nothing is sent for now."""
        if self._leases is not None:
            self._leases.give_back()

    def piece(self, bucket: Bucket) -> int:
        """Return the bytes to ask for at a time."""
        with self._lock:
            now = self._now()
            self._line.overall.fill(*now)
            bucket.fill(*now)
            return min(self._line.overall.piece, bucket.piece)

    def pass_by(self, turn: Turn, limits: tuple[str, ...]) -> None:
        """Return when it is this turn."""
        with self._lock:
            self._line.join(turn)
        try:
            while not turn.is_granted:
                parts = self._parts(limits)
                with self._lock:
                    self._line.overall.share = parts.get(_ALL, 1.0)
                    turn.bucket.share = min(
                        (part for name, part in parts.items() if name != _ALL), default=1.0
                    )
                    wait_s = self._line.serve(*self._now())
                if not turn.is_granted:
                    self._sleep(min(max(wait_s, _SHORTEST_WAIT_S), _LONGEST_WAIT_S))
        finally:
            with self._lock:
                self._line.leave(turn)

    @contextmanager
    def at_work(self, bucket: Bucket, priority: Priority) -> Iterator[None]:
        """Count a delivery of this priority while it is at work."""
        with self._lock:
            self._at_work[bucket][priority] += 1
        try:
            yield
        finally:
            with self._lock:
                self._at_work[bucket][priority] -= 1

    def most_urgent(self, bucket: Bucket) -> Priority:
        """Return the highest priority at work."""
        with self._lock:
            at_work = self._at_work[bucket]
            return max((each for each in at_work if at_work[each]), default=Priority.NORMAL)

    def _parts(self, limits: tuple[str, ...]) -> dict[str, float]:
        """Return which part of each limit is ours; asked without the lock, as it may take time."""
        if self._leases is None:
            return {}
        return {name: self._leases.part(name) for name in limits}

    def _now(self) -> tuple[float, datetime]:
        return self._clock.monotonic(), self._local(self._clock.now())


@dataclass(frozen=True, slots=True)
class _Limits:
    bandwidth: Bandwidth
    bucket: Bucket
    #: By name, those that are limits.
    names: tuple[str, ...]

    def pacer(self, priority: Priority) -> Pacer:
        return _Pacer(self, lambda: priority)

    def joint_pacer(self) -> Pacer:
        return _Pacer(self, lambda: self.bandwidth.most_urgent(self.bucket))

    def at_work(self, priority: Priority) -> AbstractContextManager[None]:
        return self.bandwidth.at_work(self.bucket, priority)


@dataclass(frozen=True, slots=True)
class _Pacer:
    limits: _Limits
    priority: Callable[[], Priority]

    @property
    def piece(self) -> int:
        return self.limits.bandwidth.piece(self.limits.bucket)

    def take(self, size: int) -> None:
        piece = self.piece
        while size > 0:
            # What is a little more than a piece (headers) passes with it.
            part = size if size <= 2 * piece else piece
            turn = Turn(self.limits.bucket, self.priority(), part)
            self.limits.bandwidth.pass_by(turn, self.limits.names)
            size -= part
