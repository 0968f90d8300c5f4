"""What left a source before every destination held it: found by a pass, told by its run."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import sqlalchemy as sa

from dcmvault.catalogue.database import chunks
from dcmvault.catalogue.siblings import version_there, was_replaced
from dcmvault.catalogue.tables import entries, holdings, run_unreadable, versions
from dcmvault.errors import EntryLostError
from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import DestinationId

#: Why a run has no copy of it (a code of a failure).
LOST_AT_SOURCE = EntryLostError.code
_MESSAGE = "it is not where it was received any more, and not every destination holds it"


def held_everywhere(
    connection: sa.Connection,
    entry_keys: Collection[int],
    destination_ids: Collection[DestinationId],
) -> set[int]:
    """Return which entries all of these destinations hold, `complete` at least."""
    held = set(entry_keys)
    for destination_id in destination_ids:
        there: set[int] = set()
        for some in chunks(sorted(held)):
            query = (
                sa.select(entries.c.id)
                .join(versions, versions.c.id == entries.c.version_id)
                .join(
                    holdings,
                    sa.and_(
                        holdings.c.version_id == version_there(destination_id),
                        holdings.c.destination_id == destination_id,
                    ),
                )
                .where(
                    entries.c.id.in_(some),
                    holdings.c.level >= Level.COMPLETE,
                    ~was_replaced(destination_id),
                )
            )
            there.update(connection.scalars(query))
        held = there
    return held


def note_lost(connection: sa.Connection, run_key: int, entry_keys: Sequence[int]) -> None:
    """Note entries as what a run could not read any more, each once."""
    for some in chunks(entry_keys):
        known = set(
            connection.scalars(
                sa.select(run_unreadable.c.entry_id).where(
                    run_unreadable.c.run_id == run_key, run_unreadable.c.entry_id.in_(some)
                )
            )
        )
        rows = [
            {"run_id": run_key, "entry_id": key, "code": LOST_AT_SOURCE, "message": _MESSAGE}
            for key in some
            if key not in known
        ]
        if rows:
            connection.execute(sa.insert(run_unreadable), rows)
