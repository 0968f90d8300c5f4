"""What many runs did, counted where it lies: no instance is listed for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from dcmvault.catalogue import requests
from dcmvault.catalogue.database import Database, chunks
from dcmvault.catalogue.run_report import (
    ENDED_RUNS,
    cause_of_state,
    count_unreadable,
    destination_report,
    exit_status,
    read_parts,
)
from dcmvault.catalogue.status import StatusInDatabase
from dcmvault.catalogue.tables import (
    destinations,
    items,
    jobs,
    run_destinations,
    run_unreadable,
    runs,
)
from dcmvault.model.identifiers import DestinationId, RunId
from dcmvault.model.job import ItemState
from dcmvault.model.statistics import CauseRow, EvidenceRow, PeriodReport, RunRow

_STARTED = sa.func.coalesce(runs.c.started_at, runs.c.created_at)
_NOT_REACHED = tuple(state for state in ItemState if state is not ItemState.HELD)


@dataclass(frozen=True, slots=True)
class StatisticsInDatabase:
    """Implements `ports.statistics.StatisticsCatalogue`."""

    database: Database
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def studies_of_run(self, run_id: RunId, limit: int) -> Sequence[str]:
        """List Study Instance UIDs, at most `limit`."""
        query = (
            sa.select(jobs.c.study_instance_uid)
            .join(run_destinations, run_destinations.c.id == jobs.c.run_destination_id)
            .join(runs, runs.c.id == run_destinations.c.run_id)
            .where(runs.c.run_id == run_id, jobs.c.study_instance_uid != "")
            .group_by(jobs.c.study_instance_uid)
            .order_by(sa.func.min(jobs.c.id))
            .limit(limit)
        )
        with self.database.read() as connection:
            return connection.scalars(query).all()

    def add_seconds_at(
        self, run_id: RunId, destination_id: DestinationId, seconds: Mapping[str, float]
    ) -> None:
        """Add to the run's seconds by stage at a destination."""
        query = (
            sa.select(run_destinations.c.id, run_destinations.c.stages)
            .join(runs, runs.c.id == run_destinations.c.run_id)
            .where(runs.c.run_id == run_id, run_destinations.c.destination_id == destination_id)
            .with_for_update(of=run_destinations)
        )
        with self.database.write() as connection:
            row = connection.execute(query).one_or_none()
            if row is None:
                raise KeyError(run_id)
            stages = json.loads(row.stages)
            for stage, more in seconds.items():
                stages[stage] = round(stages.get(stage, 0.0) + more, 6)
            connection.execute(
                sa.update(run_destinations)
                .where(run_destinations.c.id == row.id)
                .values(stages=json.dumps(stages))
            )

    def period(
        self, since: datetime | None, until: datetime, destination: str | None = None
    ) -> PeriodReport:
        """Report runs that started in [since, until), and how evidence stands now."""
        with self.database.read() as connection:
            found = connection.execute(_runs_of(since, until, destination)).all()
            keys = [run.id for run in found]
            parts = _parts_of(connection, keys, destination)
            due = _studies_due(connection, [part.id for some in parts.values() for part in some])
            rows = tuple(_run_row(connection, run, parts.get(run.id, []), due) for run in found)
            causes = _causes(connection, found, parts)
        return PeriodReport(
            since=since,
            until=until,
            made_at=self.now(),
            destination=destination,
            runs=rows,
            studies=len({uid for uids in due.values() for uid in uids}),
            evidence=tuple(self._evidence(destination)),
            causes=causes,
        )

    def _evidence(self, destination: str | None) -> Iterator[EvidenceRow]:
        status = StatusInDatabase(self.database)
        for source in status.sources():
            for there in status.coverage(source.source_id):
                if destination in {None, there.destination}:
                    yield EvidenceRow(
                        source.name,
                        there.destination,
                        there.studies,
                        there.studies_protected,
                        there.instances,
                        there.by_level,
                        there.oldest_evidence_at,
                    )


def _runs_of(since: datetime | None, until: datetime, destination: str | None) -> sa.Select[Any]:
    # The moments are compared as they are stored.
    query = sa.select(runs).where(sa.type_coerce(_STARTED, runs.c.created_at.type) < until)
    if since is not None:
        query = query.where(sa.type_coerce(_STARTED, runs.c.created_at.type) >= since)
    if destination is not None:
        there = (
            sa.select(run_destinations.c.run_id)
            .join(destinations, destinations.c.id == run_destinations.c.destination_id)
            .where(destinations.c.name == destination)
        )
        query = query.where(runs.c.id.in_(there))
    return query.order_by(_STARTED, runs.c.id)


def _parts_of(
    connection: sa.Connection, keys: Sequence[int], destination: str | None
) -> Mapping[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for some in chunks(keys):
        where: sa.ColumnElement[bool] = run_destinations.c.run_id.in_(some)
        if destination is not None:
            where = sa.and_(where, destinations.c.name == destination)
        for part in read_parts(connection, where):
            found.setdefault(part.run_id, []).append(part)
    return found


def _studies_due(connection: sa.Connection, parts: Sequence[int]) -> Mapping[int, set[str]]:
    """Collect the studies that were due, by part of a run."""
    found: dict[int, set[str]] = {}
    for some in chunks(parts):
        query = (
            sa.select(jobs.c.run_destination_id, jobs.c.study_instance_uid)
            .where(jobs.c.run_destination_id.in_(some), jobs.c.study_instance_uid != "")
            .distinct()
        )
        for row in connection.execute(query):
            found.setdefault(row.run_destination_id, set()).add(row.study_instance_uid)
    return found


def _run_row(
    connection: sa.Connection, run: Any, parts: Sequence[Any], due: Mapping[int, set[str]]
) -> RunRow:
    unreadable = count_unreadable(connection, run.id)
    ended = run.state in ENDED_RUNS
    reports = tuple(destination_report(part, unreadable=unreadable, ended=ended) for part in parts)
    return RunRow(
        run_id=RunId(run.run_id),
        kind=run.kind,
        source=requests.from_text(run.request).source,
        strategy=run.strategy,
        state=run.state,
        started_at=run.started_at or run.created_at,
        finished_at=run.finished_at,
        exit_status=exit_status(connection, run, reports, unreadable=unreadable),
        studies=len({uid for part in parts for uid in due.get(part.id, ())}),
        parts=reports,
        stages=json.loads(run.stages),
    )


def _causes(
    connection: sa.Connection, found: Sequence[Any], parts: Mapping[int, list[Any]]
) -> tuple[CauseRow, ...]:
    """Count what kept instances from their level, in runs that ended."""
    names = {
        part.id: (part.name, run.id)
        for run in found
        if run.state in ENDED_RUNS
        for part in parts.get(run.id, [])
    }
    counted: dict[tuple[str, str, str], list[int]] = {}
    seen: dict[tuple[str, str, str], set[int]] = {}

    def count(key: tuple[str, str, str], number: int, run: int) -> None:
        counted.setdefault(key, [0])[0] += number
        seen.setdefault(key, set()).add(run)

    for some in chunks(sorted(names)):
        query = (
            sa.select(
                jobs.c.run_destination_id,
                items.c.state,
                items.c.code,
                items.c.status,
                sa.func.count().label("instances"),
            )
            .join(items, items.c.job_id == jobs.c.id)
            .where(jobs.c.run_destination_id.in_(some), items.c.state.in_(_NOT_REACHED))
            .group_by(jobs.c.run_destination_id, items.c.state, items.c.code, items.c.status)
        )
        for row in connection.execute(query):
            code = row.code or cause_of_state(row.state)
            name, run_id = names[row.run_destination_id]
            count((name, code, row.status), row.instances, run_id)
    by_run = {run.id: [part.name for part in parts.get(run.id, [])] for run in found}
    for some in chunks(sorted(by_run)):
        query = (
            sa.select(
                run_unreadable.c.run_id, run_unreadable.c.code, sa.func.count().label("files")
            )
            .where(run_unreadable.c.run_id.in_(some))
            .group_by(run_unreadable.c.run_id, run_unreadable.c.code)
        )
        for row in connection.execute(query):
            for name in by_run[row.run_id]:
                count((name, row.code, ""), row.files, row.run_id)
    rows = [CauseRow(*key, total[0], len(seen[key])) for key, total in counted.items()]
    return tuple(sorted(rows, key=lambda row: (-row.instances, row.destination, row.code)))
