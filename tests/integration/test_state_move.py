"""An embedded installation moves to PostgreSQL without losing a row, or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.conftest import RunDcmvault
from tests.integration.story import QUICK_RETRIES, instances, summary_of

from dcmvault.app.backup import make_requests, start
from dcmvault.app.wiring.workplace import open_workplace
from dcmvault.catalogue.tables import metadata
from dcmvault.config.settings import Settings
from dcmvault.engine.ownership import Ownership
from dcmvault.testing.dicom_files import make_study

pytestmark = pytest.mark.peers


@pytest.fixture
def url(postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    address = postgresql_url.replace("postgresql+psycopg://", "postgresql://")
    monkeypatch.setenv("THE_DATABASE", address)
    return address


def _rows(url: str) -> dict[str, int]:
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    found = {}
    with engine.connect() as connection:
        for table in sa.inspect(connection).get_table_names():
            count = sa.text(f'SELECT count(*) FROM "{table}"')
            found[table] = int(connection.scalar(count) or 0)
    engine.dispose()
    return found


def test_all_is_there_and_goes_on(
    run_dcmvault: RunDcmvault, home: Path, tmp_path: Path, url: str
) -> None:
    """What was held stays held, and a run that waits in the queue ends on the server."""
    source, copies = tmp_path / "studies", tmp_path / "copies"
    make_study(source / "a", key="move-a", series=2, instances=5)
    backup = ("backup", source, "--to", copies, "--json")
    summary_of(run_dcmvault(*backup))
    make_study(source / "b", key="move-b", instances=4)
    settings = Settings()
    with open_workplace(home, settings) as workplace:
        (request,) = make_requests(
            settings, sources=[str(source)], destinations=[str(copies)], level=None
        )
        waiting = start(workplace, request).run_id
    moved = run_dcmvault("state", "move", "--to", "env:THE_DATABASE", "--json")
    assert moved.returncode == 0, (moved.stdout, moved.stderr)
    said = json.loads(moved.stdout)
    rows = {table["name"]: table["rows"] for table in said["tables"]}
    assert rows["dbos.workflow_status"] > 1
    assert rows["instances"] == 10
    known = _rows(url)
    assert {name: known[name] for name in metadata.tables} == {
        name: rows[name] for name in metadata.tables
    }
    with (home / "audit" / "audit-000001.jsonl").open() as journal:
        told = [json.loads(line) for line in journal]
    moves = [one["outcome"] for one in told if one["event"] == "state.moved"]
    assert moves == ["begun", "success"]
    again = run_dcmvault("state", "move", "--to", "env:THE_DATABASE", "--json")
    assert again.returncode == 2
    assert (home / "catalogue.sqlite3").is_file()
    (home / "config.toml").write_text(f'database = "env:THE_DATABASE"\n{QUICK_RETRIES}')
    summary = summary_of(run_dcmvault(*backup))
    assert summary["run"] == waiting
    assert instances(summary) == {"selected": 4, "already_held": 10, "stored": 4}
    assert instances(summary_of(run_dcmvault(*backup))) == {"already_held": 14}


def test_nothing_moves_while_somebody_works(
    run_dcmvault: RunDcmvault, home: Path, tmp_path: Path, url: str
) -> None:
    make_study(tmp_path / "studies", key="move-works", instances=2)
    summary_of(run_dcmvault("backup", tmp_path / "studies", "--to", tmp_path / "copies", "--json"))
    ownership = Ownership(home)
    assert ownership.try_acquire()
    refused = run_dcmvault("state", "move", "--to", "env:THE_DATABASE", "--json")
    ownership.release()
    assert refused.returncode == 1
    assert json.loads(refused.stdout)["error"]["code"] == "state"
    assert not any(_rows(url).values())


def test_a_row_that_cannot_be_kept_leaves_nothing_there(
    run_dcmvault: RunDcmvault, home: Path, tmp_path: Path, url: str
) -> None:
    """PostgreSQL takes no NUL in a text; a move that fails half-way has moved nothing."""
    make_study(tmp_path / "studies", key="move-nul", instances=2)
    summary_of(run_dcmvault("backup", tmp_path / "studies", "--to", tmp_path / "copies", "--json"))
    engine = sa.create_engine(f"sqlite:///{home / 'catalogue.sqlite3'}")
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE sources SET name = :name"), {"name": "/a\0b"})
    engine.dispose()
    refused = run_dcmvault("state", "move", "--to", "env:THE_DATABASE", "--json")
    assert refused.returncode == 1, refused.stdout
    assert json.loads(refused.stdout)["error"]["code"] == "state"
    known = _rows(url)
    assert not any(known[name] for name in metadata.tables)
