"""The machine's clock, and how long something is waited for."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

#: Waits for so many seconds, or until nobody wants to wait any more.
Sleep = Callable[[float], object]


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the present as an aware UTC datetime."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds that never run backwards."""
        return time.monotonic()
