"""kill -9 of restores at random moments: the same command finishes, and nothing comes twice."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from scripts.peer_processes import Orthanc
from tests.conftest import RunDcmvault, StartDcmvault
from tests.integration.rescue_world import PASSPHRASE, World, contents

from dcmvault.testing.dicom_files import make_study

INSTANCES = 240


@pytest.fixture(autouse=True)
def _passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCMVAULT_PASSPHRASE", PASSPHRASE)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed") / "source"
    for number in range(3):
        make_study(folder / str(number), key=f"killed-{number}", series=2, instances=40)
    return folder


@pytest.fixture
def world(tmp_path: Path, source: Path) -> World:
    world = World(tmp_path / "vault", redundant=False)
    world.snapshot(world.back_up(source))
    return world


def kill_again_and_again(
    start: StartDcmvault, command: tuple[str | Path, ...], arrived: Callable[[], int], times: int
) -> None:
    """Start a command so many times; kill it when some more has arrived, or at any moment."""
    chance = random.Random(times)
    for _time in range(times):
        wanted = arrived() + chance.randrange(2 * INSTANCES // times)
        process = start(*command, "--progress", "none")
        while process.poll() is None and arrived() < wanted:
            time.sleep(0.005)
        process.kill()
        process.wait()


def to_a_folder(start: StartDcmvault, run: RunDcmvault, world: World, source: Path) -> None:
    out = world.place.parent / "out"
    command = ("restore", f"vault:{world.place}", out)

    def arrived() -> int:
        # `os.walk` passes over a folder that goes away meanwhile.
        return sum(len(files) for _folder, _folders, files in os.walk(out))

    kill_again_and_again(start, command, arrived, 10)
    wanted = contents(source)
    for path, digest in contents(out).items():
        assert path.startswith(".dcmvault-restore") or wanted[path] == digest
    done = run(*command, "--json")
    assert done.returncode == 0, done.stderr
    assert contents(out) == wanted
    assert json.loads(done.stdout)["files"]["read_back"] == INSTANCES


def to_a_pacs(
    start: StartDcmvault, run: RunDcmvault, world: World, source: Path, pacs: Orthanc
) -> None:
    command = ("restore", f"vault:{world.place}", pacs.address)

    def arrived() -> int:
        return int(pacs.statistics()["CountInstances"])

    kill_again_and_again(start, command, arrived, 10)
    done = run(*command, "--json")
    assert done.returncode == 0, done.stdout
    assert arrived() == INSTANCES
    # Again, and read back: all is there as it was, and nothing is sent.
    again = run(*command, "--verify", "proven", "--json")
    assert again.returncode == 0, again.stdout
    summary = json.loads(again.stdout)
    assert summary["bytes"]["transferred"] == 0
    assert summary["instances"]["stored"] == INSTANCES
    assert len(set(pacs.instances())) == INSTANCES
    assert len(contents(source)) == INSTANCES


def test_to_a_folder(
    start_dcmvault: StartDcmvault, run_dcmvault: RunDcmvault, world: World, source: Path
) -> None:
    to_a_folder(start_dcmvault, run_dcmvault, world, source)


def test_to_a_pacs(
    start_dcmvault: StartDcmvault,
    run_dcmvault: RunDcmvault,
    world: World,
    source: Path,
    orthanc: Orthanc,
) -> None:
    to_a_pacs(start_dcmvault, run_dcmvault, world, source, orthanc)


@pytest.mark.nightly
@pytest.mark.parametrize("_seed", range(4))
def test_fifty_times(
    start_dcmvault: StartDcmvault,
    run_dcmvault: RunDcmvault,
    world: World,
    source: Path,
    orthanc: Orthanc,
    _seed: int,
) -> None:
    to_a_folder(start_dcmvault, run_dcmvault, world, source)
    to_a_pacs(start_dcmvault, run_dcmvault, world, source, orthanc)
