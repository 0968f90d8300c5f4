"""Seconds that deliveries spent, by what for; taken by who writes them down."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from dcmvault.ports.pacing import Pacer


class Measures:
    """Adds up over all deliveries of one destination. Safe for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: dict[str, float] = defaultdict(float)

    def add(self, stage: str, seconds: float) -> None:
        """Count seconds of a stage."""
        with self._lock:
            self._seconds[stage] += seconds

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Count the seconds inside."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - began)

    def take(self) -> Mapping[str, float]:
        """Return what was counted, and begin anew."""
        with self._lock:
            taken, self._seconds = self._seconds, defaultdict(float)
        return dict(taken)


@dataclass(frozen=True, slots=True)
class MeasuredPacer:
    """A pacer whose waits are counted as `paced`, and not as `send`, inside of which they are."""

    pacer: Pacer
    measures: Measures

    @property
    def piece(self) -> int:
        """The bytes to send at once."""
        return self.pacer.piece

    def take(self, size: int) -> None:
        """Return when `size` more bytes may pass."""
        began = time.perf_counter()
        self.pacer.take(size)
        waited = time.perf_counter() - began
        self.measures.add("paced", waited)
        self.measures.add("send", -waited)
