"""Status: what is protected where, and what ran last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from dcmvault.app.wiring.destinations import default_level
from dcmvault.app.wiring.workplace import Workplace
from dcmvault.model.drill import Drill
from dcmvault.model.evidence import Level
from dcmvault.ports.catalogue import RunRecord
from dcmvault.ports.reverification import FactSummary, VerificationDebt
from dcmvault.ports.status import CoverageStatus, SourceStatus


@dataclass(frozen=True, slots=True)
class EvidenceView:
    """What is known of a source's copies at one destination, how old that is, and what is owed.

    Debt is what was sent and has no evidence of `level` that is at most `oldest_s` seconds old; 0
    means that evidence does not grow too old.
    """

    level: Level
    oldest_s: int
    debt: VerificationDebt
    facts: Mapping[Level, FactSummary]


@dataclass(frozen=True, slots=True)
class SourceView:
    """One source and its coverage at each destination it was ever sent to."""

    source: SourceStatus
    coverage: tuple[CoverageStatus, ...]
    #: By the destination's address.
    evidence: Mapping[str, EvidenceView]
    #: Its studies that are excluded from backups; they are in no count of coverage.
    excluded: int = 0


def status(workplace: Workplace) -> list[SourceView]:
    """List every source that was ever seen."""
    catalogue = workplace.catalogue.status
    return [_view(workplace, source) for source in catalogue.sources()]


def _view(workplace: Workplace, source: SourceStatus) -> SourceView:
    coverage = tuple(workplace.catalogue.status.coverage(source.source_id))
    return SourceView(
        source,
        coverage,
        {one.destination: _evidence(workplace, one) for one in coverage},
        workplace.catalogue.exclusions.left_out(source.source_id),
    )


def _evidence(workplace: Workplace, coverage: CoverageStatus) -> EvidenceView:
    """Look at the evidence by what the configuration says of the destination."""
    level, oldest_s = evidence_asked(workplace, coverage.destination)
    now = workplace.clock.now()
    fresh_since = now - timedelta(seconds=oldest_s) if oldest_s else None
    ages = workplace.catalogue.reverification
    return EvidenceView(
        level,
        oldest_s,
        ages.debt(coverage.source_id, coverage.destination_id, level, fresh_since, now),
        ages.facts(coverage.source_id, coverage.destination_id),
    )


def evidence_asked(workplace: Workplace, destination: str) -> tuple[Level, int]:
    """Return which evidence of copies is asked for, and how old it may be (s; 0: however old)."""
    configured = workplace.settings.configured(destination)
    level = configured.level if configured is not None else None
    if level is None:
        level = default_level(workplace.destination_section(destination))
    return level, configured.oldest_s if configured is not None else 0


def recent_drills(workplace: Workplace, most: int) -> list[Drill]:
    """Return the newest drills of all places, newest first."""
    return workplace.catalogue.restores.recent_drills(most)


def latest_drills(workplace: Workplace) -> list[Drill]:
    """Return the newest drill of each place that studies were restored from to scratch."""
    return workplace.catalogue.restores.latest_drills()


def recent_runs(workplace: Workplace, limit: int = 5) -> list[RunRecord]:
    """List the newest runs."""
    return workplace.catalogue.runs.runs(limit)
