"""What there is to do, counted cheaply."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from dcmvault.catalogue.counters import OPEN_STATES
from dcmvault.catalogue.database import Database
from dcmvault.catalogue.tables import STATE_COUNTERS, jobs, run_destinations, runs
from dcmvault.model.identifiers import DestinationId, RunId
from dcmvault.model.job import ItemState, JobState
from dcmvault.model.report import RunState
from dcmvault.ports.samples import RunFigures

_OPEN_RUNS = (RunState.PENDING, RunState.PLANNING, RunState.RUNNING)
_OPEN_JOBS = tuple(
    state
    for state in JobState
    if state not in {JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED}
)


@dataclass(frozen=True, slots=True)
class WorkFiguresInDatabase:
    """Implements `ports.samples.WorkFigures`."""

    database: Database

    def unfinished_runs(self) -> list[RunFigures]:
        """List runs that have not ended, once for each destination that was planned."""
        query = (
            sa.select(run_destinations, runs.c.run_id.label("name"), runs.c.state, runs.c.scanned)
            .join(runs, runs.c.id == run_destinations.c.run_id)
            .where(runs.c.state.in_(_OPEN_RUNS))
            .order_by(run_destinations.c.id)
        )
        with self.database.read() as connection:
            rows = connection.execute(query).all()
        return [
            RunFigures(
                run_id=RunId(row.name),
                destination_id=DestinationId(row.destination_id),
                state=row.state,
                scanned=row.scanned,
                items=row.items,
                settled=sum(
                    getattr(row, STATE_COUNTERS[state])
                    for state in ItemState
                    if state not in OPEN_STATES
                ),
                sent=row.n_sent + row.n_held,
                bytes=row.bytes,
                settled_bytes=row.settled_bytes,
                failed=row.n_failed,
            )
            for row in rows
        ]

    def open_jobs(self) -> Mapping[DestinationId, Mapping[JobState, int]]:
        """Count jobs that have not ended, by destination and state."""
        query = (
            sa.select(run_destinations.c.destination_id, jobs.c.state, sa.func.count().label("n"))
            .join(run_destinations, run_destinations.c.id == jobs.c.run_destination_id)
            .where(jobs.c.state.in_(_OPEN_JOBS))
            .group_by(run_destinations.c.destination_id, jobs.c.state)
        )
        counted: dict[DestinationId, dict[JobState, int]] = defaultdict(dict)
        with self.database.read() as connection:
            for row in connection.execute(query):
                counted[DestinationId(row.destination_id)][row.state] = row.n
        return counted
