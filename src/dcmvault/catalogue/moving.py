"""Moving all that an embedded catalogue knows to PostgreSQL, and comparing every row there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dcmvault.catalogue.database import Database, connect
from dcmvault.catalogue.migrate import migrate
from dcmvault.catalogue.tables import metadata
from dcmvault.errors import StateError, UsageError
from dcmvault.ports.moving import MovedTable

#: Rows that are read and written at a time.
_ROWS = 5_000


@contextmanager
def moving(source: Path, target_url: str) -> Iterator[Move]:
    """Open both catalogues for a move; it is committed as a whole when the block ends well.

    The source cannot be written to meanwhile, and is never changed. UsageError where the target
    knows something already; StateError where one of the two cannot be used.
    """
    old, new = connect(str(source)), connect(target_url)
    try:
        migrate(old)
        migrate(new)
        with old.write() as reading, new.write() as writing:
            _require_empty(writing)
            yield Move(old, reading, writing)
    finally:
        old.close()
        new.close()


@dataclass(frozen=True, slots=True)
class Move:
    """A move that goes on; others may write in the same transaction, by `target`."""

    old: Database
    source: sa.Connection
    target: sa.Connection

    def carry_out(self, told: Callable[[MovedTable], None]) -> None:
        """Copy all tables and compare each; StateError for one that is not equal there."""
        for table in metadata.sorted_tables:
            told(move_table(self.source, table, self.target, table))
        for table in metadata.sorted_tables:
            _go_on_counting(self.target, table)


def move_table(
    source: sa.Connection, old: sa.Table, target: sa.Connection, new: sa.Table
) -> MovedTable:
    """Copy a table; read both sides again, and compare counts and digests of all rows."""
    columns = [column.name for column in old.columns if column.name in new.columns]
    query = sa.select(*(old.c[name] for name in columns))
    rows = source.execute(query.execution_options(yield_per=_ROWS))
    copy_rows(target, new, columns, rows)
    before = digest_of(source, query)
    after = digest_of(target, sa.select(*(new.c[name] for name in columns)))
    if before != after:
        raise StateError(
            f"the table {old.name} is not the same after the move",
            hint="nothing was moved; the installation as it was goes on",
        )
    return MovedTable(old.name, *before)


def copy_rows(
    target: sa.Connection, table: sa.Table, names: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    """Write rows into a table of PostgreSQL by COPY, within the transaction that is open.

    StateError for a row that cannot be kept.
    """
    quote = target.dialect.identifier_preparer
    columns = ", ".join(quote.quote(name) for name in names)
    statement = " ".join(("COPY", quote.format_table(table), f"({columns})", "FROM STDIN"))
    as_kept = [
        table.c[name].type.dialect_impl(target.dialect).bind_processor(target.dialect)
        for name in names
    ]
    driver: Any = target.connection.driver_connection
    errors: Any = target.dialect.loaded_dbapi
    try:
        with (
            driver.cursor() as cursor,
            cursor.copy(statement) as copy,
        ):
            for row in rows:
                copy.write_row(
                    [
                        value if process is None else process(value)
                        for process, value in zip(as_kept, row, strict=True)
                    ]
                )
    except errors.DataError as error:
        raise StateError(
            f"a row of the table {table.name} cannot be kept by PostgreSQL",
            hint="nothing was moved; report it, please, with the log",
        ) from error
    except errors.Error as error:
        raise StateError(
            f"the table {table.name} could not be written ({type(error).__name__})",
            hint="check the database server; nothing was moved, and the same command begins anew",
        ) from error


def digest_of(connection: sa.Connection, query: sa.Select[Any]) -> tuple[int, str]:
    """Count rows, and digest them whatever their order is: the sum of all rows' SHA-256."""
    count = total = 0
    for rows in connection.execute(query.execution_options(yield_per=_ROWS)).partitions():
        count += len(rows)
        for row in rows:
            values = repr([_plain(value) for value in row]).encode("utf-8", "surrogatepass")
            total += int.from_bytes(hashlib.sha256(values).digest())
    return count, f"{total % (1 << 256):064x}"


def _plain(value: object) -> object:
    """Make values alike that two databases' drivers return as different types."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, memoryview | bytearray):
        return bytes(value)
    return value


def _require_empty(target: sa.Connection) -> None:
    filled: Sequence[str] = [
        table.name
        for table in metadata.sorted_tables
        if target.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).first()
    ]
    if filled:
        raise UsageError(
            f"the database is in use already: {', '.join(filled)}",
            hint="name an empty database; nothing was moved",
        )


def _go_on_counting(target: sa.Connection, table: sa.Table) -> None:
    """Have new keys come after those that were moved."""
    for column in table.primary_key:
        sequence = target.scalar(sa.select(sa.func.pg_get_serial_sequence(table.name, column.name)))
        if sequence is None:
            continue
        newest = target.scalar(sa.select(sa.func.max(column)))
        if newest is not None:
            target.execute(sa.select(sa.func.setval(sequence, newest)))
