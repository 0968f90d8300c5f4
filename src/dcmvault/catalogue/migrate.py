"""Bringing the schema up to date when the catalogue is opened."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

import dcmvault.catalogue.account_tables
import dcmvault.catalogue.live_tables
import dcmvault.catalogue.matrix_tables
import dcmvault.catalogue.monitoring_tables
import dcmvault.catalogue.notice_tables
import dcmvault.catalogue.worker_tables  # noqa: F401  (their place in the schema)
from dcmvault.catalogue.database import Database
from dcmvault.catalogue.tables import metadata
from dcmvault.errors import StateError

#: Schema revisions that this release knows, oldest first; the last is what it works with.
REVISIONS = (
    *("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008"),
    *("0016", "0015", "0011", "0012", "0013", "0014", "0017", "0020", "0018", "0019"),
    *("0024", "0021", "0025", "0023", "0022", "0026"),
)

#: Any number, as long as nobody else takes the same advisory lock in our database.
_ADVISORY_LOCK = 0x64636D7661756C74


def migrate(database: Database) -> None:
    """Upgrade the schema to the newest revision known here; nothing to do is the fast path.

    One transaction under a lock: processes that open at once wait for the first.
    Raises StateError for a schema of a newer release.
    """
    with database.read() as connection:
        if _is_current(connection):
            return
        path = connection.engine.url.database if database.is_sqlite else None
    with _file_lock(path), database.write() as connection:
        database.lock_until_commit(connection, _ADVISORY_LOCK)
        if _is_new(connection):
            _make(connection)
        elif not _is_current(connection):
            _upgrade(connection)


def _is_new(connection: sa.Connection) -> bool:
    return {"alembic_version", *metadata.tables}.isdisjoint(
        sa.inspect(connection).get_table_names()
    )


def _make(connection: sa.Connection) -> None:
    """Make the newest schema at once: the same as by all revisions, in a tenth of the time."""
    metadata.create_all(connection)
    connection.execute(
        sa.text(
            "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL,"
            " CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
        )
    )
    connection.execute(
        sa.text("INSERT INTO alembic_version VALUES (:newest)"), {"newest": REVISIONS[-1]}
    )


def _is_current(connection: sa.Connection) -> bool:
    if not sa.inspect(connection).has_table("alembic_version"):
        return False
    found = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    if found is not None and found not in REVISIONS:
        raise StateError(
            f"the catalogue was written by a newer release of dcmvault (schema {found},"
            f" this release knows up to {REVISIONS[-1]})",
            hint="use that release, or a newer one",
        )
    return bool(found == REVISIONS[-1])


def _upgrade(connection: sa.Connection) -> None:
    # Alembic takes a third of a second to import, and is needed once per release.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config(attributes={"connection": connection})
    folder = str(Path(__file__).with_name("migrations"))
    config.set_main_option("script_location", folder.replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    command.upgrade(config, "head")


@contextmanager
def _file_lock(database_path: str | None) -> Iterator[None]:
    """Keep other processes out while a file is set up.

    The lock has its own file: closing any descriptor of the database would drop SQLite's locks.
    """
    if database_path is None:
        yield
        return
    descriptor = os.open(f"{database_path}.opening", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
