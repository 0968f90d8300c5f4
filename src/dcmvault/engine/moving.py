"""Moving durable work from an embedded database to PostgreSQL."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dcmvault.engine.database import WorkDatabase
from dcmvault.errors import StateError, UsageError
from dcmvault.ports.moving import MovedTable

#: Writes rows, by the names of their columns, into a table of PostgreSQL.
CopyRows = Callable[[sa.Connection, sa.Table, Sequence[str], Iterable[Sequence[Any]]], None]

_SCHEMA = "dbos"
_ROWS = 5_000
#: The engine's own bookkeeping of its schema and releases: each database has its own.
_ITS_OWN = frozenset({"dbos_migrations", "application_versions"})


def prepare_target(url: str) -> None:
    """Make the tables of durable work in a PostgreSQL database. Raises StateError."""
    database = WorkDatabase(url)
    try:
        database.prepare()
    finally:
        database.dispose()


def move_work(
    source: Path, target: sa.Connection, copy_rows: CopyRows, told: Callable[[MovedTable], None]
) -> None:
    """Copy all durable work within the target's transaction, and compare each table.

    What was being carried out goes back to its queue: no worker there is the one that had it.
    UsageError where the target has work of its own, StateError where a table is not equal.
    """
    database = WorkDatabase(source)
    try:
        with database.prepare().connect() as reading:
            old, new = sa.MetaData(), sa.MetaData()
            old.reflect(reading)
            new.reflect(target, schema=_SCHEMA)
            # Nobody writes there meanwhile; it is not changed.
            reading.exec_driver_sql("BEGIN IMMEDIATE")
            tables = [t for t in new.sorted_tables if t.name in old.tables]
            for table in tables:
                if table.name not in _ITS_OWN:
                    old_table = old.tables[table.name]
                    told(_move_table(reading, old_table, target, table, copy_rows))
            workflows = new.tables[f"{_SCHEMA}.workflow_status"]
            target.execute(
                sa.update(workflows)
                .where(workflows.c.status == "PENDING", workflows.c.queue_name.is_not(None))
                .values(status="ENQUEUED", executor_id=None, started_at_epoch_ms=None)
            )
            reading.rollback()
    finally:
        database.dispose()


def _move_table(
    source: sa.Connection,
    old: sa.Table,
    target: sa.Connection,
    new: sa.Table,
    copy_rows: CopyRows,
) -> MovedTable:
    if target.execute(sa.select(sa.literal(1)).select_from(new).limit(1)).first():
        raise UsageError(
            f"the database has durable work already ({new.name})",
            hint="name an empty database; nothing was moved",
        )
    names = [column.name for column in old.columns if column.name in new.columns]
    query = sa.select(*(sa.type_coerce(old.c[name], sa.types.NullType()) for name in names))
    before = _Digest()

    def as_new() -> Iterator[list[Any]]:
        for row in source.execute(query.execution_options(yield_per=_ROWS)):
            values = [_of_type(new.c[name], value) for name, value in zip(names, row, strict=True)]
            before.add(values)
            yield values

    copy_rows(target, new, names, as_new())
    after = _Digest()
    moved = sa.select(*(new.c[name] for name in names)).execution_options(yield_per=_ROWS)
    for row in target.execute(moved):
        after.add(list(row))
    if before.result() != after.result():
        raise StateError(
            f"the table {old.name} is not the same after the move",
            hint="nothing was moved; the installation as it was goes on",
        )
    return MovedTable(f"{_SCHEMA}.{old.name}", *after.result())


class _Digest:
    """Counts rows and digests them, whatever their order is."""

    def __init__(self) -> None:
        self._count = self._total = 0

    def add(self, values: list[Any]) -> None:
        text = repr(values).encode("utf-8", "surrogatepass")
        self._count += 1
        self._total += int.from_bytes(hashlib.sha256(text).digest())

    def result(self) -> tuple[int, str]:
        return self._count, f"{self._total % (1 << 256):064x}"


def _of_type(column: sa.Column[Any], value: Any) -> Any:
    """Make of what SQLite keeps what PostgreSQL keeps."""
    if value is None:
        return None
    if isinstance(column.type, sa.Boolean):
        return bool(value)
    if isinstance(column.type, sa.JSON):
        return json.loads(value)
    if isinstance(column.type, sa.Float):
        return float(value)
    return value
