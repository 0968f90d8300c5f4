"""The database under the catalogue: how it is opened, and what a transaction is."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from dcmvault.errors import StateError

#: Bound parameters per statement stay far below every database's limit.
CHUNK = 500
#: How long a writer waits for another process's transaction.
_BUSY_TIMEOUT_MS = 60_000

_T = TypeVar("_T")


def chunks(values: Sequence[_T], size: int = CHUNK) -> Iterator[Sequence[_T]]:
    """Cut a sequence into pieces of at most `size`."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


class Database:
    """One SQLite file or PostgreSQL database; safe for several threads and processes.

    A write transaction on SQLite takes the write lock when it begins, so that it never fails
    half-way because another writer came first.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._readers = engine
        self._writers = engine.execution_options(dcmvault_write=True)
        self._joined = threading.local()

    @property
    def is_sqlite(self) -> bool:
        """Whether this is an embedded file."""
        return self._readers.dialect.name == "sqlite"

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Open a transaction that only reads; never hold it while a caller works."""
        joined: sa.Connection | None = getattr(self._joined, "connection", None)
        if joined is not None:
            yield joined
            return
        with _as_state_errors(), self._readers.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """Open a transaction that writes: durable when left, undone by any exception."""
        joined: sa.Connection | None = getattr(self._joined, "connection", None)
        if joined is not None:
            yield joined
            return
        with _as_state_errors(), self._writers.begin() as connection:
            yield connection

    @contextmanager
    def together(self) -> Iterator[None]:
        """Have this thread's transactions inside be one, which writes."""
        with self.write() as connection:
            outermost = getattr(self._joined, "connection", None) is None
            self._joined.connection = connection
            try:
                yield
            finally:
                if outermost:
                    self._joined.connection = None

    def lock_until_commit(self, connection: sa.Connection, number: int) -> None:
        """Keep other writers out who take the same lock; on SQLite there is one writer anyway."""
        if not self.is_sqlite:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(number)))

    def close(self) -> None:
        """Close all connections."""
        self._readers.dispose()


@contextmanager
def _as_state_errors() -> Iterator[None]:
    """Turn what the database cannot do now into an error for people.

    Only the driver's own sentence is passed on: SQLAlchemy's would show statement and values.
    """
    try:
        yield
    except sa.exc.OperationalError as error:
        raise StateError(
            f"the catalogue cannot be used: {_first_line(error.orig)}",
            hint="check free space and permissions of the state folder, or the database server",
        ) from error
    except sa.exc.DatabaseError as error:
        if type(error) is not sa.exc.DatabaseError:
            raise
        # sqlite3 raises the bare class for "file is not a database" and "image is malformed".
        raise StateError(
            f"the catalogue is damaged: {_first_line(error.orig)}",
            hint="restore the catalogue file from a copy, or move it away to begin a new one",
        ) from error


def _first_line(error: object) -> str:
    return str(error).strip().split("\n", 1)[0]


def connect(url_or_path: str) -> Database:
    """Open the database of a `postgresql://` URL or of a file path, made if absent (mode 0600).

    Raises StateError when it cannot be opened. The schema is not looked at here.
    """
    if url_or_path.startswith(("postgresql://", "postgresql+psycopg://")):
        return Database(_postgresql_engine(url_or_path))
    if "://" in url_or_path:
        raise StateError(
            "the catalogue's database is neither a file nor a postgresql:// URL",
            hint="give a path, or postgresql://user@host/database",
        )
    return Database(_sqlite_engine(Path(url_or_path)))


def _postgresql_engine(url: str) -> sa.Engine:
    try:
        parsed = sa.make_url(url).set(drivername="postgresql+psycopg")
        # Values are hidden in errors: they are patient data.
        engine = sa.create_engine(parsed, hide_parameters=True, pool_pre_ping=True)
        sa.event.listen(engine, "connect", _compile_nothing)
        return engine
    except (sa.exc.ArgumentError, ModuleNotFoundError) as error:
        raise StateError(
            "the PostgreSQL database of the catalogue cannot be opened",
            hint="write postgresql://user@host/database and install dcmvault[postgresql]",
        ) from error


def _compile_nothing(connection: Any, _record: object) -> None:
    """Have PostgreSQL not compile our questions: each is about a page, and done before that."""
    with connection.cursor() as cursor:
        cursor.execute("SET jit = off")
    connection.commit()


def _sqlite_engine(path: Path) -> sa.Engine:
    _prepare_file(path)
    engine = sa.create_engine(
        sa.URL.create("sqlite+pysqlite", database=str(path)),
        hide_parameters=True,
        connect_args={"timeout": _BUSY_TIMEOUT_MS / 1000},
        # Each connection has a cache of its own: the one that was used last is used again, so that
        # not all of them come to hold the same.
        pool_use_lifo=True,
    )
    sa.event.listen(engine, "connect", _set_up_connection)
    sa.event.listen(engine, "checkin", _give_memory_back)
    sa.event.listen(engine, "begin", _begin)
    return engine


def _prepare_file(path: Path) -> None:
    """Make the file before SQLite does: it gives -wal and -shm the mode of the main file."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            if stat.S_IMODE(path.stat().st_mode) & 0o077:
                path.chmod(0o600)
    except OSError as error:
        raise StateError(
            f"the catalogue's file cannot be made or opened: {error.strerror}",
            hint="check that the state folder exists and belongs to you",
        ) from error


def _set_up_connection(connection: sqlite3.Connection, record: object) -> None:  # noqa: ARG001 - SQLAlchemy's signature
    # The driver must not begin transactions by itself; `_begin` does.
    connection.isolation_level = None
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
        "cache_size = -32768",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _give_memory_back(connection: sqlite3.Connection | None, record: object) -> None:  # noqa: ARG001 - SQLAlchemy's signature
    # Else each connection that waits keeps pages, in the end the whole cache; the system has them.
    if connection is not None:
        connection.execute("PRAGMA shrink_memory")


def _begin(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("dcmvault_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def insert_new(
    connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, object]]
) -> None:
    """Insert rows, leaving out those whose unique key is there already."""
    if rows:
        connection.execute(
            _insert(connection.dialect.name, table).on_conflict_do_nothing(), list(rows)
        )


def upsert(
    connection: sa.Connection,
    table: sa.Table,
    rows: Sequence[Mapping[str, object]],
    keep: Iterable[str] = (),
) -> None:
    """Insert rows, or write them over those with the same primary key.

    Columns in `keep` are written by an insert only. All rows name the same columns.
    """
    if not rows:
        return
    statement = _upsert(connection.dialect.name, table, tuple(rows[0]), frozenset(keep))
    connection.execute(statement, list(rows))


@cache
def _upsert(dialect: str, table: sa.Table, columns: Sequence[str], keep: frozenset[str]) -> Any:
    statement = _insert(dialect, table)
    key = [column.name for column in table.primary_key]
    return statement.on_conflict_do_update(
        index_elements=key,
        set_={name: statement.excluded[name] for name in columns if name not in {*key, *keep}},
    )


def _insert(dialect: str, table: sa.Table) -> Any:
    """Return the dialect's INSERT with ON CONFLICT; the two share their methods, not a type."""
    return sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)


def named_id(connection: sa.Connection, table: sa.Table, name: str) -> int:
    """Return the key of the row with this `name`, made at first sight."""
    query = sa.select(table.c.id).where(table.c.name == name)
    found = connection.scalar(query)
    if found is None:
        insert_new(connection, table, [{"name": name}])
        found = connection.scalar(query)
    assert found is not None
    return int(found)
