"""Status: what is protected where, and what ran last."""

from __future__ import annotations

from dataclasses import dataclass

from dcmvault.app.wiring.workplace import Workplace
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


def recent_runs(workplace: Workplace, limit: int = 5) -> list[RunRecord]:
    """List the newest runs."""
    return workplace.catalogue.runs.runs(limit)
