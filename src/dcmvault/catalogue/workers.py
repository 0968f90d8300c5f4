"""Workers that share the catalogue, on PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from dcmvault.catalogue.database import Database, upsert
from dcmvault.catalogue.tables import bandwidth_shares
from dcmvault.catalogue.worker_tables import association_shares, workers
from dcmvault.ports.workers import Doing, KnownWorker, WorkerIdentity


@dataclass(frozen=True, slots=True)
class WorkersInDatabase:
    """Implements `ports.workers.WorkerBook`; times are the server's."""

    database: Database

    def join(self, worker: WorkerIdentity, executor: str) -> None:
        """Write a worker down, or anew under another name of the durable engine."""
        with self.database.write() as connection:
            now = database_time(connection)
            row = {
                "id": worker.worker_id,
                "name": worker.name,
                "role": worker.role,
                "process": worker.process,
                "version": worker.version,
                "executor": executor,
                "started_at": now,
                "beat_at": now,
                "doing": _as_json(Doing()),
            }
            # Who had this name before is dead, or it would have it still.
            before = sa.select(workers.c.id).where(
                workers.c.executor == executor, workers.c.id != worker.worker_id
            )
            for worker_id in connection.scalars(before).all():
                _forget(connection, worker_id)
            upsert(connection, workers, [row], keep=["started_at"])

    def beat(self, worker_id: str, doing: Doing) -> bool:
        """Write down that it lives; False where it is not known any more."""
        with self.database.write() as connection:
            found = connection.execute(
                sa.update(workers)
                .where(workers.c.id == worker_id)
                .values(beat_at=database_time(connection), doing=_as_json(doing))
            )
        return found.rowcount == 1

    def leave(self, worker_id: str) -> None:
        """Forget a worker and what it had."""
        with self.database.write() as connection:
            _forget(connection, worker_id)

    def workers(self) -> Sequence[KnownWorker]:
        """List those that are there, by name and start."""
        query = sa.select(workers).order_by(workers.c.name, workers.c.started_at, workers.c.id)
        with self.database.read() as connection:
            now = database_time(connection)
            return [_known(row, now) for row in connection.execute(query)]


def database_time(connection: sa.Connection) -> datetime:
    """Return the server's time of now, not that at which the transaction began."""
    now = connection.scalar(sa.select(sa.func.clock_timestamp()))
    assert isinstance(now, datetime)
    return now


def _forget(connection: sa.Connection, worker_id: str) -> None:
    connection.execute(sa.delete(workers).where(workers.c.id == worker_id))
    for table in (association_shares, bandwidth_shares):
        connection.execute(sa.delete(table).where(table.c.holder == worker_id))


def _as_json(doing: Doing) -> str:
    return json.dumps(
        {
            "running": doing.running,
            "moved": dict(doing.moved),
            "associations": dict(doing.associations),
            "lacks": dict(doing.lacks),
        }
    )


def _known(row: Any, now: datetime) -> KnownWorker:
    # A worker of another release may say less, or more.
    said = json.loads(row.doing)
    return KnownWorker(
        WorkerIdentity(row.id, row.name, row.role, row.process, row.version),
        row.executor,
        row.started_at,
        row.beat_at,
        max(0.0, (now - row.beat_at).total_seconds()),
        Doing(
            int(said.get("running", 0)),
            said.get("moved", {}),
            said.get("associations", {}),
            said.get("lacks", {}),
        ),
    )
