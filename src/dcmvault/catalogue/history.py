"""What was recorded of runs and arrivals: the ground of suggestions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from dcmvault.catalogue.database import Database
from dcmvault.catalogue.tables import (
    STATE_COUNTERS,
    entries,
    instances,
    run_destinations,
    runs,
    series,
    versions,
)
from dcmvault.model.job import ItemState
from dcmvault.model.plan import RunKind
from dcmvault.model.suggestion import Arrival, Transfer

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Stages of a run in which it sends, or reads what it sends.
_SENDING = ("deliver", "read")


@dataclass(frozen=True, slots=True)
class HistoryInDatabase:
    """Implements `ports.history.History`."""

    database: Database

    def arrivals(self, since: datetime) -> Sequence[Arrival]:
        """List studies that runs saw for the first time, or saw more of.

        A file's time counts where it lies between `since` and the run that saw it.
        """
        # Versions are numbered as they come: those from before need not be looked at.
        before = (
            sa.select(sa.func.coalesce(sa.func.max(run_destinations.c.newest_version_id), 0))
            .join(runs, runs.c.id == run_destinations.c.run_id)
            .where(runs.c.created_at < since)
            .scalar_subquery()
        )
        query = (
            sa.select(
                runs.c.created_at,
                sa.func.min(entries.c.mtime_ns).label("mtime_ns"),
                sa.func.sum(versions.c.size).label("bytes"),
            )
            .select_from(versions)
            .join(runs, runs.c.id == versions.c.first_run_id)
            .join(instances, instances.c.id == versions.c.instance_id)
            .join(series, series.c.id == instances.c.series_id)
            .join(entries, entries.c.version_id == versions.c.id)
            .where(versions.c.id > before, runs.c.created_at >= since)
            .group_by(series.c.study_id, runs.c.id, runs.c.created_at)
        )
        with self.database.read() as connection:
            return [_arrival(row, since) for row in connection.execute(query)]

    def transfers(self, since: datetime) -> Sequence[Transfer]:
        """List what backups that ended sent, by run and destination, oldest first."""
        query = (
            sa.select(
                runs.c.planned_at,
                runs.c.finished_at,
                runs.c.stages,
                run_destinations.c.transferred_bytes,
                run_destinations.c["items"].label("planned"),
                run_destinations.c[STATE_COUNTERS[ItemState.FAILED]].label("failed"),
            )
            .join(runs, runs.c.id == run_destinations.c.run_id)
            .where(
                runs.c.kind == RunKind.BACKUP.value,
                runs.c.created_at >= since,
                runs.c.planned_at.is_not(None),
                runs.c.finished_at.is_not(None),
                run_destinations.c["items"] > 0,
            )
            .order_by(runs.c.id)
        )
        with self.database.read() as connection:
            return [_transfer(row) for row in connection.execute(query)]


def _arrival(row: Any, since: datetime) -> Arrival:
    at: datetime = row.created_at
    seconds, _rest = divmod(row.mtime_ns, 1_000_000_000)
    if 0 < seconds < at.timestamp():
        written = _EPOCH + timedelta(seconds=seconds)
        at = written if written >= since else at
    return Arrival(at, int(row.bytes))


def _transfer(row: Any) -> Transfer:
    stages = json.loads(row.stages)
    lasted = (row.finished_at - row.planned_at).total_seconds()
    sending = sum(stages.get(stage, 0.0) for stage in _SENDING)
    return Transfer(
        began=row.planned_at,
        ended=row.finished_at,
        # Lanes send at once, so that their seconds may be more than passed; waits are in neither.
        busy_s=min(lasted, sending) if sending else lasted,
        bytes=row.transferred_bytes,
        instances=row.planned,
        failed=row.failed,
    )
