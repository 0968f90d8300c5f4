"""Snapshots that destinations were seen to have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from dcmvault.catalogue.database import Database, chunks, insert_new
from dcmvault.catalogue.facts import NO_FACTS
from dcmvault.catalogue.study_changes import note_versions
from dcmvault.catalogue.tables import (
    HoldingState,
    evidence,
    holdings,
    runs,
    snapshots,
    versions,
)
from dcmvault.model.evidence import Level
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
            _forget(connection, destination_id, snapshot_ids)

    def doubt_copies(
        self, destination_id: DestinationId, snapshot_ids: Sequence[str], run_id: RunId
    ) -> None:
        """Expect lost snapshots no longer; copies that the run did not verify become claims."""
        seen = (
            sa.select(evidence.c.id)
            .join(runs, runs.c.id == evidence.c.run_id)
            .where(runs.c.run_id == run_id)
        )
        doubted = sa.and_(
            holdings.c.destination_id == destination_id,
            holdings.c.level > Level.SENT.value,
            sa.or_(holdings.c.evidence_id.is_(None), holdings.c.evidence_id.not_in(seen)),
        )
        with self.database.write() as connection:
            note_versions(
                connection, versions.c.id.in_(sa.select(holdings.c.version_id).where(doubted))
            )
            connection.execute(
                sa.update(holdings)
                .where(doubted)
                .values(
                    state=HoldingState.SENT,
                    level=Level.SENT.value,
                    verified_at=None,
                    evidence_id=None,
                    **NO_FACTS,
                )
            )
            _forget(connection, destination_id, snapshot_ids)


def _forget(
    connection: sa.Connection, destination_id: DestinationId, snapshot_ids: Sequence[str]
) -> None:
    for some in chunks(snapshot_ids):
        connection.execute(
            sa.delete(snapshots).where(
                snapshots.c.destination_id == destination_id,
                snapshots.c.snapshot_id.in_(some),
            )
        )
