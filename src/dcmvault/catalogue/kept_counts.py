"""Counts over all instances that are kept with their time, and what says that they still hold."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from dcmvault.catalogue.database import Database, upsert
from dcmvault.catalogue.matrix_tables import kept_counts, study_changes
from dcmvault.catalogue.tables import run_destinations, runs
from dcmvault.ports.kept_counts import KeptCounts

#: There is one row.
_KEY = 1


@dataclass(frozen=True, slots=True)
class CountsInDatabase:
    """Implements `ports.kept_counts.CountBook`."""

    database: Database

    def mark(self) -> str:
        """Say how far the catalogue has changed, by what only grows.

        What changes of studies is noted; opaque files change in runs and in passes of these.
        """
        question = sa.select(
            sa.select(sa.func.max(run_destinations.c.id)).scalar_subquery(),
            sa.select(sa.func.max(runs.c.id)).scalar_subquery(),
            sa.select(sa.func.max(runs.c.finished_at, type_=sa.BigInteger)).scalar_subquery(),
        )
        with self.database.read() as connection:
            # The last key that was given, whether or not its row is there still.
            if self.database.is_sqlite:
                last = "SELECT seq FROM sqlite_sequence WHERE name = :name"
            else:
                last = "SELECT pg_sequence_last_value(pg_get_serial_sequence(:name, 'id'))"
            noted = connection.scalar(sa.text(last), {"name": study_changes.name})
            return " ".join(str(one or 0) for one in (noted, *connection.execute(question).one()))

    def keep(self, counts: KeptCounts) -> None:
        """Keep counts in the place of those before."""
        row = {
            "id": _KEY,
            "counted_at": counts.counted_at,
            "mark": counts.mark,
            "again_at": counts.again_at,
            "counts": counts.counts,
        }
        with self.database.write() as connection:
            upsert(connection, kept_counts, [row])

    def kept(self) -> KeptCounts | None:
        """Return the counts that were kept last; None for none."""
        with self.database.read() as connection:
            row = connection.execute(sa.select(kept_counts)).one_or_none()
        if row is None:
            return None
        return KeptCounts(row.counted_at, row.mark, row.again_at, row.counts)
