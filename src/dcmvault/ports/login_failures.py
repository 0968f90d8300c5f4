"""Logins that failed, as they are kept: a restart forgets none. Every write is durable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class KeptFailures:
    """How often logins failed for one account, address or browser, and when they last did."""

    #: Of what they are counted for; what it was cannot be read from it.
    digest: bytes
    count: int
    last_at: datetime


class LoginFailureBook(Protocol):
    """Keeps failures."""

    def failures(self, since: datetime, most: int) -> list[KeptFailures]:
        """List what failed since, the newest last; what is older, or more, is forgotten."""
        ...

    def put(self, changed: Sequence[KeptFailures]) -> None:
        """Keep failures, each in the place of what was kept for it; a count of 0 keeps nothing."""
        ...
