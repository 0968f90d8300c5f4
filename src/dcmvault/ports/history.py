"""What was recorded of runs: the ground of suggestions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from dcmvault.model.suggestion import Arrival, Transfer


class History(Protocol):
    """What happened since a time."""

    def arrivals(self, since: datetime) -> Sequence[Arrival]:
        """List studies that runs saw for the first time, or saw more of."""
        ...

    def transfers(self, since: datetime) -> Sequence[Transfer]:
        """List what backups that ended sent, by run and destination, oldest first."""
        ...
