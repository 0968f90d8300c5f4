"""Runs: their lives, their counters, their ends."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from dcmvault.catalogue import requests
from dcmvault.catalogue.counters import OPEN_STATES, UNDELIVERED_STATES, Move, count_moves
from dcmvault.catalogue.database import Database, chunks
from dcmvault.catalogue.lost import LOST_AT_SOURCE
from dcmvault.catalogue.planning import ensure_run_destination, select_jobs
from dcmvault.catalogue.rows import job_of
from dcmvault.catalogue.run_report import ENDED_RUNS, assemble_report
from dcmvault.catalogue.tables import (
    STATE_COUNTERS,
    EntryState,
    entries,
    items,
    jobs,
    run_destinations,
    run_unreadable,
    runs,
    storable,
    versions,
)
from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import DestinationId, JobId, RunId
from dcmvault.model.job import JOB_TRANSITIONS, ItemState, Job, JobState, Priority
from dcmvault.model.plan import RunRequest
from dcmvault.model.report import RunReport, RunState
from dcmvault.ports.catalogue import RunProgress, RunRecord, ScanCounts

#: The advisory lock under which runs are asked for.
_ASKING = 0x64636D7661736B
_OPEN_JOBS = [state for state, following in JOB_TRANSITIONS.items() if following]


@dataclass(frozen=True, slots=True)
class RunsInDatabase:
    """Implements `ports.catalogue.RunCatalogue`."""

    database: Database

    def ask_for_run(self, run_id: RunId, request: RunRequest, now: datetime) -> RunId:
        """Write down a run, or note on the unfinished one of an equal request that it is wanted.

        One transaction that no other asking overlaps; the newest of several is continued.
        """
        text = requests.to_text(request)
        with self.database.write() as connection:
            self.database.lock_until_commit(connection, _ASKING)
            unfinished = connection.execute(
                sa.select(runs)
                .where(runs.c.state.not_in(ENDED_RUNS), runs.c.request == text)
                .order_by(runs.c.id.desc())
                .limit(1)
                .with_for_update()
            ).one_or_none()
            if unfinished is not None:
                connection.execute(
                    sa.update(runs).where(runs.c.id == unfinished.id).values(continued_at=now)
                )
                return RunId(unfinished.run_id)
            connection.execute(
                sa.insert(runs).values(
                    run_id=run_id,
                    request=text,
                    kind=request.kind.value,
                    strategy=request.strategy.value,
                    state=RunState.PENDING,
                    created_at=now,
                )
            )
        return run_id

    def run(self, run_id: RunId) -> RunRecord:
        """Return a run; KeyError if there is none."""
        with self.database.read() as connection:
            return _record(_row(connection, run_id))

    def runs(self, limit: int = 20) -> list[RunRecord]:
        """List runs, newest first."""
        with self.database.read() as connection:
            query = sa.select(runs).order_by(runs.c.id.desc()).limit(limit)
            return [_record(row) for row in connection.execute(query)]

    def set_run_state(self, run_id: RunId, state: RunState, now: datetime) -> None:
        """Move a run; sets `started_at`, `planned_at` (on RUNNING) and `finished_at` on the way.

        A run that ended stays as it ended: a cancelled run is not finished by a late worker.
        """
        with self.database.write() as connection:
            row = _row(connection, run_id, lock=True)
            if row.state in ENDED_RUNS:
                return
            changes: dict[str, object] = {"state": state}
            if state is not RunState.PENDING and row.started_at is None:
                changes["started_at"] = now
            if state is RunState.PLANNING:
                changes["continued_at"] = None
            if state is RunState.RUNNING:
                changes["planned_at"] = now
            if state in ENDED_RUNS:
                changes["finished_at"] = now
            connection.execute(sa.update(runs).where(runs.c.id == row.id).values(changes))

    def finish_run(self, run_id: RunId, now: datetime) -> bool:
        """End a run as FINISHED, unless it was asked for again since it last began to plan."""
        with self.database.write() as connection:
            row = _row(connection, run_id, lock=True)
            if row.state not in ENDED_RUNS:
                if row.continued_at is not None:
                    return False
                connection.execute(
                    sa.update(runs)
                    .where(runs.c.id == row.id)
                    .values(state=RunState.FINISHED, finished_at=now)
                )
        return True

    def record_plan(
        self,
        run_id: RunId,
        *,
        counts: ScanCounts | None,
        already_held: Mapping[DestinationId, int],
        levels: Mapping[DestinationId, Level],
        warnings: Sequence[str],
    ) -> None:
        """Write what planning found (added up if a run plans more than once).

        Events (new, changed, gone) add up, and `already_held` does from the second plan on;
        until the run is RUNNING its first plan may be repeated, and the last one counts. What
        a pass found as a whole (not DICOM, unreadable) is as the last pass found it.
        """
        with self.database.write() as connection:
            row = _row(connection, run_id, lock=True)
            changes: dict[str, object] = {"warnings": _with_warnings(row, warnings)}
            if counts is not None:
                changes["not_dicom"] = counts.not_dicom
                for name in ("new", "changed", "gone"):
                    changes[name] = runs.c[name] + getattr(counts, name)
                _keep_unreadable(connection, row)
            connection.execute(sa.update(runs).where(runs.c.id == row.id).values(changes))
            newest = connection.scalar(sa.select(sa.func.max(versions.c.id)))
            for destination_id in sorted({*already_held, *levels}):
                key = ensure_run_destination(connection, run_id, destination_id)
                held: Any = already_held.get(destination_id, 0)
                if row.planned_at is not None:
                    held = run_destinations.c.already_held + held
                values = {"newest_version_id": newest or 0, "already_held": held}
                if destination_id in levels:
                    values["level"] = levels[destination_id].value
                connection.execute(
                    sa.update(run_destinations).where(run_destinations.c.id == key).values(values)
                )

    def record_closing(
        self,
        run_id: RunId,
        *,
        snapshot_failures: Mapping[DestinationId, tuple[str, str, str]],
        warnings: Sequence[str],
    ) -> None:
        """Write what ending the run found: why destinations took no snapshot, and warnings."""
        with self.database.write() as connection:
            row = _row(connection, run_id, lock=True)
            connection.execute(
                sa.update(runs)
                .where(runs.c.id == row.id)
                .values(warnings=_with_warnings(row, warnings))
            )
            parts = sa.update(run_destinations).where(run_destinations.c.run_id == row.id)
            connection.execute(parts.values(_failure_columns("", "", "")))
            for destination_id, failure in snapshot_failures.items():
                connection.execute(
                    parts.where(run_destinations.c.destination_id == destination_id).values(
                        _failure_columns(*failure)
                    )
                )

    def add_stage_seconds(self, run_id: RunId, seconds: Mapping[str, float]) -> None:
        """Add to the run's seconds by stage."""
        with self.database.write() as connection:
            row = _row(connection, run_id, lock=True)
            stages = json.loads(row.stages)
            for stage, more in seconds.items():
                stages[stage] = stages.get(stage, 0.0) + more
            connection.execute(
                sa.update(runs).where(runs.c.id == row.id).values(stages=json.dumps(stages))
            )

    def set_scanned(self, run_id: RunId, entries: int) -> None:
        """Note how many entries planning has listed, for progress."""
        with self.database.write() as connection:
            connection.execute(
                sa.update(runs).where(runs.c.run_id == run_id).values(scanned=entries)
            )

    def record_error(self, run_id: RunId, code: str, message: str, hint: str) -> None:
        """Write down the error that ended a run."""
        with self.database.write() as connection:
            connection.execute(
                sa.update(runs)
                .where(runs.c.run_id == run_id)
                .values(error_code=code, error_message=message, error_hint=hint)
            )

    def cancel_items(self, run_id: RunId, job_id: JobId | None = None) -> int:
        """End open jobs and mark what is not delivered yet as CANCELLED; return how many items.

        What was delivered and not verified yet stays as it is.
        """
        query = (
            sa.select(jobs.c.id)
            .join(run_destinations, run_destinations.c.id == jobs.c.run_destination_id)
            .join(runs, runs.c.id == run_destinations.c.run_id)
            .where(runs.c.run_id == run_id, jobs.c.state.in_(_OPEN_JOBS))
            .order_by(jobs.c.id)
        )
        if job_id is not None:
            query = query.where(jobs.c.job_id == job_id)
        cancelled = 0
        with self.database.write() as connection:
            for some in chunks(connection.scalars(query).all()):
                cancelled += cancel_jobs(connection, some)
        return cancelled

    def progress(self, run_id: RunId) -> RunProgress:
        """Return live counters, cheaply."""
        with self.database.read() as connection:
            row = _row(connection, run_id)
            parts = connection.execute(
                sa.select(run_destinations).where(run_destinations.c.run_id == row.id)
            ).all()
        return _progress(row, parts)

    def report(self, run_id: RunId, *, studies: bool = True, items: bool = True) -> RunReport:
        """Assemble the report of a run, finished or not.

        Without `items` it is quick for any run: no instance is named, no study counted.
        """
        with self.database.read() as connection:
            row = _row(connection, run_id)
            return assemble_report(connection, row, studies=studies and items, items=items)

    def jobs(self, *, open_only: bool = True, limit: int = 1000) -> list[Job]:
        """List jobs in queue order: by priority, then as planned."""
        query = select_jobs().order_by(jobs.c.priority.desc(), jobs.c.id).limit(limit)
        if open_only:
            query = query.where(jobs.c.state.in_(_OPEN_JOBS))
        with self.database.read() as connection:
            return [job_of(row) for row in connection.execute(query)]

    def set_job_priority(self, job_id: JobId, priority: Priority) -> None:
        """Write a job's priority; KeyError if there is no such job."""
        with self.database.write() as connection:
            written = connection.execute(
                sa.update(jobs).where(jobs.c.job_id == job_id).values(priority=priority.value)
            )
            if not written.rowcount:
                raise KeyError(job_id)


def _row(connection: sa.Connection, run_id: RunId, *, lock: bool = False) -> Any:
    query = sa.select(runs).where(runs.c.run_id == run_id)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise KeyError(run_id)
    return row


def _record(row: Any) -> RunRecord:
    return RunRecord(
        run_id=RunId(row.run_id),
        request=requests.from_text(row.request),
        state=row.state,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        planned_at=row.planned_at,
        continued_at=row.continued_at,
    )


def _with_warnings(run: Any, warnings: Sequence[str]) -> str:
    """Add warnings to those of a run's row, each once."""
    said = list(dict.fromkeys([*json.loads(run.warnings), *map(storable, warnings)]))
    return json.dumps(said, ensure_ascii=False)


def _failure_columns(code: str, message: str, hint: str) -> dict[str, str]:
    return {
        "snapshot_failure_code": code,
        "snapshot_failure": message,
        "snapshot_failure_hint": hint,
    }


def _keep_unreadable(connection: sa.Connection, run: Any) -> None:
    """Copy what the source could not give into the run: the entries' rows move on."""
    connection.execute(
        sa.delete(run_unreadable).where(
            # What was lost is listed by no later pass, and stays in the report of this run.
            run_unreadable.c.run_id == run.id,
            run_unreadable.c.code != LOST_AT_SOURCE,
        )
    )
    connection.execute(
        sa.insert(run_unreadable).from_select(
            ["run_id", "entry_id", "code", "message"],
            sa.select(
                sa.literal(run.id), entries.c.id, entries.c.problem_code, entries.c.problem
            ).where(entries.c.source_id == run.source_id, entries.c.state == EntryState.UNREADABLE),
        )
    )


def cancel_jobs(connection: sa.Connection, job_keys: Sequence[int]) -> int:
    """End jobs, with what they have not delivered yet; return how many items."""
    moves = []
    for state in sorted(UNDELIVERED_STATES):
        rows = connection.execute(
            sa.update(items)
            .where(items.c.job_id.in_(job_keys), items.c.state == state)
            .values(state=ItemState.CANCELLED)
            .returning(items.c.job_id, items.c.size)
        )
        moves += [Move(row.job_id, state, ItemState.CANCELLED, row.size) for row in rows]
    count_moves(connection, moves)
    connection.execute(
        sa.update(jobs).where(jobs.c.id.in_(job_keys)).values(state=JobState.CANCELLED)
    )
    return len(moves)


def _progress(run: Any, parts: Sequence[Any]) -> RunProgress:
    def total(*states: ItemState) -> int:
        return sum(getattr(part, STATE_COUNTERS[state]) for part in parts for state in states)

    return RunProgress(
        state=run.state,
        items=sum(part.items for part in parts),
        settled=total(*(state for state in ItemState if state not in OPEN_STATES)),
        sent=total(ItemState.SENT, ItemState.HELD),
        failed=total(ItemState.FAILED),
        bytes=sum(part.bytes for part in parts),
        settled_bytes=sum(part.settled_bytes for part in parts),
        scanned=run.scanned,
    )
