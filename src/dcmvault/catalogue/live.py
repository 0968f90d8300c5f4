"""What goes on now: jobs at work, what failed of late, and what is left out or slowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from dcmvault.catalogue.counters import count_of
from dcmvault.catalogue.database import Database, chunks
from dcmvault.catalogue.live_tables import slowed_destinations
from dcmvault.catalogue.runs import cancel_jobs
from dcmvault.catalogue.tables import (
    STATE_COUNTERS,
    destinations,
    items,
    jobs,
    run_destinations,
    runs,
)
from dcmvault.model.identifiers import DestinationId, RunId
from dcmvault.model.job import ItemState, JobState, Priority
from dcmvault.model.live import RecentFailure, Slowed, Transfer

_AT_WORK = (JobState.IN_PROGRESS, JobState.VERIFYING)
_AT_REST = (JobState.PENDING, JobState.QUEUED, JobState.RETRYING)
_FAILED = STATE_COUNTERS[ItemState.FAILED]
#: Runs whose failures are of late.
_NEWEST_RUNS = 5


@dataclass(frozen=True, slots=True)
class LiveInDatabase:
    """Implements `ports.live.LiveCatalogue` and `ports.live.SlowedBook`."""

    database: Database

    def transfers(self, limit: int) -> list[Transfer]:
        """List jobs at work, the longest at it first."""
        query = (
            sa.select(jobs, runs.c.run_id, destinations.c.name)
            .join(run_destinations, run_destinations.c.id == jobs.c.run_destination_id)
            .join(runs, runs.c.id == run_destinations.c.run_id)
            .join(destinations, destinations.c.id == run_destinations.c.destination_id)
            .where(jobs.c.state.in_(_AT_WORK))
            .order_by(jobs.c.id)
            .limit(limit)
        )
        with self.database.read() as connection:
            return [
                Transfer(
                    row.job_id,
                    row.run_id,
                    row.name,
                    row.study_instance_uid,
                    row.series_instance_uid,
                    row.state.value,
                    Priority(row.priority).name.lower(),
                    row.instances,
                    count_of(row, ItemState.SENT, ItemState.HELD),
                    count_of(row, ItemState.FAILED, ItemState.UNREADABLE, ItemState.CONFLICT),
                    row.bytes,
                    row.attempt,
                )
                for row in connection.execute(query)
            ]

    def recent_failures(self, limit: int) -> list[RecentFailure]:
        """List what failed in the newest runs, newest first."""
        newest = sa.select(runs.c.id).order_by(runs.c.id.desc()).limit(_NEWEST_RUNS)
        query = (
            sa.select(
                runs.c.run_id,
                destinations.c.name,
                items.c.code,
                items.c.status,
                sa.func.max(items.c.message).label("message"),
                sa.func.max(items.c.hint).label("hint"),
                sa.func.count().label("instances"),
                sa.func.count(jobs.c.study_instance_uid.distinct()).label("studies"),
                sa.func.max(items.c.id).label("newest"),
            )
            .select_from(run_destinations)
            .join(runs, runs.c.id == run_destinations.c.run_id)
            .join(destinations, destinations.c.id == run_destinations.c.destination_id)
            .join(jobs, jobs.c.run_destination_id == run_destinations.c.id)
            .join(items, items.c.job_id == jobs.c.id)
            .where(
                run_destinations.c.run_id.in_(newest.scalar_subquery()),
                run_destinations.c[_FAILED] > 0,
                jobs.c[_FAILED] > 0,
                items.c.state == ItemState.FAILED,
            )
            .group_by(
                runs.c.run_id,
                destinations.c.name,
                items.c.code,
                items.c.status,
            )
            .order_by(sa.desc("newest"))
            .limit(limit)
        )
        with self.database.read() as connection:
            return [
                RecentFailure(*tuple(row)[:-1])  # all but what orders them
                for row in connection.execute(query)
            ]

    def leave_rest(self, run_id: RunId) -> int:
        """Cancel the jobs of a run that are not at work; return how many instances are left out."""
        return self._cancel(run_id, jobs.c.state.in_(_AT_REST))

    def leave_study(
        self, run_id: RunId, destination_id: DestinationId, study_instance_uid: str
    ) -> int:
        """Cancel a study's jobs of a run at one destination; return how many instances."""
        return self._cancel(
            run_id,
            jobs.c.state.in_((*_AT_REST, *_AT_WORK)),
            run_destinations.c.destination_id == destination_id,
            jobs.c.study_instance_uid == study_instance_uid,
        )

    def slowed(self, now: datetime) -> Mapping[DestinationId, Slowed]:
        """Return those that are in force, by destination."""
        query = sa.select(slowed_destinations).where(slowed_destinations.c.until > now)
        with self.database.read() as connection:
            return {
                DestinationId(row.destination_id): Slowed(float(row.bytes_per_s), row.until)
                for row in connection.execute(query)
            }

    def set_slowed(self, destination_id: DestinationId, slowed: Slowed | None) -> None:
        """Set a destination's limit in the place of an earlier one; None: it has none any more."""
        table = slowed_destinations
        with self.database.write() as connection:
            connection.execute(sa.delete(table).where(table.c.destination_id == destination_id))
            if slowed is not None:
                connection.execute(
                    sa.insert(table).values(
                        destination_id=destination_id,
                        bytes_per_s=slowed.bytes_per_s,
                        until=slowed.until,
                    )
                )

    def _cancel(self, run_id: RunId, *which: sa.ColumnElement[bool]) -> int:
        query = (
            sa.select(jobs.c.id)
            .join(run_destinations, run_destinations.c.id == jobs.c.run_destination_id)
            .join(runs, runs.c.id == run_destinations.c.run_id)
            .where(runs.c.run_id == run_id, *which)
            .order_by(jobs.c.id)
        )
        with self.database.write() as connection:
            if connection.scalar(sa.select(runs.c.id).where(runs.c.run_id == run_id)) is None:
                raise KeyError(run_id)
            keys: Sequence[int] = connection.scalars(query).all()
            return sum(cancel_jobs(connection, some) for some in chunks(keys))
