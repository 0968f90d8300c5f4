"""The schema that revisions make is the one that the code works with."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import dcmvault.catalogue.migrations
from dcmvault.catalogue import open_catalogue
from dcmvault.catalogue.database import Database, connect
from dcmvault.catalogue.migrate import REVISIONS, migrate
from dcmvault.catalogue.tables import metadata
from dcmvault.errors import StateError
from dcmvault.model.identifiers import DestinationId, RunId
from dcmvault.model.snapshot import SnapshotRef


def _differences(database: Database) -> list[object]:
    # SQLite quotes an empty default another way than it was given; PostgreSQL compares them.
    opts = {"compare_type": True, "compare_server_default": not database.is_sqlite}
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts=opts)
        return list(compare_metadata(context, metadata))


def _run_revisions(database: Database, up_to: str) -> None:
    with database.write() as connection:
        config = Config(attributes={"connection": connection})
        folder = str(Path(dcmvault.catalogue.migrations.__file__).parent)
        config.set_main_option("script_location", folder)
        config.set_main_option("path_separator", "os")
        command.upgrade(config, up_to)


_Make = Callable[[Database], None]
_WAYS = [
    pytest.param(lambda database: _run_revisions(database, "head"), id="by-revisions"),
    pytest.param(migrate, id="at-once"),
]


def _check_schema(url: str, make: _Make) -> None:
    database = connect(url)
    try:
        assert _differences(database) != []
        make(database)
        assert _differences(database) == []
        with database.read() as connection:
            version = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
        assert version == REVISIONS[-1]
        migrate(database)
    finally:
        database.close()


@pytest.mark.parametrize("make", _WAYS)
def test_the_tables_are_made_in_sqlite(tmp_path: Path, make: _Make) -> None:
    _check_schema(str(tmp_path / "catalogue.sqlite3"), make)


@pytest.mark.peers
@pytest.mark.parametrize("make", _WAYS)
def test_the_tables_are_made_in_postgresql(postgresql_url: str, make: _Make) -> None:
    _check_schema(postgresql_url, make)


def test_a_new_catalogue_has_what_revisions_make(tmp_path: Path) -> None:
    """In what a comparison of tables leaves out: conditions of indexes, how keys are counted."""
    found = []
    for name, make in (("at-once", migrate), ("revisions", partial(_run_revisions, up_to="head"))):
        database = connect(str(tmp_path / name))
        make(database)
        with database.read() as connection:
            rows = connection.execute(sa.text("SELECT name, type, sql FROM sqlite_master"))
            found.append({row.name: _about(row.type, row.sql or "") for row in rows})
        database.close()
    assert found[0] == found[1]


def _about(kind: str, statement: str) -> tuple[str, ...]:
    """Return what is compared; in a table the order of columns tells when they were added."""
    if kind == "index":
        return (statement,)
    return tuple(word for word in ("AUTOINCREMENT", "WITHOUT ROWID") if word in statement)


def test_what_was_known_of_copies_is_one_fact_of_each(tmp_path: Path) -> None:
    """The level and time of a holding become the fact of that level; claims have none."""
    database = connect(str(tmp_path / "catalogue.sqlite3"))
    _run_revisions(database, "0005")
    with database.write() as connection:
        for statement in (
            "INSERT INTO destinations (id, name) VALUES (1, '/copies')",
            *(f"INSERT INTO versions (id, size) VALUES ({n}, 1)" for n in range(1, 4)),
            "INSERT INTO holdings (destination_id, version_id, state, level, verified_at)"
            " VALUES (1, 1, 'held', 5, 500), (1, 2, 'held', 3, 300), (1, 3, 'sent', 1, NULL)",
        ):
            connection.execute(sa.text(statement))
    migrate(database)
    with database.read() as connection:
        names = "present_at, complete_at, committed_at, proven_at"
        rows = connection.execute(sa.text(f"SELECT {names} FROM holdings ORDER BY version_id"))
        found = [tuple(row) for row in rows]
    database.close()
    assert found == [(None, None, None, 500), (None, 300, None, None), (None, None, None, None)]


def test_a_catalogue_of_the_first_release_keeps_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.sqlite3"
    database = connect(str(path))
    _run_revisions(database, "0001")
    with database.write() as connection:
        for statement in (
            "INSERT INTO destinations (id, name) VALUES (1, '/copies')",
            "INSERT INTO sources (id, name) VALUES (1, '/source')",
            "INSERT INTO runs (id, run_id, request, kind, strategy, state, created_at)"
            " VALUES (1, 'run-1', '{}', 'backup', 'full', 'finished', 0)",
            "INSERT INTO run_destinations (run_id, destination_id, n_held) VALUES (1, 1, 7)",
        ):
            connection.execute(sa.text(statement))
    database.close()
    opened = open_catalogue(str(path))
    ref = SnapshotRef("00000001-aa", 1, datetime(2026, 1, 31, tzinfo=UTC))
    opened.snapshots.record_snapshot(DestinationId(1), ref, RunId("run-1"))
    assert opened.snapshots.known_snapshots(DestinationId(1)) == [ref]
    opened.close()
    with sqlite3.connect(path) as found:
        row = found.execute(
            "SELECT n_held, snapshot_failure_code, snapshots.run_id FROM run_destinations"
            " JOIN snapshots USING (destination_id)"
        ).fetchone()
    found.close()
    assert row == (7, "", 1)


def test_revisions_are_the_shipped_ones() -> None:
    folder = Path(dcmvault.catalogue.migrations.__file__).parent
    shipped = [script.revision for script in ScriptDirectory(str(folder)).walk_revisions()]
    assert tuple(reversed(shipped)) == REVISIONS


def _check_newer(url: str) -> None:
    open_catalogue(url).close()
    database = connect(url)
    with database.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()
    with pytest.raises(StateError, match="newer release"):
        open_catalogue(url)


def test_a_newer_schema_is_refused_in_sqlite(tmp_path: Path) -> None:
    _check_newer(str(tmp_path / "catalogue.sqlite3"))


@pytest.mark.peers
def test_a_newer_schema_is_refused_in_postgresql(postgresql_url: str) -> None:
    _check_newer(postgresql_url)


def _open_at_once(url: str) -> None:
    with ThreadPoolExecutor(4) as threads:
        for opened in threads.map(open_catalogue, [url] * 4):
            assert opened.status.sources() == []
            opened.close()


def test_opening_at_once_makes_one_schema_in_sqlite(tmp_path: Path) -> None:
    _open_at_once(str(tmp_path / "catalogue.sqlite3"))


@pytest.mark.peers
def test_opening_at_once_makes_one_schema_in_postgresql(postgresql_url: str) -> None:
    _open_at_once(postgresql_url)


def test_opening_a_new_or_up_to_date_catalogue_imports_no_alembic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "catalogue.sqlite3")
    for name in [name for name in sys.modules if name.split(".")[0] == "alembic"]:
        monkeypatch.delitem(sys.modules, name)
    open_catalogue(path).close()
    open_catalogue(path).close()
    assert "alembic" not in sys.modules
