"""The embedded file: its mode, its durability, its errors, and several users at once."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from dcmvault.catalogue import open_catalogue
from dcmvault.catalogue.database import connect
from dcmvault.catalogue.tables import studies
from dcmvault.errors import StateError
from dcmvault.model.identifiers import RunId
from dcmvault.model.plan import DestinationRequest, RunKind, RunRequest
from dcmvault.testing.catalogue_world import START, World, header, scanned

REQUEST = RunRequest(RunKind.BACKUP, "/library", (DestinationRequest("/copy"),))


def _modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


def test_every_file_is_private_while_open(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    opened = open_catalogue(str(folder / "catalogue.sqlite3"))
    opened.runs.ask_for_run(RunId("r"), REQUEST, START)
    modes = _modes(folder)
    opened.close()
    assert {"catalogue.sqlite3", "catalogue.sqlite3-wal", "catalogue.sqlite3-shm"} <= modes.keys()
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_file_that_others_can_read_is_made_private(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.sqlite3"
    open_catalogue(str(path)).close()
    path.chmod(0o644)
    open_catalogue(str(path)).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("pragma", "value"),
    [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1), ("busy_timeout", 60_000)],
)
def test_durability_is_switched_on(tmp_path: Path, pragma: str, value: object) -> None:
    database = connect(str(tmp_path / "catalogue.sqlite3"))
    with database.read() as connection:
        found = connection.exec_driver_sql(f"PRAGMA {pragma}").scalar()
    database.close()
    assert found == value


def test_a_file_that_is_no_database_is_named_so(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.sqlite3"
    path.write_bytes(b"not a database, but long enough to be looked at" * 100)
    with pytest.raises(StateError, match="not a database"):
        open_catalogue(str(path))


def test_a_folder_that_cannot_be_made_is_an_error_of_state(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StateError, match="cannot be made"):
        open_catalogue(str(tmp_path / "file" / "catalogue.sqlite3"))


@pytest.mark.parametrize(
    "url", ["mysql://host/database", "postgresql://u@127.0.0.1:1/x?connect_timeout=2"]
)
def test_a_database_out_of_reach_is_an_error_of_state(url: str) -> None:
    with pytest.raises(StateError):
        open_catalogue(url)


def test_errors_never_show_values(tmp_path: Path) -> None:
    opened = open_catalogue(str(tmp_path / "catalogue.sqlite3"))
    row = {"study_instance_uid": "2.25.1", "patient_name": "Doe^Jane"}
    with pytest.raises(sa.exc.IntegrityError) as caught, opened.database.write() as connection:
        connection.execute(sa.insert(studies), [row, row])
    opened.close()
    assert "Doe" not in str(caught.value)


def test_an_exception_undoes_the_whole_transaction(tmp_path: Path) -> None:
    opened = open_catalogue(str(tmp_path / "catalogue.sqlite3"))

    def fail_half_way() -> None:
        with opened.database.write() as connection:
            connection.execute(sa.insert(studies).values(study_instance_uid="2.25.1"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    counts = opened.status.counts()
    opened.close()
    assert counts["studies"] == 0


def test_a_reader_never_waits_for_a_writer(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.sqlite3"
    opened = open_catalogue(str(path))
    with opened.database.write() as connection:
        connection.execute(sa.insert(studies).values(study_instance_uid="2.25.1"))
        assert opened.status.counts()["studies"] == 0
    assert opened.status.counts()["studies"] == 1
    opened.close()


def test_writers_in_threads_take_turns(tmp_path: Path) -> None:
    opened = open_catalogue(str(tmp_path / "catalogue.sqlite3"))
    world = World(opened)
    run_id = world.run()

    def add(_: int) -> None:
        opened.runs.add_stage_seconds(run_id, {"read": 1.0})

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(add, range(40)))
    stages = opened.runs.report(run_id).stages
    opened.close()
    assert stages == {"read": 40.0}


PROGRAM = """
import sys
from dcmvault.catalogue import open_catalogue
from dcmvault.model.identifiers import RunId
catalogue = open_catalogue(sys.argv[1])
for _ in range(20):
    catalogue.runs.add_stage_seconds(RunId("first-0001"), {"read": 1.0})
catalogue.close()
"""


def test_writers_in_processes_take_turns(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.sqlite3"
    opened = open_catalogue(str(path))
    run_id = World(opened).run()
    assert run_id == "first-0001"
    others = [subprocess.Popen([sys.executable, "-c", PROGRAM, str(path)]) for _ in range(2)]
    assert [other.wait(timeout=60) for other in others] == [0, 0]
    stages = opened.runs.report(run_id).stages
    opened.close()
    assert stages == {"read": 40.0}


def test_patient_data_is_in_studies_only(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.sqlite3"
    opened = open_catalogue(str(path))
    head = header(1, 1, 1, patient_id="PATIENT-4711")
    World(opened).backup([scanned("a", "a", head)], {"a": "a"})
    opened.close()
    connection = sqlite3.connect(path)
    tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    with_patient = [
        name
        for (name,) in tables
        if "PATIENT-4711" in repr(connection.execute(f'SELECT * FROM "{name}"').fetchall())
    ]
    connection.close()
    assert with_patient == ["studies"]
