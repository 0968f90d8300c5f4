"""What left a source before every destination held it: found by a pass, told by its run."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import sqlalchemy as sa

from dcmvault.catalogue.database import chunks
from dcmvault.catalogue.tables import holdings, run_unreadable
from dcmvault.errors import EntryLostError
from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import DestinationId

#: Why a run has no copy of it (a code of a failure).
LOST_AT_SOURCE = EntryLostError.code
_MESSAGE = "it is not where it was received any more, and not every destination holds it"


def held_everywhere(
    connection: sa.Connection,
    version_keys: Sequence[int | None],
    destination_ids: Collection[DestinationId],
) -> set[int]:
    """Return which versions all of these destinations hold, `complete` at least."""
    wanted = sorted(set(destination_ids))
    held: set[int] = set()
    for some in chunks(sorted({key for key in version_keys if key is not None})):
        held.update(
            connection.scalars(
                sa.select(holdings.c.version_id)
                .where(
                    holdings.c.version_id.in_(some),
                    holdings.c.destination_id.in_(wanted),
                    holdings.c.level >= Level.COMPLETE,
                )
                .group_by(holdings.c.version_id)
                .having(sa.func.count() == len(wanted))
            )
        )
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
