"""A disk that fills up: a clear word, nothing lost, and all goes on when there is room again."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.conftest import RunDcmvault
from tests.integration.small_disk import PAGE, SmallDisk, SmallQuota, can_mount
from tests.integration.story import QUICK_RETRIES, summary_of
from tests.integration.test_vault_killed import by_locator, contents
from tests.integration.vault_acts import ACTS, FIRST, SECOND, THIRD, content, delivery, tried
from tests.integration.vault_acts import SIZES as VAULT_SIZES
from tests.integration.vault_world import Files, VaultWorld

from dcmvault.errors import DestinationStoppedError, VaultMissingError
from dcmvault.object_stores.local import LocalStore
from dcmvault.testing.clock import FakeClock
from dcmvault.testing.dicom_files import make_instance, make_uid
from dcmvault.vault import prune
from dcmvault.vault.check import CheckRequest, check
from dcmvault.vault.initialise import BALLAST_KEY, init_vault
from dcmvault.vault.prune import PruneRequest

DAY_S = 25 * 3600
MUCH = PruneRequest(most_dropped=1.0)
SIZES = 20
LARGE = 64 << 20

Disk = SmallDisk | SmallQuota
MakeDisk = Callable[[int], Disk]


@pytest.fixture(scope="module")
def may_mount(tmp_path_factory: pytest.TempPathFactory) -> bool:
    return can_mount(tmp_path_factory.mktemp("mount") / "disk")


@pytest.fixture
def make_disk(tmp_path: Path, *, may_mount: bool) -> Iterator[MakeDisk]:
    with contextlib.ExitStack() as stack:

        def make(size: int) -> Disk:
            disk = (SmallDisk if may_mount else SmallQuota)(tmp_path / "disk", size)
            stack.callback(disk.unmount)
            return disk

        yield make


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, size in VAULT_SIZES:
        monkeypatch.setattr(module, name, size)


def _world(folder: Path, disk: Disk) -> VaultWorld:
    """Make a vault on a disk, with something in it."""
    files = folder / "files"
    files.mkdir()
    clock = FakeClock()
    world = VaultWorld(disk.store(clock), Files(files), clock=clock).init()
    process = world.process()
    process.back_up("/x", [(str(number), content(FIRST, number)) for number in range(6)])
    process.snapshot("/x")
    return world


#: One after the other they fill the disk.
WORK = [
    delivery([(f"m{number}", content(SECOND, number, pixels=number + 1)) for number in range(4)]),
    delivery([("0", content(FIRST, 0, name="B")), ("n", random.Random(1).randbytes(60_000))]),
    ACTS["snapshot"],
    delivery([(f"t{number}", content(THIRD, number)) for number in range(8)]),
    ACTS["snapshot"],
]
#: What they need, and some more: what is put together is there twice for a while.
ROOM = 320 << 10


@pytest.mark.parametrize("part", range(SIZES))
def test_disk_of_some_size(tmp_path: Path, make_disk: MakeDisk, part: int) -> None:
    disk = make_disk(LARGE)
    world = _world(tmp_path, disk)
    disk.resize(disk.used + part * ROOM // (SIZES - 1))
    errors = [tried(world, act, DestinationStoppedError) for act in WORK]
    assert part > 0 or errors[0] is not None
    assert part < SIZES - 1 or errors == [None] * len(WORK)
    assert all(error.exit_status == 5 and error.message for error in errors if error is not None)
    # The last bytes go, too; there is a clear word as long as there is no room.
    disk.fill()
    more = delivery([("more", random.Random(2).randbytes(100_000))])
    assert tried(world, more, DestinationStoppedError)
    # What needs little finds room nevertheless, and no backup takes that away.
    assert tried(world, ACTS["forget study"], DestinationStoppedError) is None
    error = tried(world, more, DestinationStoppedError)
    assert error is not None
    assert "full" in error.message
    # A prune makes room: it condemns, and a day later it removes.
    assert prune.prune(world.opened(), MUCH).condemned_packs
    world.clock.advance(DAY_S)
    used = disk.used
    assert prune.prune(world.opened(), MUCH).removed_packs
    assert disk.used != used
    world.compare()
    # There is room again: the same work just goes on.
    disk.free()
    disk.resize(LARGE)
    world.clock.advance(60)
    assert [tried(world, act, DestinationStoppedError) for act in WORK] == [None] * len(WORK)
    for _round in range(3):
        world.clock.advance(DAY_S)
        prune.prune(world.opened(), MUCH)
    world.compare()
    assert world.store.head(BALLAST_KEY) == world.opened().config.ballast
    assert check(world.opened(), CheckRequest(read_data=True)).errors == ()


def test_prune_on_a_full_disk(
    tmp_path: Path, make_disk: MakeDisk, caplog: pytest.LogCaptureFixture
) -> None:
    """The grace time is over, and by now not a byte is left."""
    disk = make_disk(LARGE)
    world = _world(tmp_path, disk)
    assert tried(world, ACTS["forget study"], DestinationStoppedError) is None
    assert prune.prune(world.opened(), MUCH).condemned_packs
    disk.resize(disk.used + 8 * PAGE)
    disk.fill()
    world.clock.advance(DAY_S)
    assert prune.prune(world.opened(), MUCH).removed_packs
    assert "the ballast was given up" in caplog.text
    world.compare()
    disk.free()
    disk.resize(LARGE)
    assert prune.prune(world.opened(), MUCH).notes == []
    assert world.store.head(BALLAST_KEY) == world.opened().config.ballast


def test_vault_that_does_not_fit(tmp_path: Path, make_disk: MakeDisk) -> None:
    """There is no half vault: the same command makes it when there is room."""
    disk = make_disk(1 << 20)
    files = tmp_path / "files"
    files.mkdir()
    clock = FakeClock()
    world = VaultWorld(disk.store(clock), Files(files), clock=clock)
    with pytest.raises(DestinationStoppedError):
        world.init()
    with pytest.raises(VaultMissingError):
        world.opened()
    disk.resize(LARGE)
    world.init()
    world.compare()
    assert check(world.opened(), CheckRequest(read_data=True)).errors == ()


def test_commands_on_a_full_disk(
    tmp_path: Path, make_disk: MakeDisk, run_dcmvault: RunDcmvault, home: Path, *, may_mount: bool
) -> None:
    if not may_mount:
        pytest.skip("a command can be given a full disk only by who may mount one")
    (home / "config.toml").write_text(QUICK_RETRIES)
    disk, source = make_disk(LARGE), tmp_path / "source"
    chance = random.Random(3)
    for number in range(20):
        uid = make_uid("full", number)
        pixels = {"PixelData": chance.randbytes(2 * 128 * 128)}
        make_instance(
            source / str(number), "1.2.3", "1.2.3.4", uid, rows=128, columns=128, elements=pixels
        )
    place = disk.folder / "vault"
    init_vault(LocalStore(place, FakeClock()), [], FakeClock(), encrypted=False)
    command = ("backup", source, "--to", f"vault:{place}", "--json")
    disk.resize(disk.used + (300 << 10))
    summary = summary_of(run_dcmvault(*command), exit_status=5)
    assert {failure["message"] for failure in summary["failures"]} == {
        "The destination's disk is full."
    }
    pruned = run_dcmvault("vault", "prune", f"vault:{place}", "--grace", "0", "--max-drop", "100")
    assert pruned.returncode == 0, pruned.stderr
    disk.resize(LARGE)
    assert summary_of(run_dcmvault(*command))["instances"]["stored"] == 20
    assert by_locator(place) == contents(source)
