"""Status: what is protected where, by what evidence, how old."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from dcmvault.catalogue.database import Database
from dcmvault.catalogue.run_report import count_unreadable, destination_report, read_parts
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
)
from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import DestinationId, SourceId
from dcmvault.model.report import DestinationReport
from dcmvault.ports.catalogue import CoverageStatus, SourceStatus


@dataclass(frozen=True, slots=True)
class StatusInDatabase:
    """Implements `ports.catalogue.StatusCatalogue`."""

    database: Database

    def sources(self) -> list[SourceStatus]:
        """List sources that were ever seen."""
        with self.database.read() as connection:
            rows = connection.execute(sa.select(sources).order_by(sources.c.id)).all()
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

    def destination_name(self, destination_id: DestinationId) -> str:
        """Return the canonical address; KeyError if there is none."""
        with self.database.read() as connection:
            name = connection.scalar(
                sa.select(destinations.c.name).where(destinations.c.id == destination_id)
            )
        if name is None:
            raise KeyError(destination_id)
        return str(name)

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
    level = sa.func.coalesce(holdings.c.level, sa.literal_column("0"))
    present = (
        sa.select(entries.c.study_id, entries.c.version_id)
        .distinct()
        .where(
            entries.c.source_id == source_id,
            entries.c.state == EntryState.PRESENT,
            entries.c.version_id.is_not(None),
        )
        .subquery()
    )
    there = sa.and_(
        holdings.c.version_id == present.c.version_id,
        holdings.c.destination_id == destination.id,
    )
    by_level: dict[Level, int] = {}
    oldest = None
    instances = 0
    rows = connection.execute(
        sa.select(
            level.label("level"),
            sa.func.count().label("instances"),
            sa.func.min(holdings.c.verified_at, type_=Moment).label("oldest"),
        )
        .select_from(present)
        .outerjoin(holdings, there)
        .group_by(level)
    )
    for row in rows:
        instances += row.instances
        if row.level >= Level.SENT:
            by_level[Level(row.level)] = row.instances
        if row.level >= Level.PRESENT and row.oldest is not None:
            oldest = row.oldest if oldest is None else min(oldest, row.oldest)
    least = (
        sa.select(sa.func.min(level).label("level"))
        .select_from(present)
        .outerjoin(holdings, there)
        .where(present.c.study_id.is_not(None))
        .group_by(present.c.study_id)
        .subquery()
    )
    totals = connection.execute(
        sa.select(
            sa.func.count().label("studies"),
            sa.func.count(sa.case((least.c.level >= Level.PRESENT, 1))).label("protected"),
        ).select_from(least)
    ).one()
    return CoverageStatus(
        source_id=source_id,
        destination_id=DestinationId(destination.id),
        destination=destination.name,
        studies_protected=totals.protected,
        studies=totals.studies,
        instances_held=sum(n for reached, n in by_level.items() if reached >= Level.PRESENT),
        instances=instances,
        by_level=dict(sorted(by_level.items())),
        oldest_evidence_at=oldest,
        last_run=_last_run(connection, source_id, DestinationId(destination.id)),
    )


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
