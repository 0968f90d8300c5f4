"""Who may send next, and when: token buckets and the line of those that wait. Pure: no clock."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from dcmvault.model.bandwidth import RateTable
from dcmvault.model.job import Priority

#: What is sent at once takes this long at the limit: short, so that bytes flow evenly and
#: whoever is more urgent waits no longer.
_PIECE_S = 0.02
_SMALLEST_PIECE = 4096
_LARGEST_PIECE = 1 << 20
#: What may be saved up while nobody sends: enough for a late wake-up or a round trip.
_BURST_S = 0.2
#: What the less urgent get together of the bytes that pass them by.
_SHARE_OF_OTHERS = 0.1
#: A thousandth of a byte is none.
_ROUNDING = 1e-3


class Bucket:
    """One limit: bytes come in at the rate of the time, and no more are kept than a burst.

    In any `t` seconds at most `t` times the rate pass, and one burst.
    """

    def __init__(self, table: RateTable) -> None:
        self._table = table
        #: Which part of the rate is ours.
        self.share = 1.0
        self.rate: float | None = 0.0
        self._whole: float | None = 0.0
        self._level = 0.0
        self._at_s = 0.0
        self._minute: datetime | None = None

    def follow(self, table: RateTable) -> None:
        """Let other rates hold from now on."""
        self._table = table
        self._minute = None

    @property
    def piece(self) -> int:
        """The bytes to ask for at a time; even."""
        if self.rate is None:
            return _LARGEST_PIECE
        return max(_SMALLEST_PIECE, min(_LARGEST_PIECE, int(self.rate * _PIECE_S))) & ~1

    @property
    def burst(self) -> float:
        """The most bytes that are kept."""
        if self.rate is None:
            return math.inf
        return max(2.0 * self.piece, self.rate * _BURST_S) if self.rate > 0 else 0.0

    def fill(self, at_s: float, local: datetime) -> None:
        """Let the bytes come in that are due at `at_s` (monotonic); `local` is that time."""
        elapsed_s, self._at_s = max(0.0, at_s - self._at_s), max(at_s, self._at_s)
        if self.rate is not None:
            self._level = min(self._level + elapsed_s * self.rate, self.burst)
        was_unlimited = self.rate is None
        minute = local.replace(second=0, microsecond=0)
        if minute != self._minute:
            self._whole = self._table.rate_at(local)
            self._minute = minute
        self.rate = None if self._whole is None else self._whole * self.share
        # What came in at a higher rate does not count where a lower one begins.
        self._level = 0.0 if was_unlimited else min(self._level, self.burst)

    def wait_for(self, size: int) -> float:
        """Return in how many seconds so many bytes may pass; 0 when they may now."""
        if self.rate is None:
            return 0.0
        if self.rate <= 0:
            return math.inf
        # More than a burst (asked for at a higher rate) passes on credit.
        missing = min(size, self.burst) - self._level
        return missing / self.rate if missing > _ROUNDING else 0.0

    def pay(self, size: int) -> None:
        """Let bytes pass."""
        if self.rate is not None:
            self._level -= size


@dataclass(eq=False, slots=True)
class Turn:
    """One who waits for `size` bytes to pass."""

    bucket: Bucket
    priority: Priority
    size: int
    is_granted: bool = False


@dataclass(slots=True)
class Line:
    """All who wait for bytes, to one destination or another, under one limit for all.

    The most urgent come first, in the order in which they asked; but a tenth of what
    passes the less urgent by is put by for them, so that nobody waits for ever. Who waits for
    its destination's limit keeps nobody from sending to another one.
    """

    overall: Bucket
    _waiting: list[Turn] = field(default_factory=list)
    #: Bytes that were put by, by bucket and priority.
    _put_by: dict[tuple[Bucket, Priority], float] = field(
        default_factory=lambda: defaultdict(float)
    )

    def join(self, turn: Turn) -> None:
        """Wait for a turn; `serve` grants it."""
        self._waiting.append(turn)

    def leave(self, turn: Turn) -> None:
        """Wait no more."""
        if turn in self._waiting:
            self._waiting.remove(turn)

    def serve(self, at_s: float, local: datetime) -> float:
        """Grant every turn that is due; return in how many seconds the next is (or infinity)."""
        for bucket in {self.overall, *(turn.bucket for turn in self._waiting)}:
            bucket.fill(at_s, local)
        wait_s = 0.0
        while self._waiting and wait_s == 0:
            wait_s = self._grant_next()
        return wait_s if self._waiting else math.inf

    def _grant_next(self) -> float:
        """Grant the first turn that may pass, or return in how many seconds one may."""
        wait_s = math.inf
        held_up: set[Bucket] = set()
        for turn in self._in_order():
            if turn.bucket in held_up:
                continue
            own_s = turn.bucket.wait_for(turn.size)
            if own_s > 0:
                wait_s = min(wait_s, own_s)
                held_up.add(turn.bucket)
                continue
            overall_s = self.overall.wait_for(turn.size)
            if overall_s > 0:
                return min(wait_s, overall_s)
            self._grant(turn)
            return 0.0
        return wait_s

    def _in_order(self) -> Iterator[Turn]:
        """Go through the turns: those for which enough is put by, then by priority and age."""
        first: dict[tuple[Bucket, Priority], Turn] = {}
        for turn in self._waiting:
            first.setdefault((turn.bucket, turn.priority), turn)
        owed = [turn for key, turn in first.items() if self._put_by[key] >= turn.size]
        rest = [turn for turn in self._waiting if turn not in owed]
        for turns in (owed, rest):
            yield from sorted(turns, key=lambda turn: -turn.priority)

    def _grant(self, turn: Turn) -> None:
        self._waiting.remove(turn)
        turn.is_granted = True
        turn.bucket.pay(turn.size)
        self.overall.pay(turn.size)
        key = (turn.bucket, turn.priority)
        self._put_by[key] = max(0.0, self._put_by[key] - turn.size)
        passed_by = {
            (other.bucket, other.priority): other.size
            for other in reversed(self._waiting)
            if other.priority < turn.priority
        }
        for other_key, size in passed_by.items():
            saved = self._put_by[other_key] + turn.size * _SHARE_OF_OTHERS / len(passed_by)
            # No more than one turn: whoever was held up elsewhere has not been passed by.
            self._put_by[other_key] = min(saved, float(size))
