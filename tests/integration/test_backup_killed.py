"""kill -9 at random moments, then the same command: all arrives, next to nothing twice."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

import pytest
from tests.conftest import RunDcmvault, StartDcmvault
from tests.integration.story import QUICK_RETRIES, instances, summary_of

from dcmvault.testing.dicom_files import make_study
from dcmvault.testing.peers import SimulatedPacs

INSTANCES = 500


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed") / "studies"
    for number in range(5):
        make_study(folder / str(number), key=f"killed-{number}", series=2, instances=50, rows=64)
    return folder


def _kill_and_continue(
    start: StartDcmvault, run: RunDcmvault, home: Path, studies: Path, seed: int
) -> None:
    (home / "config.toml").write_text(QUICK_RETRIES)
    chance = random.Random(seed)
    with SimulatedPacs() as pacs:
        command = ("backup", studies, "--to", f"dicom://{pacs.ae_title}@127.0.0.1:{pacs.port}")
        process = start(*command, "--json")
        # Somewhere between the first instance and the last, whatever the machine's speed.
        moment = chance.randrange(INSTANCES)
        while len(pacs.received) < moment and process.poll() is None:
            time.sleep(0.002)
        process.kill()
        process.wait()
        first_try = len(pacs.received)
        summary = summary_of(run(*command, "--json"))
        # What the killed run had recorded as held may not be selected again, but all is there.
        assert summary["instances"]["failed"] == 0
        assert len(pacs.held()) == INSTANCES, (seed, first_try)
        twice = sum(count - 1 for count in Counter(pacs.received).values())
        assert twice <= pacs.most_associations, (seed, first_try, twice)
        again = summary_of(run(*command, "--json"))
        assert instances(again) == {"already_held": INSTANCES}


@pytest.mark.parametrize("seed", range(10))
def test_killed_and_continued(
    start_dcmvault: StartDcmvault,
    run_dcmvault: RunDcmvault,
    home: Path,
    studies: Path,
    seed: int,
) -> None:
    _kill_and_continue(start_dcmvault, run_dcmvault, home, studies, seed)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(100, 200))
def test_killed_and_continued_a_hundred_times(
    start_dcmvault: StartDcmvault,
    run_dcmvault: RunDcmvault,
    home: Path,
    studies: Path,
    seed: int,
) -> None:
    _kill_and_continue(start_dcmvault, run_dcmvault, home, studies, seed)


def test_two_terminals_at_once(start_dcmvault: StartDcmvault, home: Path, studies: Path) -> None:
    """One works, the other follows; both end with the same run and nothing is sent twice."""
    (home / "config.toml").write_text(QUICK_RETRIES)
    with SimulatedPacs() as pacs:
        command = ("backup", studies, "--to", f"dicom://{pacs.ae_title}@127.0.0.1:{pacs.port}")
        terminals = [start_dcmvault(*command, "--json", "--progress", "json") for _ in range(2)]
        outputs = [terminal.communicate(timeout=120) for terminal in terminals]
        assert [terminal.returncode for terminal in terminals] == [0, 0], outputs
        assert max(Counter(pacs.received).values()) == 1
        assert len(pacs.held()) == INSTANCES
        working = ['"working": true' in progress for _summary, progress in outputs]
        assert working.count(True) >= 1


def test_interrupted_by_hand_and_continued(
    start_dcmvault: StartDcmvault, run_dcmvault: RunDcmvault, home: Path, studies: Path
) -> None:
    """Control-C ends within seconds with status 130 and a sentence; the same command goes on."""
    (home / "config.toml").write_text(QUICK_RETRIES)
    with SimulatedPacs() as pacs:
        command = ("backup", studies, "--to", f"dicom://{pacs.ae_title}@127.0.0.1:{pacs.port}")
        process = start_dcmvault(*command)
        while len(pacs.received) < 100 and process.poll() is None:
            time.sleep(0.002)
        process.send_signal(2)
        _out, told = process.communicate(timeout=30)
        assert process.returncode == 130
        assert "same command" in told
        assert len(pacs.received) < INSTANCES
        summary_of(run_dcmvault(*command, "--json"))
        assert len(pacs.held()) == INSTANCES
        assert max(Counter(pacs.received).values()) == 1
