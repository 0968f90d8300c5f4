"""What goes on now, as the catalogue knows it, and what is steered there."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from dcmvault.model.identifiers import DestinationId, RunId
from dcmvault.model.live import RecentFailure, Slowed, Transfer


class LiveCatalogue(Protocol):
    """Transfers and failures of now. Destinations are named by their addresses."""

    def transfers(self, limit: int) -> list[Transfer]:
        """List jobs at work, the longest at it first."""
        ...

    def recent_failures(self, limit: int) -> list[RecentFailure]:
        """List what failed in the newest runs, newest first."""
        ...

    def leave_rest(self, run_id: RunId) -> int:
        """Cancel the jobs of a run that are not at work; return how many instances are left out.

        Those at work go on to their ends, and so does the run. KeyError where there is none.
        """
        ...

    def leave_study(
        self, run_id: RunId, destination_id: DestinationId, study_instance_uid: str
    ) -> int:
        """Cancel a study's jobs of a run at one destination; return how many instances.

        What was delivered stays recorded. KeyError where there is no such run.
        """
        ...


class SlowedBook(Protocol):
    """Limits for a while, from one start of the program to the next."""

    def slowed(self, now: datetime) -> Mapping[DestinationId, Slowed]:
        """Return those that are in force, by destination."""
        ...

    def set_slowed(self, destination_id: DestinationId, slowed: Slowed | None) -> None:
        """Set a destination's limit in the place of an earlier one; None: it has none any more."""
        ...
