"""The queue, steered while another process works: pause, resume, prioritise, cancel."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import RunDcmvault, StartDcmvault
from tests.integration.story import QUICK_RETRIES, summary_of

from dcmvault.testing.dicom_files import make_study
from dcmvault.testing.peer_faults import Action, Arrival, slow
from dcmvault.testing.peers import SimulatedPacs


@dataclass
class Pace:
    """How slow a PACS is: so that there is a queue."""

    seconds: float = 0.6

    def __call__(self, arrival: Arrival) -> Action:
        return slow(self.seconds)(arrival)


@pytest.fixture
def pace() -> Pace:
    return Pace()


@pytest.fixture
def pacs(pace: Pace) -> Iterator[SimulatedPacs]:
    with SimulatedPacs(pace) as pacs:
        yield pacs


@pytest.fixture
def address(pacs: SimulatedPacs) -> str:
    return f"dicom://{pacs.ae_title}@127.0.0.1:{pacs.port}?calling=DCMVAULT"


@pytest.fixture
def studies(tmp_path: Path, home: Path) -> Path:
    (home / "config.toml").write_text(QUICK_RETRIES)
    for number in range(6):
        make_study(tmp_path / "studies" / f"s{number}", key=f"q{number}", instances=8)
    return tmp_path / "studies"


@pytest.fixture
def listed(run_dcmvault: RunDcmvault) -> Callable[[], dict[str, Any]]:
    def ask() -> dict[str, Any]:
        return summary_of(run_dcmvault("queue", "list", "--json"))

    return ask


def wait_until(there: Callable[[], bool]) -> None:
    """Wait for what must come; a minute is for a machine that is very busy."""
    for _ in range(600):
        if there():
            return
        time.sleep(0.1)
    pytest.fail("it never came")


def test_an_idle_queue_is_not_listed(
    run_dcmvault: RunDcmvault, studies: Path, tmp_path: Path
) -> None:
    assert run_dcmvault("queue", "list").stdout == "Nothing is queued.\n"
    summary_of(run_dcmvault("backup", studies, "--to", tmp_path / "copies", "--json"))
    assert run_dcmvault("queue", "list").stdout == "Nothing is queued.\n"


def test_a_waiting_user_is_told_of_a_pause_and_the_run_goes_on_after_it(
    start_dcmvault: StartDcmvault,
    run_dcmvault: RunDcmvault,
    pacs: SimulatedPacs,
    address: str,
    studies: Path,
) -> None:
    process = start_dcmvault("backup", studies, "--to", address, "--json", "--progress", "plain")
    wait_until(lambda: bool(pacs.received))
    done = run_dcmvault("queue", "pause", address)
    assert f"dcmvault queue resume '{address}'" in done.stdout
    assert process.stderr is not None
    assert any(f"{address} is paused" in line for line in process.stderr)
    assert "paused, " in run_dcmvault("queue", "list").stdout
    assert "paused" in run_dcmvault("status").stdout
    run_dcmvault("queue", "resume", address)
    stdout, stderr = process.communicate(timeout=120)
    assert "is taken up again" in stderr
    assert process.returncode == 0
    assert json.loads(stdout)["instances"]["stored"] == 48
    assert len(pacs.held()) == 48


def test_a_job_is_moved_and_cancelled_and_then_the_run(
    start_dcmvault: StartDcmvault,
    run_dcmvault: RunDcmvault,
    pacs: SimulatedPacs,
    pace: Pace,
    address: str,
    studies: Path,
    listed: Callable[[], dict[str, Any]],
) -> None:
    pace.seconds = 3  # the run lasts until it is cancelled, however busy the machine is
    process = start_dcmvault("backup", studies, "--to", address, "--json", "--progress", "none")
    wait_until(lambda: bool(pacs.received))
    jobs = listed()["jobs"]
    last, run = jobs[-1]["job"], jobs[-1]["run"]
    assert {job["priority"] for job in jobs} == {"normal"}
    summary_of(run_dcmvault("queue", "prioritise", last, "emergency", "--json"))
    moved = {job["job"]: job["priority"] for job in listed()["jobs"]}
    assert moved.get(last, "emergency") == "emergency"
    summary_of(run_dcmvault("queue", "cancel", run, "--json"))
    stdout, _stderr = process.communicate(timeout=120)
    assert process.returncode == 130
    summary = json.loads(stdout)
    assert (summary["state"], summary["exit_status"]) == ("cancelled", 130)
    assert {failure["code"] for failure in summary["failures"]} <= {"cancelled", "unfinished"}
    assert listed()["jobs"] == []
    text = run_dcmvault("report", run).stdout
    assert text.startswith("The run was cancelled.")
    assert "failed" not in text
    assert run_dcmvault("queue", "cancel", run).returncode == 2
    pace.seconds = 0
    summary_of(run_dcmvault("backup", studies, "--to", address, "--json"))
    assert len(pacs.held()) == 48


def test_a_second_terminal_is_told_that_it_follows(
    start_dcmvault: StartDcmvault, pacs: SimulatedPacs, address: str, studies: Path
) -> None:
    command = ("backup", studies, "--to", address, "--progress", "plain")
    first = start_dcmvault(*command)
    wait_until(lambda: bool(pacs.received))
    second = start_dcmvault(*command)
    _stdout, stderr = second.communicate(timeout=120)
    assert "Continuing the unfinished run" in stderr
    assert "Another process does this work" in stderr
    assert second.returncode == 0
    first.communicate(timeout=120)
    assert first.returncode == 0
    assert len(pacs.received) == 48
