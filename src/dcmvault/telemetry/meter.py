"""Counts bytes while they move."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping


class ByteMeter:
    """Implements `ports.metering.Meter`, for one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._moved: Counter[str] = Counter()

    def moved(self, destination: str, size: int) -> None:
        """Count bytes that go to a destination (its address) now."""
        with self._lock:
            self._moved[destination] += size

    def totals(self) -> Mapping[str, int]:
        """Return the bytes so far, by destination."""
        with self._lock:
            return dict(self._moved)
