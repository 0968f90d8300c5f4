"""Where durable work is written down: a SQLite file of ours, or a PostgreSQL database."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from dbos import DBOS
from dbos import error as dbos_error
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from dcmvault.engine.log import route_engine_log
from dcmvault.errors import ConfigurationError, StateError

#: How long a connection waits for another process's write (milliseconds).
_BUSY_TIMEOUT_MS = 30_000
#: PostgreSQL ends a session that stays idle in a transaction for so long: a frozen worker must
#: not hold locks for ever (milliseconds).
_IDLE_TRANSACTION_MS = 60_000
#: Connections that stay open, and further ones at a time; who needs one beyond waits for it, so
#: many seconds at most. One to a file is opened in no time, and keeps files and a cache of its own
#: as long as it stays; and all of them write one after the other anyway.
_KEPT, _MORE = 20, 20
_KEPT_EMBEDDED, _MORE_EMBEDDED = 5, 5
_WAIT_S = 60.0


class WorkDatabase:
    """The database of durable work, of which any number of processes may hold one.

    `address` is the path of a SQLite file (created with mode 0600) or a `postgresql://` URL;
    ConfigurationError if it is neither.
    """

    def __init__(self, address: Path | str) -> None:
        if isinstance(address, Path):
            self.path: Path | None = address
            self._url = sa.URL.create("sqlite", database=str(address))
        else:
            self.path = None
            self._url = _server_url(address)
        self._lock = threading.Lock()
        self._engine: sa.Engine | None = None

    @property
    def is_embedded(self) -> bool:
        """Whether the database is a SQLite file: one worker at most."""
        return self.path is not None

    def prepare(self) -> sa.Engine:
        """Create the database's tables, or bring them up to date, once; return its engine.

        Safe for processes that do it at the same time: they wait for each other at a lock file
        beside the SQLite file, or at an advisory lock of PostgreSQL. Raises StateError when the
        database cannot be used.
        """
        with self._lock:
            if self._engine is None:
                route_engine_log()
                try:
                    with self._alone():
                        self._create_file()
                        DBOS.migrate(self._url.render_as_string(hide_password=False))
                        self._engine = self._open()
                except (OSError, SQLAlchemyError, dbos_error.DBOSException) as error:
                    raise StateError(
                        f"The database of durable work cannot be opened ({type(error).__name__}).",
                        hint="Check the state folder or the database server, and free space.",
                    ) from error
            return self._engine

    def dispose(self) -> None:
        """Close the connections; a later `prepare` opens them again."""
        with self._lock:
            if self._engine is not None:
                self._engine.dispose()
                self._engine = None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        # SQLite itself does not wait when two processes turn a new file to WAL at once.
        if self.path is None:
            yield
            return
        lock_path = self.path.with_name(f"{self.path.name}.lock")
        descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _create_file(self) -> None:
        # Before SQLite does it, which would follow the umask; the -wal and -shm files inherit it.
        if self.path is not None:
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def _open(self) -> sa.Engine:
        # The pool serves one thread per queue and one per running workflow, briefly each.
        engine = sa.create_engine(
            self._url,
            pool_size=_KEPT_EMBEDDED if self.is_embedded else _KEPT,
            max_overflow=_MORE_EMBEDDED if self.is_embedded else _MORE,
            pool_timeout=_WAIT_S,
            pool_pre_ping=True,
            pool_use_lifo=True,
        )
        sa.event.listen(engine, "connect", _set_up_sqlite if self.is_embedded else _set_up_server)
        with engine.connect():
            pass
        return engine


def _server_url(address: str) -> sa.URL:
    try:
        url = sa.make_url(address)
    except ArgumentError:
        url = None
    if url is None or url.get_backend_name() != "postgresql":
        raise ConfigurationError(
            "The database must be given as postgresql://USER@HOST/NAME.",
            hint="Leave `database` out to keep everything in the state folder.",
        )
    return url.set(drivername="postgresql+psycopg")


def _set_up_sqlite(connection: Any, _record: object) -> None:
    # A transaction takes the write lock at once: one that upgraded later could only fail.
    connection.isolation_level = "IMMEDIATE"
    connection.execute(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA journal_mode=WAL")
    # What is said to be done survives a power cut (NORMAL would only survive a crash).
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


def _set_up_server(connection: Any, _record: object) -> None:
    connection.execute(f"SET idle_in_transaction_session_timeout = {_IDLE_TRANSACTION_MS}")
    connection.commit()
