"""Snapshots that destinations were seen to have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from dcmvault.catalogue.database import Database, chunks, insert_new
from dcmvault.catalogue.tables import runs, snapshots
from dcmvault.model.identifiers import DestinationId, RunId
from dcmvault.model.snapshot import SnapshotRef


@dataclass(frozen=True, slots=True)
class SnapshotsInDatabase:
    """Implements `ports.catalogue.SnapshotWitness`."""

    database: Database

    def record_snapshot(
        self, destination_id: DestinationId, ref: SnapshotRef, run_id: RunId | None = None
    ) -> None:
        """Remember a snapshot, and the run that took it; one that is known is left as it is."""
        with self.database.write() as connection:
            key = None
            if run_id is not None:
                key = connection.scalar(sa.select(runs.c.id).where(runs.c.run_id == run_id))
            row = {
                "destination_id": destination_id,
                "snapshot_id": ref.snapshot_id,
                "generation": ref.generation,
                "created_at": ref.created_at,
                "run_id": key,
            }
            insert_new(connection, snapshots, [row])

    def known_snapshots(self, destination_id: DestinationId) -> list[SnapshotRef]:
        """List the snapshots that should be there, by generation, then by name."""
        query = (
            sa.select(snapshots)
            .where(snapshots.c.destination_id == destination_id)
            .order_by(snapshots.c.generation, snapshots.c.snapshot_id)
        )
        with self.database.read() as connection:
            return [
                SnapshotRef(row.snapshot_id, row.generation, row.created_at)
                for row in connection.execute(query)
            ]

    def forget_snapshots(self, destination_id: DestinationId, snapshot_ids: Sequence[str]) -> None:
        """Expect these no longer: they were forgotten on purpose. Unknown ones are left out."""
        with self.database.write() as connection:
            for some in chunks(snapshot_ids):
                connection.execute(
                    sa.delete(snapshots).where(
                        snapshots.c.destination_id == destination_id,
                        snapshots.c.snapshot_id.in_(some),
                    )
                )
