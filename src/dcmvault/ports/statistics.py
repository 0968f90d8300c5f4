"""What is asked of the catalogue about many runs at once, and about the studies of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from dcmvault.model.identifiers import DestinationId, RunId
from dcmvault.model.statistics import PeriodReport


class RunStudies(Protocol):
    """Which studies a run was about."""

    def studies_of_run(self, run_id: RunId, limit: int) -> Sequence[str]:
        """List Study Instance UIDs, at most `limit`; opaque files belong to none."""
        ...


class StageMeter(Protocol):
    """Where it is written down what a run's time at a destination went for."""

    def add_seconds_at(
        self, run_id: RunId, destination_id: DestinationId, seconds: Mapping[str, float]
    ) -> None:
        """Add to the run's seconds by stage at a destination; KeyError where it has no part."""
        ...


class StatisticsCatalogue(RunStudies, StageMeter, Protocol):
    """What runs did over a time, from their recorded outcomes."""

    def period(
        self, since: datetime | None, until: datetime, destination: str | None = None
    ) -> PeriodReport:
        """Report runs that started in [since, until), and how evidence stands now.

        `destination` is a name: then only its part of them. None of `since`: from the first on.
        """
        ...
