"""How many versions of a source a destination holds, counted over all of both in one pass."""

from __future__ import annotations

import sqlalchemy as sa

from dcmvault.catalogue.siblings import equal_there, is_there, replaced_versions
from dcmvault.catalogue.tables import EntryState, entries, holdings, versions
from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import DestinationId, SourceId


def count_held(
    connection: sa.Connection,
    source_id: SourceId,
    destination_id: DestinationId,
    level: Level,
    *,
    keeps: bool,
) -> int:
    """Count distinct present versions that are held at a level, or what stands for them.

    `keeps` says that the destination keeps versions: there each stands for itself.
    """
    held = [holdings.c.destination_id == destination_id, holdings.c.level >= level]
    if not keeps:
        # Listed once, not looked up for each of millions.
        held.append(holdings.c.version_id.not_in(replaced_versions(destination_id)))
    itself = (
        sa.select(sa.func.count())
        .select_from(holdings)
        .where(*held, _is_present(source_id, holdings.c.version_id))
    )
    found = connection.scalar(itself) or 0
    if not keeps:
        by_another = (
            sa.select(sa.func.count())
            .select_from(versions)
            .where(
                versions.c.data_set_digest.is_not(None),
                _is_present(source_id, versions.c.id),
                ~is_there(destination_id),
                sa.exists()
                .where(holdings.c.version_id == equal_there(destination_id), *held)
                .correlate(versions),
            )
        )
        found += connection.scalar(by_another) or 0
    return int(found)


def _is_present(source_id: SourceId, version_id: sa.ColumnElement[int]) -> sa.Exists:
    return sa.exists().where(
        entries.c.version_id == version_id,
        entries.c.source_id == source_id,
        entries.c.state == EntryState.PRESENT,
    )
