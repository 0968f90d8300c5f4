"""What is asked of the catalogue about many runs at once, and about the studies of one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from dcmvault.model.identifiers import RunId
from dcmvault.model.statistics import PeriodReport


class RunStudies(Protocol):
    """Which studies a run was about."""

    def studies_of_run(self, run_id: RunId, limit: int) -> Sequence[str]:
        """List Study Instance UIDs, at most `limit`; opaque files belong to none."""
        ...


class StatisticsCatalogue(RunStudies, Protocol):
    """What runs did over a time, from their recorded outcomes."""

    def period(
        self, since: datetime | None, until: datetime, destination: str | None = None
    ) -> PeriodReport:
        """Report runs that started in [since, until), and how evidence stands now.

        `destination` is a name: then only its part of them. None of `since`: from the first on.
        """
        ...
