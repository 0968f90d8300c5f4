"""Several commands on one state folder: they share, take over, cancel, pause, and never hang."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.conftest import RunDcmvault, StartDcmvault
from tests.integration.story import QUICK_RETRIES, instances, summary_of

from dcmvault.catalogue import open_catalogue
from dcmvault.engine.client import DurableQueue
from dcmvault.engine.database import WorkDatabase
from dcmvault.model.identifiers import RunId
from dcmvault.model.job import JobState
from dcmvault.model.report import RunState
from dcmvault.testing.dicom_files import make_study
from dcmvault.testing.peer_faults import slow
from dcmvault.testing.peers import SimulatedPacs

_PATIENCE_S = 60.0
INSTANCES = 120


@pytest.fixture(autouse=True)
def _quick(home: Path) -> None:
    (home / "config.toml").write_text(QUICK_RETRIES)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    make_study(tmp_path / "source", series=6, instances=INSTANCES // 6)
    return tmp_path / "source"


@pytest.fixture
def slow_pacs() -> Iterator[SimulatedPacs]:
    """It takes a few seconds for all instances."""
    with SimulatedPacs(slow(0.1)) as pacs:
        yield pacs


def _address(pacs: SimulatedPacs) -> str:
    return f"dicom://{pacs.ae_title}@127.0.0.1:{pacs.port}"


def _await(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "the awaited condition did not come"
        time.sleep(0.01)


def _newest_run(home: Path) -> RunId:
    catalogue = open_catalogue(str(home / "catalogue.sqlite3"))
    try:
        return catalogue.runs.runs(1)[0].run_id
    finally:
        catalogue.close()


def test_a_follower_takes_over_from_a_killed_worker(
    start_dcmvault: StartDcmvault, slow_pacs: SimulatedPacs, source: Path
) -> None:
    command = ("backup", source, "--to", _address(slow_pacs), "--json", "--progress", "json")
    owner = start_dcmvault(*command)
    _await(lambda: slow_pacs.received)
    follower = start_dcmvault(*command)
    assert follower.stderr is not None
    first_line = json.loads(follower.stderr.readline())
    assert first_line["working"] is False
    owner.kill()
    owner.wait()
    out, told = follower.communicate(timeout=_PATIENCE_S)
    assert follower.returncode == 0, (out, told)
    assert json.loads(told.splitlines()[-1])["working"] is True
    assert len(slow_pacs.held()) == INSTANCES
    twice = sum(count - 1 for count in Counter(slow_pacs.received).values())
    assert twice <= slow_pacs.most_associations


def test_the_same_request_at_the_same_moment_is_one_run(
    start_dcmvault: StartDcmvault, slow_pacs: SimulatedPacs, source: Path
) -> None:
    command = ("backup", source, "--to", _address(slow_pacs), "--json")
    terminals = [start_dcmvault(*command) for _ in range(3)]
    answers = [terminal.communicate(timeout=_PATIENCE_S) for terminal in terminals]
    assert [terminal.returncode for terminal in terminals] == [0, 0, 0], answers
    assert len({json.loads(out)["run"] for out, _err in answers}) == 1
    assert max(Counter(slow_pacs.received).values()) == 1


def test_asking_at_once_makes_one_run(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    _ask_at_once(str(tmp_path / "catalogue.sqlite3"))


@pytest.mark.peers
def test_asking_at_once_makes_one_run_on_postgresql(postgresql_url: str) -> None:
    _ask_at_once(postgresql_url)


def _ask_at_once(address: str) -> None:
    """Eight processes open a catalogue that is not there yet, and ask for the same run."""
    script = """
import sys
from datetime import UTC, datetime
from dcmvault.catalogue import open_catalogue
from dcmvault.model.identifiers import new_run_id
from dcmvault.model.plan import DestinationRequest, RunKind, RunRequest
now = datetime.now(UTC)
request = RunRequest(RunKind.BACKUP, "/source", (DestinationRequest("/copies"),))
print(open_catalogue(sys.argv[1]).runs.ask_for_run(new_run_id(now), request, now))
"""

    def ask(_number: int) -> str:
        return subprocess.run(
            [sys.executable, "-c", script, address], check=True, capture_output=True, text=True
        ).stdout

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(ask, range(8)))) == 1


def test_overlapping_runs_at_once(
    start_dcmvault: StartDcmvault,
    run_dcmvault: RunDcmvault,
    slow_pacs: SimulatedPacs,
    source: Path,
    tmp_path: Path,
) -> None:
    """One source to a PACS; a part of it to the same PACS; all of it to a folder."""
    whole = ("backup", source, "--to", _address(slow_pacs), "--json")
    part = ("backup", source / "s03", "--to", _address(slow_pacs), "--json")
    folder = ("backup", source, "--to", tmp_path / "copies", "--json")
    terminals = [start_dcmvault(*command) for command in (whole, part, folder)]
    answers = [terminal.communicate(timeout=_PATIENCE_S) for terminal in terminals]
    assert [terminal.returncode for terminal in terminals] == [0, 0, 0], answers
    for out, _err in answers:
        counts = json.loads(out)["instances"]
        assert counts["stored"] == counts["selected"]
    for command, present in ((whole, 120), (part, 20), (folder, 120)):
        assert instances(summary_of(run_dcmvault(*command))) == {"already_held": present}
    assert len(slow_pacs.held()) == INSTANCES


def test_a_cancelled_run_ends_for_who_waits_for_it(
    start_dcmvault: StartDcmvault,
    run_dcmvault: RunDcmvault,
    slow_pacs: SimulatedPacs,
    source: Path,
    home: Path,
) -> None:
    command = ("backup", source, "--to", _address(slow_pacs), "--json")
    waiting = start_dcmvault(*command)
    _await(lambda: len(slow_pacs.received) >= 5)
    assert run_dcmvault("queue", "cancel", _newest_run(home)).returncode == 0
    out, told = waiting.communicate(timeout=_PATIENCE_S)
    assert waiting.returncode == 130, told
    cancelled = json.loads(out)["instances"]
    assert cancelled["selected"] == INSTANCES
    assert len(slow_pacs.received) < INSTANCES
    queue = json.loads(run_dcmvault("queue", "list", "--json").stdout)
    assert queue["jobs"] == []
    again = summary_of(run_dcmvault(*command))
    assert again["instances"]["stored"] == again["instances"]["selected"] > 0
    assert len(slow_pacs.held()) == INSTANCES
    assert max(Counter(slow_pacs.received).values()) <= 2


def test_a_cancelled_job_does_not_end_the_run(
    start_dcmvault: StartDcmvault,
    run_dcmvault: RunDcmvault,
    source: Path,
    home: Path,
) -> None:
    with SimulatedPacs(slow(0.25)) as slow_pacs:
        _cancel_a_job(start_dcmvault, run_dcmvault, slow_pacs, source, home)


def _cancel_a_job(
    start_dcmvault: StartDcmvault,
    run_dcmvault: RunDcmvault,
    slow_pacs: SimulatedPacs,
    source: Path,
    home: Path,
) -> None:
    command = ("backup", source, "--to", _address(slow_pacs), "--json")
    waiting = start_dcmvault(*command)
    _await(lambda: len(slow_pacs.received) >= 5)
    catalogue = open_catalogue(str(home / "catalogue.sqlite3"))
    running = next(job for job in catalogue.runs.jobs() if job.state is JobState.IN_PROGRESS)
    catalogue.close()
    cancelled = run_dcmvault("queue", "cancel", running.job_id)
    assert cancelled.returncode == 0, cancelled.stderr
    out, told = waiting.communicate(timeout=_PATIENCE_S)
    assert waiting.returncode == 3, told
    summary = json.loads(out)
    assert {failure["code"] for failure in summary["failures"]} <= {"cancelled", "unfinished"}
    assert summary["instances"]["failed"] > 0
    again = summary_of(run_dcmvault(*command))
    assert again["instances"]["stored"] == again["instances"]["selected"] > 0
    assert len(slow_pacs.held()) == INSTANCES


def test_a_pause_survives_and_is_said(
    start_dcmvault: StartDcmvault,
    run_dcmvault: RunDcmvault,
    slow_pacs: SimulatedPacs,
    source: Path,
) -> None:
    address = _address(slow_pacs)
    command = ("backup", source, "--to", address, "--json", "--progress", "json")
    first = start_dcmvault(*command)
    _await(lambda: len(slow_pacs.received) >= 5)
    assert run_dcmvault("queue", "pause", address).returncode == 0
    first.kill()
    first.wait()
    second = start_dcmvault(*command)
    assert second.stderr is not None
    for line in second.stderr:
        if json.loads(line)["paused"]:
            break
    assert second.poll() is None
    assert run_dcmvault("queue", "resume", address).returncode == 0
    out, _told = second.communicate(timeout=_PATIENCE_S)
    assert second.returncode == 0, out
    assert len(slow_pacs.held()) == INSTANCES


@pytest.mark.parametrize("how", ["cancelled in the engine", "forgotten by the engine"])
def test_a_run_whose_work_is_gone_is_not_waited_for(
    start_dcmvault: StartDcmvault,
    run_dcmvault: RunDcmvault,
    slow_pacs: SimulatedPacs,
    source: Path,
    home: Path,
    how: str,
) -> None:
    command = ("backup", source, "--to", _address(slow_pacs), "--json")
    process = start_dcmvault(*command)
    _await(lambda: len(slow_pacs.received) >= 5)
    process.kill()
    process.wait()
    run_id = _newest_run(home)
    if how == "cancelled in the engine":
        database = WorkDatabase(home / "engine.sqlite3")
        DurableQueue(database).cancel(run_id)
        database.dispose()
    else:
        for file in home.glob("engine.sqlite3*"):
            file.unlink()
    summary_of(run_dcmvault(*command))
    assert len(slow_pacs.held()) == INSTANCES
    catalogue = open_catalogue(str(home / "catalogue.sqlite3"))
    assert catalogue.runs.run(run_id).state in {RunState.FAILED, RunState.FINISHED}
    catalogue.close()


@pytest.mark.parametrize("largest_kib", [260, 340, 420, 600])
def test_a_full_disk_under_the_state_folder_ends_the_command(
    run_dcmvault: RunDcmvault, source: Path, tmp_path: Path, largest_kib: int
) -> None:
    """No file may grow: it ends with a sentence, and the next command brings everything."""
    command = ("backup", str(source), "--to", str(tmp_path / "copies"), "--json")
    limited = subprocess.run(
        [
            "/bin/sh",
            "-c",
            f'ulimit -f {2 * largest_kib}; exec "$@"',
            "sh",
            sys.executable,
            "-m",
            "dcmvault",
            *command,
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert limited.returncode in {0, 1, 3}, limited.stderr
    assert json.loads(limited.stdout)["exit_status"] == limited.returncode
    summary = summary_of(run_dcmvault(*command))
    counts = summary["instances"]
    assert counts["stored"] + counts["already_held"] >= INSTANCES
    assert len(list((tmp_path / "copies" / "studies").glob("*/*.dcm"))) == INSTANCES


def test_a_newer_catalogue_is_refused_with_a_sentence(
    run_dcmvault: RunDcmvault, source: Path, home: Path, tmp_path: Path
) -> None:
    command = ("backup", source, "--to", tmp_path / "copies", "--json")
    summary_of(run_dcmvault(*command))
    engine = sa.create_engine(f"sqlite:///{home / 'catalogue.sqlite3'}")
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    refused = summary_of(run_dcmvault(*command), exit_status=1)
    assert refused["error"]["code"] == "state"
    assert "newer release" in refused["error"]["message"]


@pytest.mark.peers
def test_the_whole_story_on_postgresql(
    run_dcmvault: RunDcmvault,
    start_dcmvault: StartDcmvault,
    slow_pacs: SimulatedPacs,
    source: Path,
    home: Path,
    tmp_path: Path,
    postgresql_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(
        "THE_DATABASE", postgresql_url.replace("postgresql+psycopg://", "postgresql://")
    )
    (home / "config.toml").write_text(f'database = "env:THE_DATABASE"\n{QUICK_RETRIES}')
    copies = tmp_path / "copies"
    command = ("backup", source, "--to", _address(slow_pacs), "--to", copies, "--json")
    process = start_dcmvault(*command)
    _await(lambda: len(slow_pacs.received) >= 20)
    process.kill()
    process.wait()
    summary = summary_of(run_dcmvault(*command))
    assert summary["instances"]["selected"] == summary["instances"]["stored"] == 2 * INSTANCES
    assert len(slow_pacs.held()) == INSTANCES
    assert instances(summary_of(run_dcmvault(*command))) == {"already_held": 2 * INSTANCES}
    lost = sorted(slow_pacs.held())[3]
    slow_pacs.lose(lost)
    verify = ("verify", source, "--at", _address(slow_pacs), "--json")
    found = summary_of(run_dcmvault(*verify), exit_status=3)
    assert [failure["sop_instance_uid"] for failure in found["failures"]] == [lost]
    mended = summary_of(run_dcmvault(*command))
    assert instances(mended) == {"selected": 1, "already_held": 239, "stored": 1}
    status = json.loads(run_dcmvault("status", "--json").stdout)
    (one,) = status["sources"]
    assert len(one["destinations" if "destinations" in one else "coverage"]) == 2
    assert json.loads(run_dcmvault("queue", "list", "--json").stdout)["jobs"] == []
    assert not list(home.glob("*.sqlite3"))
