"""Object stores that tell when an object was written, by their own clock."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol, runtime_checkable


@runtime_checkable
class TellsTimes(Protocol):
    """A store whose clock can be compared with ours."""

    def written_at(self, key: str) -> datetime:
        """Return when an object was written (aware). Raises ObjectMissingError."""
        ...
