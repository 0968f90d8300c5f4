"""Counters of item states on jobs and on runs: progress must not count items."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import sqlalchemy as sa

from dcmvault.catalogue.database import chunks
from dcmvault.catalogue.tables import STATE_COUNTERS, jobs, run_destinations
from dcmvault.model.job import ItemState

#: States that an item leaves again.
OPEN_STATES = frozenset({ItemState.DUE, ItemState.WAITING, ItemState.SENT})
#: States in which an item is still to be delivered.
UNDELIVERED_STATES = frozenset({ItemState.DUE, ItemState.WAITING})


class Move(NamedTuple):
    """An item's way from one state to another."""

    job_key: int
    old: ItemState
    new: ItemState
    size: int  #: bytes of the source file


def count_moves(connection: sa.Connection, moves: Iterable[Move]) -> None:
    """Bring the counters of jobs and of their runs up to date; in the items' transaction."""
    by_job: dict[int, Counter[str]] = defaultdict(Counter)
    settled: Counter[int] = Counter()
    for move in moves:
        if move.old is move.new:
            continue
        by_job[move.job_key][STATE_COUNTERS[move.old]] -= 1
        by_job[move.job_key][STATE_COUNTERS[move.new]] += 1
        settled[move.job_key] += move.size * ((move.old in OPEN_STATES) - (move.new in OPEN_STATES))
    if not by_job:
        return
    parents: dict[int, int] = {}
    for some in chunks(sorted(by_job)):
        query = sa.select(jobs.c.id, jobs.c.run_destination_id).where(jobs.c.id.in_(some))
        parents |= {row.id: row.run_destination_id for row in connection.execute(query)}
    by_parent: dict[int, Counter[str]] = defaultdict(Counter)
    for job_key, changes in sorted(by_job.items()):
        _add(connection, jobs, job_key, changes)
        by_parent[parents[job_key]].update(changes)
        by_parent[parents[job_key]]["settled_bytes"] += settled[job_key]
    for parent, changes in sorted(by_parent.items()):
        _add(connection, run_destinations, parent, changes)


def add_to_run(
    connection: sa.Connection, run_destination_id: int, changes: Mapping[str, int]
) -> None:
    """Add to counters of a run at one destination."""
    _add(connection, run_destinations, run_destination_id, changes)


def _add(connection: sa.Connection, table: sa.Table, key: int, changes: Mapping[str, int]) -> None:
    values: dict[str, Any] = {
        name: table.c[name] + change for name, change in changes.items() if change
    }
    if values:
        connection.execute(sa.update(table).where(table.c.id == key).values(values))


def count_of(row: Any, *states: ItemState) -> int:
    """Sum a row's counters of these states."""
    return sum(getattr(row, STATE_COUNTERS[state]) for state in states)
