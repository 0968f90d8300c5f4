"""What the overview asks of the catalogue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from dcmvault.model.identifiers import DestinationId, SourceId
from dcmvault.model.overview import CopyCount, PlaceAsked, Proof, Protection, RunRow


class OverviewCounts(Protocol):
    """Counts over all that is known: seconds for a large archive, so asked at intervals."""

    def protection(
        self, source_id: SourceId, asked: Sequence[PlaceAsked], *, everywhere: bool
    ) -> Protection:
        """Count what is at a source, and what of it is held at these places at their levels.

        `everywhere`: at all of them, else at one at least. With no place nothing is protected.
        """
        ...

    def copies(self) -> Mapping[DestinationId, CopyCount]:
        """Sum up what destinations hold by evidence, and what they were found to have lost."""
        ...

    def unreadable(self) -> Mapping[SourceId, int]:
        """Count the entries that sources could not give when they were last passed over."""
        ...


class RunStrips(Protocol):
    """Runs as strips show them: read from counters, cheap."""

    def run_rows(self, limit: int, now: datetime) -> list[RunRow]:
        """List the newest runs, newest first."""
        ...

    def sent_by_week(self, since: datetime) -> Mapping[datetime, int]:
        """Sum up the bytes that backups sent, by the Monday (UTC) of the week they began in."""
        ...

    def latest_restore(self) -> Proof | None:
        """Return the newest restore that a run carried out and that ended; None for none."""
        ...


class OverviewCatalogue(OverviewCounts, RunStrips, Protocol):
    """All that the overview asks."""
