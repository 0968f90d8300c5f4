"""Plans: what is due at a destination, and jobs written down."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import sqlalchemy as sa

from dcmvault.catalogue.bulk import among, in_driver_terms, insert_rows, new_keys
from dcmvault.catalogue.counters import OPEN_STATES, add_to_run
from dcmvault.catalogue.database import Database, chunks, insert_new, named_id
from dcmvault.catalogue.due import pages
from dcmvault.catalogue.due_questions import due_question, find_run_destination, keeps_versions
from dcmvault.catalogue.due_studies import everything_of, is_selected
from dcmvault.catalogue.held_count import count_held
from dcmvault.catalogue.rows import job_of
from dcmvault.catalogue.siblings import version_there, was_replaced
from dcmvault.catalogue.study_changes import note_study
from dcmvault.catalogue.tables import (
    STATE_COUNTERS,
    EntryState,
    HoldingState,
    destinations,
    entries,
    holdings,
    instances,
    items,
    jobs,
    run_destinations,
    runs,
    series,
    studies,
    versions,
)
from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import DestinationId, RunId, SourceId
from dcmvault.model.job import ItemState, Job, JobState
from dcmvault.model.plan import PlanItem, PlannedJob, Strategy
from dcmvault.model.selection import EVERYTHING, Selection

#: Columns of new rows, in order.
_JOB_COLUMNS = (
    "id",
    "job_id",
    "run_destination_id",
    "study_instance_uid",
    "series_instance_uid",
    "state",
    "priority",
    "instances",
    "bytes",
    *STATE_COUNTERS.values(),
)
_ITEM_COLUMNS = (
    "job_id",
    "position",
    "version_id",
    "entry_id",
    "size",
    "mtime_ns",
    "inode",
    "state",
    "reason",
    "held",
    "conflict",
    "earlier_version_there",
)


@dataclass(frozen=True, slots=True)
class PlansInDatabase:
    """Implements `ports.catalogue.PlanCatalogue`."""

    database: Database

    def destination(self, name: str, *, keeps_versions: bool | None = None) -> DestinationId:
        """Return the id of the destination with this canonical address, made at first sight."""
        with self.database.write() as connection:
            destination_id = named_id(connection, destinations, name)
            if keeps_versions is not None:
                connection.execute(
                    sa.update(destinations)
                    .where(
                        destinations.c.id == destination_id,
                        destinations.c.keeps_versions.is_not(keeps_versions),
                    )
                    .values(keeps_versions=keeps_versions)
                )
            return DestinationId(destination_id)

    def due(
        self,
        source_id: SourceId,
        destination_id: DestinationId,
        *,
        strategy: Strategy,
        level: Level,
        run_id: RunId | None,
        selection: Selection = EVERYTHING,
        study_keys: Sequence[int] | None = None,
    ) -> Iterator[PlanItem]:
        """List present versions that are due, ordered by study, series, instance number.

        With `study_keys` those of these studies only.

        Reasons: `damaged` for what was found damaged; `not_held` for what was found missing, or
        was an item before and never got there; else `changed` or `new`; `level` for what is sent or
        held below `level`; `full` or `differential` for what is held at it. Without a finished
        full run a differential run considers everything.
        """
        with self.database.read() as connection:
            question = due_question(
                connection,
                source_id,
                destination_id,
                strategy=strategy,
                level=level,
                run_id=run_id,
                selection=selection,
            )
        if study_keys is not None:
            question = replace(question, study_keys=tuple(sorted(study_keys)))
        for page in pages(self.database, question):
            yield from page

    def expected(self, source_id: SourceId, destination_id: DestinationId) -> Iterator[PlanItem]:
        """List every present version; `held` is set where one was sent or held at any time.

        What a verification found missing is looked for again: a peer may have found it meanwhile.
        """
        with self.database.read() as connection:
            keeps = keeps_versions(connection, destination_id)
        question = everything_of(source_id, destination_id, keeps_versions=keeps)
        for page in pages(self.database, question):
            yield from page

    def holds_copies(self, destination_id: DestinationId) -> bool:
        """Say whether any copy, of whatever source, is sent to or held at the destination."""
        with self.database.read() as connection:
            found = connection.scalar(
                sa.select(holdings.c.version_id)
                .where(
                    holdings.c.destination_id == destination_id,
                    holdings.c.state.in_((HoldingState.SENT, HoldingState.HELD)),
                )
                .limit(1)
            )
        return found is not None

    def forget_copies(self, destination_id: DestinationId, study_instance_uid: str) -> None:
        """Know no longer of copies of a study that the destination was told to forget."""
        if study_instance_uid:
            gone = (
                sa.select(versions.c.id)
                .join(instances, instances.c.id == versions.c.instance_id)
                .join(series, series.c.id == instances.c.series_id)
                .join(studies, studies.c.id == series.c.study_id)
                .where(studies.c.study_instance_uid == study_instance_uid)
            )
        else:
            gone = sa.select(versions.c.id).where(versions.c.instance_id.is_(None))
        with self.database.write() as connection:
            note_study(connection, study_instance_uid)
            connection.execute(
                sa.delete(holdings).where(
                    holdings.c.destination_id == destination_id, holdings.c.version_id.in_(gone)
                )
            )

    def held_versions(
        self,
        source_id: SourceId,
        destination_id: DestinationId,
        level: Level,
        selection: Selection = EVERYTHING,
    ) -> int:
        """Count distinct present versions that are held at a level, or what stands for them."""
        with self.database.read() as connection:
            keeps = keeps_versions(connection, destination_id)
            if selection.is_whole:
                return count_held(connection, source_id, destination_id, level, keeps=keeps)
            there: sa.ColumnElement[int] = entries.c.version_id
            query = sa.select(sa.func.count(sa.distinct(entries.c.version_id)))
            if keeps:
                query = query.select_from(entries)
            else:
                there = version_there(destination_id)
                query = query.join(versions, versions.c.id == entries.c.version_id)
            query = query.join(
                holdings,
                sa.and_(
                    holdings.c.version_id == there, holdings.c.destination_id == destination_id
                ),
            ).where(
                entries.c.source_id == source_id,
                entries.c.state == EntryState.PRESENT,
                holdings.c.level >= level,
            )
            if not keeps:
                query = query.where(~was_replaced(destination_id))
            found = connection.scalar(_with_study(query, selection))
        return int(found or 0)

    def add_jobs(
        self, run_id: RunId, destination_id: DestinationId, planned: Sequence[PlannedJob]
    ) -> list[Job]:
        """Write jobs with their items; held items start as SENT, conflicts as CONFLICT.

        Versions that are items of the run at this destination already are left out, as are
        those whose entry was found to hold something else meanwhile, and jobs of which nothing
        remains.
        """
        with self.database.write() as connection:
            parent = ensure_run_destination(connection, run_id, destination_id)
            of_run = _versions_of_run(
                connection, parent, {item.version_id for job in planned for item in job.items}
            )
            entry_ids = _entry_ids(connection, parent, planned)
            left: list[tuple[PlannedJob, list[PlanItem]]] = []
            for job in planned:
                some = [
                    item
                    for item in job.items
                    if item.version_id not in of_run
                    and (item.entry.locator, item.version_id) in entry_ids
                ]
                of_run.update(item.version_id for item in some)
                if some:
                    left.append((job, some))
            keys = _write_jobs(connection, run_id, parent, left)
            insert_rows(connection, items, _ITEM_COLUMNS, _item_rows(keys, left, entry_ids))
            _note_source(connection, parent)
            return read_jobs(connection, keys)

    def drop_unstarted_jobs(self, run_id: RunId) -> None:
        """Forget the PENDING jobs of a run whose planning was interrupted."""
        with self.database.write() as connection:
            unstarted = connection.execute(
                sa.select(jobs)
                .join(run_destinations, run_destinations.c.id == jobs.c.run_destination_id)
                .join(runs, runs.c.id == run_destinations.c.run_id)
                .where(runs.c.run_id == run_id, jobs.c.state == JobState.PENDING)
            ).all()
            for some in chunks(unstarted):
                _drop_jobs(connection, some)


def _with_study(query: sa.Select[Any], selection: Selection) -> sa.Select[Any]:
    """Restrict a query over entries to those that are selected."""
    shown = versions.alias("shown")
    return (
        query.join(shown, shown.c.id == entries.c.version_id)
        .outerjoin(instances, instances.c.id == shown.c.instance_id)
        .outerjoin(series, series.c.id == instances.c.series_id)
        .outerjoin(studies, studies.c.id == series.c.study_id)
        .where(is_selected(selection))
    )


def ensure_run_destination(
    connection: sa.Connection, run_id: RunId, destination_id: DestinationId
) -> int:
    """Return the key of a run's part at one destination; KeyError for an unknown run."""
    found = find_run_destination(connection, run_id, destination_id)
    if found is None:
        run_key = connection.scalar(sa.select(runs.c.id).where(runs.c.run_id == run_id))
        if run_key is None:
            raise KeyError(run_id)
        insert_new(
            connection, run_destinations, [{"run_id": run_key, "destination_id": destination_id}]
        )
        found = find_run_destination(connection, run_id, destination_id)
    assert found is not None
    return found


def _versions_of_run(
    connection: sa.Connection, run_destination_id: int, version_ids: Collection[int]
) -> set[int]:
    query = (
        sa.select(items.c.version_id)
        .join(jobs, jobs.c.id == items.c.job_id)
        .where(
            jobs.c.run_destination_id == run_destination_id,
            among(connection, items.c.version_id, version_ids),
        )
    )
    return set(connection.scalars(query))


def _first_state(item: PlanItem) -> ItemState:
    if item.held:
        return ItemState.SENT
    return ItemState.CONFLICT if item.conflict else ItemState.DUE


def _write_jobs(
    connection: sa.Connection,
    run_id: RunId,
    run_destination_id: int,
    left: Sequence[tuple[PlannedJob, Sequence[PlanItem]]],
) -> Sequence[int]:
    """Write jobs, and count their items on the run; return their keys."""
    keys = new_keys(connection, jobs, len(left))
    rows = []
    totals: Counter[str] = Counter()
    for key, (planned, some) in zip(keys, left, strict=True):
        sizes = [item.entry.fingerprint.size for item in some]
        states = [_first_state(item) for item in some]
        counts = Counter(STATE_COUNTERS[state] for state in states)
        totals.update(counts, items=len(some), bytes=sum(sizes))
        totals["settled_bytes"] += sum(
            size for size, state in zip(sizes, states, strict=True) if state is ItemState.CONFLICT
        )
        rows.append(
            (
                key,
                f"{run_id}-j{key}",
                run_destination_id,
                planned.study_instance_uid,
                planned.series_instance_uid,
                JobState.PENDING.value,
                planned.priority.value,
                len(some),
                sum(sizes),
                *(counts[name] for name in STATE_COUNTERS.values()),
            )
        )
    insert_rows(connection, jobs, _JOB_COLUMNS, rows)
    add_to_run(connection, run_destination_id, totals)
    return keys


def _entry_ids(
    connection: sa.Connection, run_destination_id: int, planned: Sequence[PlannedJob]
) -> dict[tuple[str, int], int]:
    """Find the entries' rows by locator and version; where sources share both, the run's own."""
    own_source = connection.scalar(
        sa.select(runs.c.source_id)
        .join(run_destinations, run_destinations.c.run_id == runs.c.id)
        .where(run_destinations.c.id == run_destination_id)
    )
    wanted = {item.version_id for job in planned for item in job.items}
    query = sa.select(
        entries.c.id, entries.c.locator, entries.c.version_id, entries.c.source_id
    ).where(among(connection, entries.c.version_id, wanted))
    found: dict[tuple[str, int], int] = {}
    for key, locator, version_id, source_id in connection.execute(query.order_by(entries.c.id)):
        if source_id == own_source or (locator, version_id) not in found:
            found[locator, version_id] = key
    return found


def _item_rows(
    keys: Sequence[int],
    left: Sequence[tuple[PlannedJob, Sequence[PlanItem]]],
    entry_ids: Mapping[tuple[str, int], int],
) -> Iterator[tuple[Any, ...]]:
    for key, (_planned, some) in zip(keys, left, strict=True):
        for position, item in enumerate(some):
            fingerprint = item.entry.fingerprint
            yield (
                key,
                position,
                item.version_id,
                entry_ids[item.entry.locator, item.version_id],
                fingerprint.size,
                fingerprint.mtime_ns,
                in_driver_terms(fingerprint.inode),
                _first_state(item).value,
                item.reason,
                item.held,
                item.conflict,
                item.earlier_version_there,
            )


def _note_source(connection: sa.Connection, run_destination_id: int) -> None:
    """Say which source a run is about that makes no pass over it (a verification)."""
    connection.execute(
        sa.update(runs)
        .where(
            runs.c.id
            == sa.select(run_destinations.c.run_id)
            .where(run_destinations.c.id == run_destination_id)
            .scalar_subquery(),
            runs.c.source_id.is_(None),
        )
        .values(
            source_id=sa.select(entries.c.source_id)
            .join(items, items.c.entry_id == entries.c.id)
            .join(jobs, jobs.c.id == items.c.job_id)
            .where(jobs.c.run_destination_id == run_destination_id)
            .limit(1)
            .scalar_subquery()
        )
    )


def read_jobs(connection: sa.Connection, keys: Sequence[int]) -> list[Job]:
    """Read jobs by key, in the order of the keys."""
    found: dict[int, Job] = {}
    for some in chunks(keys):
        rows = connection.execute(select_jobs().where(jobs.c.id.in_(some)))
        found |= {row.id: job_of(row) for row in rows}
    return [found[key] for key in keys]


@cache
def select_jobs() -> sa.Select[Any]:
    """Return the query that `job_of` reads."""
    return (
        sa.select(jobs, runs.c.run_id, run_destinations.c.destination_id)
        .join(run_destinations, run_destinations.c.id == jobs.c.run_destination_id)
        .join(runs, runs.c.id == run_destinations.c.run_id)
    )


def _drop_jobs(connection: sa.Connection, dropped: Sequence[Any]) -> None:
    keys = [job.id for job in dropped]
    settled = {
        row.job_id: int(row.bytes)
        for row in connection.execute(
            sa.select(items.c.job_id, sa.func.sum(items.c.size).label("bytes"))
            .where(items.c.job_id.in_(keys), items.c.state.not_in(OPEN_STATES))
            .group_by(items.c.job_id)
        )
    }
    connection.execute(sa.delete(items).where(items.c.job_id.in_(keys)))
    connection.execute(sa.delete(jobs).where(jobs.c.id.in_(keys)))
    changes: dict[int, Counter[str]] = defaultdict(Counter)
    for job in dropped:
        of_part = changes[job.run_destination_id]
        for counter in STATE_COUNTERS.values():
            of_part[counter] -= getattr(job, counter)
        of_part["items"] -= job.instances
        of_part["bytes"] -= job.bytes
        of_part["settled_bytes"] -= settled.get(job.id, 0)
    for run_destination_id, of_part in sorted(changes.items()):
        add_to_run(connection, run_destination_id, of_part)
