"""Status: what is protected where, and what ran last."""

from __future__ import annotations

from dataclasses import dataclass

from dcmvault.app.wiring.workplace import Workplace
from dcmvault.model.drill import Drill
from dcmvault.ports.catalogue import RunRecord
from dcmvault.ports.status import CoverageStatus, SourceStatus


@dataclass(frozen=True, slots=True)
class SourceView:
    """One source and its coverage at each destination it was ever sent to."""

    source: SourceStatus
    coverage: tuple[CoverageStatus, ...]


def status(workplace: Workplace) -> list[SourceView]:
    """List every source that was ever seen."""
    catalogue = workplace.catalogue.status
    return [
        SourceView(source, tuple(catalogue.coverage(source.source_id)))
        for source in catalogue.sources()
    ]


def latest_drills(workplace: Workplace) -> list[Drill]:
    """Return the newest drill of each place that studies were restored from to scratch."""
    return workplace.catalogue.restores.latest_drills()


def recent_runs(workplace: Workplace, limit: int = 5) -> list[RunRecord]:
    """List the newest runs."""
    return workplace.catalogue.runs.runs(limit)
