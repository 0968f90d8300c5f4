"""What is remembered of schedules, of the runs that they asked for, and of held queues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from dcmvault.catalogue.database import Database, upsert
from dcmvault.catalogue.run_report import ENDED_RUNS
from dcmvault.catalogue.schedule_tables import queue_holds, scheduled_runs, schedules
from dcmvault.catalogue.tables import Moment, runs
from dcmvault.model.identifiers import DestinationId, RunId
from dcmvault.model.schedule import ScheduledRun, ScheduleState
from dcmvault.ports.schedules import HoldState


@dataclass(frozen=True, slots=True)
class SchedulesInDatabase:
    """Implements `ports.schedules`: ScheduleBook, QueueHolds and UnfinishedRuns."""

    database: Database

    def schedules(self) -> Mapping[str, ScheduleState]:
        """Return what is remembered, by name."""
        with self.database.read() as connection:
            rows = connection.execute(sa.select(schedules)).mappings().all()
        return {row["name"]: ScheduleState(**row) for row in rows}

    def define(self, name: str, definition: str, next_at: datetime | None) -> None:
        """Write down when a new or changed schedule is due; what waited of it is forgotten."""
        with self.database.write() as connection:
            changes = {"definition": definition, "next_at": next_at, "waiting_since": None}
            changed = connection.execute(
                sa.update(schedules).where(schedules.c.name == name).values(changes)
            )
            if not changed.rowcount:
                connection.execute(sa.insert(schedules).values(name=name, **changes))

    def set_enabled(self, name: str, *, enabled: bool, next_at: datetime | None) -> None:
        """Keep what somebody said of a schedule that was defined, and when it is due next."""
        with self.database.write() as connection:
            connection.execute(
                sa.update(schedules)
                .where(schedules.c.name == name)
                .values(enabled=enabled, next_at=next_at, waiting_since=None)
            )

    def wait(self, name: str, due_at: datetime, next_at: datetime | None) -> None:
        """Note that it was due while its plan ran; the earliest such time is kept."""
        with self.database.write() as connection:
            connection.execute(
                sa.update(schedules)
                .where(schedules.c.name == name)
                .values(
                    waiting_since=sa.func.coalesce(
                        schedules.c.waiting_since, sa.literal(due_at, Moment())
                    ),
                    next_at=next_at,
                )
            )

    def claim(
        self, before: ScheduleState, next_at: datetime | None, runs: Sequence[ScheduledRun]
    ) -> bool:
        """Write down at once that it began and when it is due next; False if it had changed."""
        with self.database.write() as connection:
            query = sa.select(schedules).where(schedules.c.name == before.name)
            row = connection.execute(query.with_for_update()).mappings().one_or_none()
            if row is None or ScheduleState(**row) != before:
                return False
            connection.execute(
                sa.update(schedules)
                .where(schedules.c.name == before.name)
                .values(next_at=next_at, last_due_at=runs[0].due_at, waiting_since=None)
            )
            begun = sa.exists().where(
                scheduled_runs.c.schedule == before.name,
                scheduled_runs.c.due_at == runs[0].due_at,
            )
            # A clock that was set back shows a time again at which it has begun already.
            if not connection.scalar(sa.select(begun)):
                connection.execute(sa.insert(scheduled_runs), [_row_of(run) for run in runs])
        return True

    def open_runs(self) -> Sequence[ScheduledRun]:
        """List runs that are not settled, in the order in which they are to begin."""
        query = sa.select(scheduled_runs).where(~scheduled_runs.c.settled)
        with self.database.read() as connection:
            rows = connection.execute(query.order_by(scheduled_runs.c.id)).all()
        return [_run_of(row) for row in rows]

    def update_run(self, run: ScheduledRun) -> None:
        """Write a run's `run_id`, `settled` and `problem`."""
        table = scheduled_runs.c
        with self.database.write() as connection:
            connection.execute(
                sa.update(scheduled_runs)
                .where(
                    table.schedule == run.schedule,
                    table.due_at == run.due_at,
                    table.position == run.position,
                )
                .values(run_id=run.run_id, settled=run.settled, problem=run.problem)
            )

    def last_runs(self, name: str, limit: int) -> Sequence[ScheduledRun]:
        """List the runs of a schedule, newest first."""
        query = sa.select(scheduled_runs).where(scheduled_runs.c.schedule == name)
        with self.database.read() as connection:
            rows = connection.execute(query.order_by(scheduled_runs.c.id.desc()).limit(limit)).all()
        return [_run_of(row) for row in rows]

    def holds(self) -> Mapping[DestinationId, HoldState]:
        """Return destinations that have closed hours now."""
        with self.database.read() as connection:
            rows = connection.execute(sa.select(queue_holds)).all()
        return {DestinationId(row.destination_id): HoldState(row.state) for row in rows}

    def set_hold(self, destination_id: DestinationId, state: HoldState | None) -> None:
        """Write a destination's state; None where no hours are closed."""
        with self.database.write() as connection:
            if state is None:
                connection.execute(
                    sa.delete(queue_holds).where(queue_holds.c.destination_id == destination_id)
                )
            else:
                row = {"destination_id": destination_id, "state": state.value}
                upsert(connection, queue_holds, [row])

    def unfinished(self) -> Sequence[RunId]:
        """List runs that have not ended, oldest first."""
        query = sa.select(runs.c.run_id).where(runs.c.state.not_in(ENDED_RUNS))
        with self.database.read() as connection:
            return [RunId(name) for name in connection.scalars(query.order_by(runs.c.id))]


def _row_of(run: ScheduledRun) -> dict[str, object]:
    return {
        "schedule": run.schedule,
        "plan": run.plan,
        "due_at": run.due_at,
        "position": run.position,
        "source": run.source,
        "run_id": run.run_id,
        "settled": run.settled,
        "problem": run.problem,
    }


def _run_of(row: Any) -> ScheduledRun:
    return ScheduledRun(
        schedule=row.schedule,
        plan=row.plan,
        due_at=row.due_at,
        position=row.position,
        source=row.source,
        run_id=RunId(row.run_id),
        settled=row.settled,
        problem=row.problem,
    )
