"""Pace: how fast a run goes, measured over the last seconds, and when it will be done."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from dcmvault.ports.catalogue import RunProgress

#: Seconds of the past that a rate is averaged over.
WINDOW_S = 15.0


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a run stands, in the figures that are shown."""

    done: int
    items: int
    done_bytes: int
    bytes: int
    instances_per_s: float
    bytes_per_s: float
    #: Seconds; None while there is nothing to tell it from.
    eta_s: float | None


class Pace:
    """Turns counters into rates; the time (monotonic seconds) is handed in.

    In a verification run (`delivers` false) everything was sent before; only what is settled
    is done.
    """

    def __init__(self, *, delivers: bool = True) -> None:
        self._delivers = delivers
        self._past: deque[tuple[float, int, int]] = deque()

    def observe(self, now: float, progress: RunProgress) -> Standing:
        """Take in counters and return where the run stands."""
        # What was delivered counts as done though its study is not verified yet: verification
        # comes study by study, and a bar that stands still for one big study says nothing.
        sent = progress.sent if self._delivers else 0
        done = max(progress.settled, sent + progress.failed)
        done_bytes = progress.settled_bytes
        if progress.items and done > progress.settled:
            done_bytes = max(done_bytes, progress.bytes * done // progress.items)
        self._past.append((now, done, done_bytes))
        while len(self._past) > 2 and self._past[1][0] <= now - WINDOW_S:
            self._past.popleft()
        then, done_then, bytes_then = self._past[0]
        elapsed = now - then
        rate = max(done - done_then, 0) / elapsed if elapsed > 0 else 0.0
        byte_rate = max(done_bytes - bytes_then, 0) / elapsed if elapsed > 0 else 0.0
        return Standing(
            done,
            progress.items,
            done_bytes,
            progress.bytes,
            rate,
            byte_rate,
            _eta(progress, done, done_bytes, rate, byte_rate),
        )


def _eta(
    progress: RunProgress, done: int, done_bytes: int, rate: float, byte_rate: float
) -> float | None:
    """Bytes foretell better than counts, where there are any left."""
    if done >= progress.items:
        return None
    left = progress.bytes - done_bytes
    if left > 0 and byte_rate > 0:
        return left / byte_rate
    return (progress.items - done) / rate if rate > 0 else None
