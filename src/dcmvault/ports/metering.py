"""Where bytes on their way are counted."""

from __future__ import annotations

from typing import Protocol


class Meter(Protocol):
    """Counts bytes as they go. On the hot path: it neither waits nor fails. Safe for threads."""

    def moved(self, destination: str, size: int) -> None:
        """Count bytes that go to a destination (its address) now."""
        ...
