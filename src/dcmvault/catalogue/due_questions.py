"""What a run asks by its strategy, as a question about what is due."""

from __future__ import annotations

import sqlalchemy as sa

from dcmvault.catalogue.due_studies import DueQuestion
from dcmvault.catalogue.tables import destinations, run_destinations, runs
from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import DestinationId, RunId, SourceId
from dcmvault.model.plan import RunKind, Strategy
from dcmvault.model.report import RunState
from dcmvault.model.selection import Selection


def due_question(
    connection: sa.Connection,
    source_id: SourceId,
    destination_id: DestinationId,
    *,
    strategy: Strategy,
    level: Level,
    run_id: RunId | None,
    selection: Selection,
) -> DueQuestion:
    """Put what a run asks by its strategy into a question."""
    run_destination_id = None
    if run_id is not None:
        run_destination_id = find_run_destination(connection, run_id, destination_id)
    held_after = 0
    if strategy is Strategy.DIFFERENTIAL:
        held_after = _newest_version_of_full(connection, source_id, destination_id)
    return DueQuestion(
        source_id,
        destination_id,
        level,
        held_reason=strategy.value if strategy.considers_held else "",
        held_after=held_after,
        run_destination_id=run_destination_id,
        keeps_versions=keeps_versions(connection, destination_id),
        selection=selection,
    )


def keeps_versions(connection: sa.Connection, destination_id: DestinationId) -> bool:
    """Say whether a destination keeps several contents under one identity, as plans found."""
    query = sa.select(destinations.c.keeps_versions).where(destinations.c.id == destination_id)
    return bool(connection.scalar(query))


def find_run_destination(
    connection: sa.Connection, run_id: RunId, destination_id: DestinationId
) -> int | None:
    """Return the key of a run's part at one destination; None where there is none yet."""
    found: int | None = connection.scalar(
        sa.select(run_destinations.c.id)
        .join(runs, runs.c.id == run_destinations.c.run_id)
        .where(runs.c.run_id == run_id, run_destinations.c.destination_id == destination_id)
    )
    return found


def _newest_version_of_full(
    connection: sa.Connection, source_id: SourceId, destination_id: DestinationId
) -> int:
    """Return the newest version that the last finished full run knew; 0 without such a run."""
    found = connection.scalar(
        sa.select(run_destinations.c.newest_version_id)
        .join(runs, runs.c.id == run_destinations.c.run_id)
        .where(
            run_destinations.c.destination_id == destination_id,
            runs.c.source_id == source_id,
            runs.c.kind == RunKind.BACKUP.value,
            runs.c.strategy == Strategy.FULL.value,
            runs.c.state == RunState.FINISHED,
        )
        .order_by(runs.c.finished_at.desc(), runs.c.id.desc())
        .limit(1)
    )
    return int(found or 0)
