"""Rows in bulk: many looked up, given keys and inserted, by one statement each.

A pass over a large source writes millions of rows; SQLAlchemy's way of binding each value costs
more than the database does.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql


def among(
    connection: sa.Connection, column: sa.ColumnElement[Any], values: Collection[str | int]
) -> sa.ColumnElement[bool]:
    """Say that a column is one of these values, however many; they are one parameter."""
    if connection.dialect.name == "sqlite":
        listed = sa.func.json_each(json.dumps(list(values))).table_valued("value")
        return column.in_(sa.select(listed.c.value))
    kind = sa.Text if isinstance(next(iter(values), 0), str) else sa.BigInteger
    return column == sa.any_(sa.literal(list(values), postgresql.ARRAY(kind)))


def new_keys(connection: sa.Connection, table: sa.Table, count: int) -> Sequence[int]:
    """Return keys for as many new rows, ascending; in a transaction that writes.

    On SQLite nobody else writes before it ends, so they follow the largest.
    """
    if connection.dialect.name == "sqlite":
        if table.dialect_options["sqlite"]["autoincrement"]:
            last = connection.exec_driver_sql(
                "SELECT seq FROM sqlite_sequence WHERE name = ?", (table.name,)
            ).scalar()
        else:
            last = connection.scalar(sa.select(sa.func.max(table.c.id)))
        first = int(last or 0) + 1
        return range(first, first + count)
    drawn = sa.text(
        "SELECT nextval(pg_get_serial_sequence(:name, 'id')) FROM generate_series(1, :count)"
    )
    return sorted(connection.scalars(drawn, {"name": table.name, "count": count}))


def insert_rows(
    connection: sa.Connection,
    table: sa.Table,
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
) -> None:
    """Insert rows of values that the driver takes as they are: text is storable, words plain."""
    listed = list(rows)
    if listed:
        connection.exec_driver_sql(
            _insert_statement(connection.dialect.name, table.name, tuple(columns)), listed
        )


@cache
def _insert_statement(dialect: str, table: str, columns: tuple[str, ...]) -> str:
    marker = "?" if dialect == "sqlite" else "%s"
    values = ", ".join([marker] * len(columns))
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({values})"  # noqa: S608


def in_driver_terms(inode: int) -> int:
    """Turn an unsigned 64-bit number into what `tables.Unsigned` stores."""
    return inode - (1 << 64) if inode >= 1 << 63 else inode


def slices(values: Sequence[Any], size: int = 5_000) -> Iterator[Sequence[Any]]:
    """Cut into pieces that one statement takes without needing much memory."""
    for start in range(0, len(values), size):
        yield values[start : start + size]
