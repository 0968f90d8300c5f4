"""What was counted over all instances, kept for whoever asks next."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class KeptCounts:
    """What was counted at one moment. `counts` is text that only its writer understands."""

    counted_at: datetime
    #: What `CountBook.mark` was before counting began.
    mark: str
    #: When it will be counted again, where somebody counts at intervals.
    again_at: datetime | None
    counts: str


class CountBook(Protocol):
    """Keeps the last counts. They are not what is known, but what was: they go with their time."""

    def mark(self) -> str:
        """Say how far the catalogue has changed: another text after every change that counts.

        On PostgreSQL, a transaction that is under way while this is asked may be in it already.
        """
        ...

    def keep(self, counts: KeptCounts) -> None:
        """Keep counts in the place of those before."""
        ...

    def kept(self) -> KeptCounts | None:
        """Return the counts that were kept last; None for none."""
        ...
