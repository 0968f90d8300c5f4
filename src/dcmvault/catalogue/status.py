"""Status: what is protected where, by what evidence, how old."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from dcmvault.catalogue.database import Database
from dcmvault.catalogue.excluded import is_wanted
from dcmvault.catalogue.run_report import count_unreadable, destination_report, read_parts
from dcmvault.catalogue.siblings import version_there, was_replaced
from dcmvault.catalogue.tables import (
    EntryState,
    Moment,
    destinations,
    entries,
    holdings,
    metadata,
    run_destinations,
    runs,
    sources,
    versions,
)
from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import DestinationId, SourceId
from dcmvault.model.plan import RunKind
from dcmvault.model.report import DestinationReport
from dcmvault.ports.status import CoverageStatus, SourceStatus

#: A literal, not a parameter: PostgreSQL must see the same expression in SELECT and GROUP BY.
_LEVEL = sa.func.coalesce(holdings.c.level, sa.literal_column("0"))


@dataclass(frozen=True, slots=True)
class StatusInDatabase:
    """Implements `ports.status.StatusCatalogue`."""

    database: Database

    def sources(self) -> list[SourceStatus]:
        """List sources that were ever seen, but for those that were restored from only."""
        of_runs = sa.select(runs.c.source_id).where(runs.c.source_id.is_not(None))
        restored = of_runs.where(runs.c.kind == RunKind.RESTORE.value)
        others = of_runs.where(runs.c.kind != RunKind.RESTORE.value)
        only_restored = sa.and_(sources.c.id.in_(restored), sources.c.id.not_in(others))
        with self.database.read() as connection:
            rows = connection.execute(
                sa.select(sources).where(sa.not_(only_restored)).order_by(sources.c.id)
            ).all()
        return [
            SourceStatus(
                source_id=SourceId(row.id),
                name=row.name,
                studies=row.studies,
                instances=row.instances,
                bytes=row.bytes,
                last_seen_at=row.last_seen_at,
            )
            for row in rows
        ]

    def coverage(self, source_id: SourceId) -> list[CoverageStatus]:
        """List the destinations that a source was ever sent to.

        Only evidence counts as held or protected; what is merely sent shows in `by_level`.
        """
        with self.database.read() as connection:
            found = connection.execute(
                sa.select(destinations)
                .where(
                    destinations.c.id.in_(
                        sa.select(run_destinations.c.destination_id)
                        .join(runs, runs.c.id == run_destinations.c.run_id)
                        .where(runs.c.source_id == source_id)
                    )
                )
                .order_by(destinations.c.id)
            ).all()
            return [_coverage(connection, source_id, destination) for destination in found]

    def destinations(self) -> Mapping[DestinationId, str]:
        """Return the canonical addresses of all destinations that were ever used."""
        with self.database.read() as connection:
            query = sa.select(destinations).order_by(destinations.c.id)
            return {DestinationId(row.id): row.name for row in connection.execute(query)}

    def counts(self) -> Mapping[str, int]:
        """Return row counts of the catalogue, for `doctor`; reads every table once."""
        with self.database.read() as connection:
            return {
                table.name: int(
                    connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0
                )
                for table in metadata.sorted_tables
            }


def _coverage(connection: sa.Connection, source_id: SourceId, destination: Any) -> CoverageStatus:
    present = (
        sa.select(entries.c.study_id, version_there(destination.id).label("version_id"))
        .join(versions, versions.c.id == entries.c.version_id)
        .distinct()
        .where(
            entries.c.source_id == source_id,
            entries.c.state == EntryState.PRESENT,
            is_wanted(entries.c.study_id),
        )
        .subquery()
    )
    there = sa.and_(
        holdings.c.version_id == present.c.version_id,
        holdings.c.destination_id == destination.id,
    )
    if not destination.keeps_versions:
        there = sa.and_(there, ~was_replaced(destination.id))
    copies = present.outerjoin(holdings, there)
    by_level = {
        Level(row.level): row
        for row in connection.execute(
            sa.select(
                _LEVEL.label("level"),
                sa.func.count().label("instances"),
                sa.func.min(holdings.c.verified_at, type_=Moment).label("oldest"),
                sa.func.count(sa.case((holdings.c.coerced, 1))).label("coerced"),
            )
            .select_from(copies)
            .group_by(_LEVEL)
            .order_by(_LEVEL)
        )
    }
    held = [row for level, row in by_level.items() if level >= Level.PRESENT]
    studies, protected = _count_studies(connection, copies, present)
    return CoverageStatus(
        source_id=source_id,
        destination_id=DestinationId(destination.id),
        destination=destination.name,
        studies_protected=protected,
        studies=studies,
        instances_held=sum(row.instances for row in held),
        instances=sum(row.instances for row in by_level.values()),
        by_level={
            level: row.instances for level, row in by_level.items() if level is not Level.NONE
        },
        coerced=sum(row.coerced for level, row in by_level.items() if level is Level.PROVEN),
        oldest_evidence_at=min((row.oldest for row in held if row.oldest), default=None),
        last_run=_last_run(connection, source_id, DestinationId(destination.id)),
    )


def _count_studies(
    connection: sa.Connection, copies: sa.FromClause, present: sa.Subquery
) -> tuple[int, int]:
    """Count studies, and those of which every present version is held."""
    least = (
        sa.select(sa.func.min(_LEVEL).label("level"))
        .select_from(copies)
        .where(present.c.study_id.is_not(None))
        .group_by(present.c.study_id)
        .subquery()
    )
    row = connection.execute(
        sa.select(
            sa.func.count().label("studies"),
            sa.func.count(sa.case((least.c.level >= Level.PRESENT, 1))).label("protected"),
        ).select_from(least)
    ).one()
    return row.studies, row.protected


def _last_run(
    connection: sa.Connection, source_id: SourceId, destination_id: DestinationId
) -> DestinationReport | None:
    newest = connection.scalar(
        sa.select(sa.func.max(run_destinations.c.id))
        .join(runs, runs.c.id == run_destinations.c.run_id)
        .where(runs.c.source_id == source_id, run_destinations.c.destination_id == destination_id)
    )
    if newest is None:
        return None
    part = read_parts(connection, run_destinations.c.id == newest)[0]
    return destination_report(part, unreadable=count_unreadable(connection, part.run_id))
