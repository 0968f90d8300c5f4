"""kill -9 of processes at a vault at random moments: nothing is lost, nothing needs unlocking."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from tests.conftest import RunDcmvault, StartDcmvault
from tests.integration.story import QUICK_RETRIES, summary_of
from tests.integration.vault_process import opened, write
from tests.integration.vault_world import restored

from dcmvault.app.wiring.clock import SystemClock
from dcmvault.object_stores.local import LocalStore
from dcmvault.testing.dicom_files import make_study
from dcmvault.vault.check import CheckRequest, check
from dcmvault.vault.choosing import Choice
from dcmvault.vault.initialise import init_vault
from dcmvault.vault.prune import PruneRequest, prune
from dcmvault.vault.retention import forget_snapshots, forget_study
from dcmvault.vault.state import present_state

STUDIES, INSTANCES = 4, 100
#: A backup of these studies adds about so many objects, unfinished ones among them.
MOST_OBJECTS = 24
AT_ONCE = PruneRequest(timedelta(0), most_dropped=1.0)
SCRIPT = Path(__file__).with_name("vault_process.py")


def contents(folder: Path) -> dict[str, bytes]:
    """Return what a source shows, by locator."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def by_locator(vault_place: Path, snapshot: str = "") -> dict[str, bytes]:
    """Restore a state."""
    choice = Choice(opened(vault_place))
    state = choice.snapshot(snapshot) if snapshot else choice.present()
    return {locator: one for (_study, _source, locator, _sop), one in restored(state).items()}


def is_sound(place: Path) -> None:
    """Let prunes remove what nobody needs, and read every byte of what is left."""
    for _round in range(3):
        result = prune(opened(place), AT_ONCE)
    assert (result.removed_packs, result.condemned_packs, result.waiting_packs) == (0, 0, 0)
    found = check(opened(place), CheckRequest(read_data=True))
    assert found.errors == ()


@contextmanager
def working(*arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """Start a process at a vault; it works when the block begins, and is killed when it ends."""
    with subprocess.Popen(
        [sys.executable, SCRIPT, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            process.stdin.write("go\n")
            process.stdin.flush()
            yield process
        finally:
            process.kill()


# Backups


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vault-killed") / "studies"
    for number in range(STUDIES):
        made = make_study(folder / str(number), key=f"vault-killed-{number}", instances=INSTANCES)
        assert len(made) == INSTANCES
    return folder


def _new_vault(place: Path) -> None:
    clock = SystemClock()
    init_vault(LocalStore(place, clock), [], clock, encrypted=False)


def _objects(place: Path) -> int:
    """Count what a writer has written, finished or not."""
    return sum(1 for path in place.rglob("*") if path.is_file())


def _kill_and_go_on(
    start: StartDcmvault, run: RunDcmvault, home: Path, studies: Path, seed: int
) -> None:
    """Kill a backup after it wrote some objects, then another one, and let the third end."""
    (home / "config.toml").write_text(QUICK_RETRIES)
    place = home / "vault"
    _new_vault(place)
    earlier = studies.parent / "earlier"
    make_study(earlier, key="vault-killed-earlier", instances=3)
    write_quietly(place, "/earlier", earlier)
    (committed,) = (link.name for link in present_state(opened(place)).links)
    chance = random.Random(seed)
    command = ("backup", studies, "--to", f"vault:{place}", "--json")
    for most in (MOST_OBJECTS, MOST_OBJECTS // 2):
        process = start(*command)
        more = _objects(place) + chance.randrange(1, most)
        while process.poll() is None and _objects(place) < more:
            time.sleep(chance.random() * 0.002)
        process.kill()
        process.wait()
        assert by_locator(place, committed) == contents(earlier)
    summary = summary_of(run(*command))
    counts = summary["instances"]
    assert counts["failed"] == 0
    assert counts["already_held"] + counts["stored"] == STUDIES * INSTANCES
    # Also what only a killed run had stored, and the catalogue calls held.
    assert by_locator(place) == contents(earlier) | contents(studies)
    assert by_locator(place, committed) == contents(earlier)
    is_sound(place)
    assert by_locator(place) == contents(earlier) | contents(studies)


def write_quietly(place: Path, source: str, folder: Path) -> None:
    """Back up in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.integration.vault_process.ready", lambda: None)
        write(place, source, folder, 100)


@pytest.mark.parametrize("seed", range(10))
def test_backup_is_killed(
    start_dcmvault: StartDcmvault,
    run_dcmvault: RunDcmvault,
    home: Path,
    studies: Path,
    seed: int,
) -> None:
    _kill_and_go_on(start_dcmvault, run_dcmvault, home, studies, seed)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(100, 300))
def test_backup_is_killed_two_hundred_times(
    start_dcmvault: StartDcmvault,
    run_dcmvault: RunDcmvault,
    home: Path,
    studies: Path,
    seed: int,
) -> None:
    _kill_and_go_on(start_dcmvault, run_dcmvault, home, studies, seed)


# Prunes


@pytest.fixture(scope="module")
def wasteful(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a vault in which much is no longer needed: whole packs, and parts of packs."""
    root = tmp_path_factory.mktemp("vault-pruned")
    place = root / "vault"
    _new_vault(place)
    for number in range(8):
        folder = root / "studies" / str(number)
        made = make_study(folder, key=f"vault-pruned-{number}", instances=8, rows=128, columns=128)
        write_quietly(place, f"/{number}", folder)
    links = Choice(opened(place)).links
    forget_snapshots(opened(place), [link.name for link in links[:6]])
    forget_study(opened(place), made[0].study_instance_uid)
    return place


def _kill_a_prune(wasteful: Path, place: Path, seed: int) -> None:
    shutil.copytree(wasteful, place)
    before = by_locator(place)
    chance = random.Random(seed)
    with working("prune", place, "0") as process:
        before_it, change = _objects(place), chance.randrange(1, MOST_OBJECTS // 2)
        until = time.monotonic() + chance.random() * 0.3
        while process.poll() is None and abs(_objects(place) - before_it) < change:
            if time.monotonic() > until:
                break
        process.kill()
        process.wait()
    assert by_locator(place) == before
    # Nobody breaks the lease of a dead process: its holder is known to be gone.
    is_sound(place)
    assert by_locator(place) == before
    assert len(Choice(opened(place)).links) == len(Choice(opened(wasteful)).links)


@pytest.mark.parametrize("seed", range(10))
def test_prune_is_killed(wasteful: Path, tmp_path: Path, seed: int) -> None:
    _kill_a_prune(wasteful, tmp_path / "vault", seed)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(100, 300))
def test_prune_is_killed_two_hundred_times(wasteful: Path, tmp_path: Path, seed: int) -> None:
    _kill_a_prune(wasteful, tmp_path / "vault", seed)


# All at once


def test_two_write_and_one_prunes(tmp_path: Path) -> None:
    place = tmp_path / "vault"
    _new_vault(place)
    expected: dict[str, bytes] = {}
    for name in ("one", "two"):
        make_study(tmp_path / name / name, key=name, series=2, instances=60)
        # What both have, they store at the same time.
        make_study(tmp_path / name / f"{name} same", key="same", instances=20)
        expected |= contents(tmp_path / name)
    with (
        working("write", place, "/one", tmp_path / "one", "10") as one,
        working("write", place, "/two", tmp_path / "two", "7") as two,
        working("prunes", place) as prunes,
    ):
        assert one.wait(120) == 0
        assert two.wait(120) == 0
        out, _error = prunes.communicate("end\n", timeout=120)
        assert prunes.returncode == 0
        assert int(out) > 0
    assert by_locator(place) == expected
    found = check(opened(place), CheckRequest(read_data=True))
    assert found.errors == ()
    is_sound(place)
    assert by_locator(place) == expected


def test_two_commands_back_up_into_one_vault(
    start_dcmvault: StartDcmvault, home: Path, studies: Path, tmp_path: Path
) -> None:
    """Two computers, each with its own state, and a prune between them."""
    place = tmp_path / "vault"
    _new_vault(place)
    other = tmp_path / "other"
    make_study(other, key="vault-killed-other", instances=INSTANCES)
    homes = [home, tmp_path / "home"]
    processes = [
        start_dcmvault(
            "backup", source, "--to", f"vault:{place}", "--json", env={"DCMVAULT_HOME": str(state)}
        )
        for state, source in zip(homes, (studies, other), strict=True)
    ]
    with working("prunes", place) as prunes:
        for process in processes:
            out, error = process.communicate(timeout=120)
            assert process.returncode == 0, (out, error)
        prunes.communicate("end\n", timeout=120)
    assert by_locator(place) == contents(studies) | contents(other)
    is_sound(place)
    assert by_locator(place) == contents(studies) | contents(other)
