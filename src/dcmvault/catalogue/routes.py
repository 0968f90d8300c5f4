"""Where studies went that had several places to go to."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from dcmvault.catalogue.bulk import among
from dcmvault.catalogue.counters import add_to_run
from dcmvault.catalogue.database import Database, chunks
from dcmvault.catalogue.strategy_tables import RouteKind, routes
from dcmvault.catalogue.tables import STATE_COUNTERS, destinations, items, jobs, runs
from dcmvault.catalogue.tables import run_destinations as parts
from dcmvault.model.identifiers import DestinationId, RunId, SourceId
from dcmvault.model.job import ItemState
from dcmvault.model.plan import RunKind
from dcmvault.model.routing import Diversion
from dcmvault.ports.strategy import RouteTaken

_FAILED = STATE_COUNTERS[ItemState.FAILED]


@dataclass(frozen=True, slots=True)
class RoutesInDatabase:
    """Implements `ports.strategy.RouteBook`."""

    database: Database

    def chosen(self, studies: Collection[str]) -> Mapping[str, Sequence[DestinationId]]:
        """Return the places that load balancing chose for studies, the latest choice first."""
        found: dict[str, list[DestinationId]] = defaultdict(list)
        if not studies:
            return found
        with self.database.read() as connection:
            query = (
                sa.select(routes.c.study_instance_uid, routes.c.destination_id)
                .where(
                    routes.c.kind == RouteKind.CHOSEN,
                    among(connection, routes.c.study_instance_uid, studies),
                )
                .order_by(routes.c.id.desc())
            )
            for uid, destination_id in connection.execute(query):
                found[uid].append(DestinationId(destination_id))
        return found

    def record_routes(
        self, run_id: RunId, chosen: Sequence[RouteTaken], diverted: Sequence[RouteTaken]
    ) -> None:
        """Write choices and diversions down; those that a run wrote already are left out."""
        with self.database.write() as connection:
            run_key = _run_key(connection, run_id)
            for kind, taken in ((RouteKind.CHOSEN, chosen), (RouteKind.DIVERTED, diverted)):
                query = sa.select(routes.c.study_instance_uid, routes.c.destination_id).where(
                    routes.c.run_id == run_key, routes.c.kind == kind
                )
                known = {tuple(row) for row in connection.execute(query)}
                rows = [
                    _row(run_key, kind, one)
                    for one in taken
                    if (one.study_instance_uid, one.destination_id) not in known
                ]
                if rows:
                    connection.execute(sa.insert(routes), rows)

    def down(self, run_id: RunId) -> Mapping[DestinationId, str]:
        """Return the destinations that could not be reached in a run, and why."""
        query = (
            sa.select(routes.c.destination_id, routes.c.why)
            .join(runs, runs.c.id == routes.c.run_id)
            .where(runs.c.run_id == run_id, routes.c.kind == RouteKind.DOWN)
        )
        with self.database.read() as connection:
            return {DestinationId(key): why for key, why in connection.execute(query)}

    def record_down(self, run_id: RunId, down: Mapping[DestinationId, str]) -> None:
        """Write down which destinations cannot be reached; known ones are left as they are."""
        known = self.down(run_id)
        fresh = {key: why for key, why in down.items() if key not in known}
        if not fresh:
            return
        with self.database.write() as connection:
            run_key = _run_key(connection, run_id)
            connection.execute(
                sa.insert(routes),
                [
                    _row(run_key, RouteKind.DOWN, RouteTaken("", key, why=why))
                    for key, why in fresh.items()
                ],
            )

    def failed_before(
        self,
        source_id: SourceId,
        destination_id: DestinationId,
        run_id: RunId | None,
        but_by: Collection[str],
    ) -> Collection[str]:
        """List the studies of which something failed in the backup before a run."""
        before = (
            sa.select(parts.c.id)
            .join(runs, runs.c.id == parts.c.run_id)
            .where(
                parts.c.destination_id == destination_id,
                runs.c.source_id == source_id,
                runs.c.kind == RunKind.BACKUP.value,
                runs.c.run_id != (run_id or ""),
            )
            .order_by(runs.c.id.desc())
            .limit(1)
        )
        query = (
            sa.select(jobs.c.study_instance_uid)
            .distinct()
            .join(items, items.c.job_id == jobs.c.id)
            .where(
                jobs.c.run_destination_id == before.scalar_subquery(),
                jobs.c[_FAILED] > 0,
                items.c.state == ItemState.FAILED,
                items.c.code.not_in(sorted(but_by)),
            )
        )
        with self.database.read() as connection:
            return frozenset(connection.scalars(query))

    def undelivered(
        self, run_id: RunId, codes: Collection[str]
    ) -> Iterator[tuple[DestinationId, str, str]]:
        """List studies with items that failed by one of these codes."""
        query = (
            sa.select(
                parts.c.destination_id, jobs.c.study_instance_uid, sa.func.max(items.c.message)
            )
            .select_from(parts)
            .join(runs, runs.c.id == parts.c.run_id)
            .join(jobs, jobs.c.run_destination_id == parts.c.id)
            .join(items, items.c.job_id == jobs.c.id)
            .where(
                runs.c.run_id == run_id,
                jobs.c[_FAILED] > 0,
                items.c.state == ItemState.FAILED,
                items.c.code.in_(sorted(codes)),
            )
            .group_by(parts.c.destination_id, jobs.c.study_instance_uid)
        )
        with self.database.read() as connection:
            found = connection.execute(query).all()
        for destination_id, study_instance_uid, message in found:
            yield DestinationId(destination_id), study_instance_uid, message

    def release_undelivered(
        self,
        run_id: RunId,
        destination_id: DestinationId,
        studies: Collection[str],
        codes: Collection[str],
        now: datetime,
    ) -> None:
        """Take items that failed by these codes out of a run: they are due elsewhere now."""
        with self.database.write() as connection:
            connection.execute(
                sa.update(runs).where(runs.c.run_id == run_id).values(continued_at=now)
            )
            rows = connection.execute(
                sa.select(jobs.c.id, jobs.c.run_destination_id)
                .join(parts, parts.c.id == jobs.c.run_destination_id)
                .join(runs, runs.c.id == parts.c.run_id)
                .where(
                    runs.c.run_id == run_id,
                    parts.c.destination_id == destination_id,
                    jobs.c[_FAILED] > 0,
                    among(connection, jobs.c.study_instance_uid, studies),
                )
            ).all()
            for some in chunks(rows):
                _release(connection, {row.id: row.run_destination_id for row in some}, codes)


def diversions(connection: sa.Connection, run_key: int) -> list[Diversion]:
    """List what went elsewhere in a run."""
    instead = destinations.alias("instead")
    query = (
        sa.select(
            routes.c.study_instance_uid,
            destinations.c.name,
            instead.c.name.label("instead_of"),
            routes.c.why,
        )
        .join(destinations, destinations.c.id == routes.c.destination_id)
        .join(instead, instead.c.id == routes.c.instead_of)
        .where(routes.c.run_id == run_key, routes.c.kind == RouteKind.DIVERTED)
        .order_by(routes.c.id)
    )
    return [Diversion(*row) for row in connection.execute(query)]


def _run_key(connection: sa.Connection, run_id: RunId) -> int:
    key: int | None = connection.scalar(sa.select(runs.c.id).where(runs.c.run_id == run_id))
    if key is None:
        raise KeyError(run_id)
    return key


def _row(run_key: int, kind: RouteKind, taken: RouteTaken) -> dict[str, Any]:
    return {
        "run_id": run_key,
        "kind": kind,
        "study_instance_uid": taken.study_instance_uid,
        "destination_id": taken.destination_id,
        "instead_of": taken.instead_of,
        "why": taken.why,
    }


def _release(
    connection: sa.Connection, parent_of: Mapping[int, int], codes: Collection[str]
) -> None:
    """Delete failed items, and bring the counters of jobs and of the run up to date."""
    gone = connection.execute(
        sa.delete(items)
        .where(
            items.c.job_id.in_(parent_of),
            items.c.state == ItemState.FAILED,
            items.c.code.in_(sorted(codes)),
        )
        .returning(items.c.job_id, items.c.size)
    ).all()
    counts = Counter(row.job_id for row in gone)
    sizes: Counter[int] = Counter()
    for row in gone:
        sizes[row.job_id] += row.size
    of_part: dict[int, Counter[str]] = defaultdict(Counter)
    for job_key, count in counts.items():
        connection.execute(
            sa.update(jobs)
            .where(jobs.c.id == job_key)
            .values(
                {
                    _FAILED: jobs.c[_FAILED] - count,
                    "instances": jobs.c.instances - count,
                    "bytes": jobs.c.bytes - sizes[job_key],
                }
            )
        )
        size = sizes[job_key]
        of_part[parent_of[job_key]].update(
            {_FAILED: -count, "items": -count, "bytes": -size, "settled_bytes": -size}
        )
    for part, changes in sorted(of_part.items()):
        add_to_run(connection, part, changes)
    connection.execute(sa.delete(jobs).where(jobs.c.id.in_(counts), jobs.c.instances == 0))
