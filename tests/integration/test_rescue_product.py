"""The rescue tool gets every file out of vaults that the product wrote, whatever became of them."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from tests.integration.rescue_world import (
    COST,
    PASSPHRASE,
    World,
    contents,
    files_below,
    rescued,
)
from tools import rescue

from dcmvault.errors import VaultLockedError
from dcmvault.model.sidecar import SidecarFile
from dcmvault.object_stores.local import LocalStore
from dcmvault.sources.local_files import unescape
from dcmvault.testing.corpus import real_files, real_study_folders
from dcmvault.testing.dicom_files import make_study, make_uid
from dcmvault.testing.recipe_files import write_recipe_files
from dcmvault.vault.key_changes import add_slot, remove_slot, rotate
from dcmvault.vault.profile import PROFILES
from dcmvault.vault.prune import PruneRequest, prune
from dcmvault.vault.rebuild import rebuild_file
from dcmvault.vault.repair import RepairRequest, repair
from dcmvault.vault.repository import open_vault
from dcmvault.vault.retention import forget_snapshots, forget_study
from dcmvault.vault.slots import KeyFile, Passphrase

ROOT = Path(__file__).resolve().parents[2]
COPIES = ("", "copies/1/", "copies/2/")


def recipe_files(folder: Path) -> Path:
    folder.mkdir()
    write_recipe_files(folder)
    return folder


def study(folder: Path, key: str, *, name: str = "Doe^Jane", instances: int = 2) -> str:
    """Write a small study; returns its UID."""
    make_study(folder / key, key=key, patient_name=name, instances=instances)
    return make_uid(key)


def printable(path: str) -> str:
    """Control characters come back as underscores."""
    return re.sub("[\x00-\x1f\x7f]", "_", path)


def by_product(world: World) -> dict[str, str]:
    """SHA-256 by locator of what the product says that the vault holds."""
    state = world.state()
    for uid in state.studies():
        for record in state.records(uid):
            for _piece in rebuild_file(record, state.vault.read_blob):
                pass  # raises for what is not as it was
    return {
        printable(unescape(record.locator)): record.file_sha256.hex()
        for uid in state.studies()
        for record in state.records(uid)
    }


def check(world: World, out: Path, wanted: dict[str, str]) -> None:
    """Both readers make the same files."""
    assert by_product(world) == wanted
    assert rescued(world, out) == wanted


@pytest.mark.parametrize(
    ("profile", "encrypted", "redundant"),
    [
        ("fast", True, False),
        ("balanced", True, True),
        ("small", False, True),
        ("archive", False, False),
    ],
)
def test_every_kind_of_file_in_every_profile(
    tmp_path: Path, profile: str, encrypted: bool, redundant: bool
) -> None:
    folder = recipe_files(tmp_path / "source")
    world = World(tmp_path / "vault", encrypted, redundant, profile)
    world.snapshot(world.back_up(folder))
    wanted = {printable(path): sha256 for path, sha256 in contents(folder).items()}
    assert by_product(world) == wanted
    assert rescued(world, tmp_path / "out", key="recovery") == wanted


def test_names_that_are_odd(tmp_path: Path) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    names = [
        b"latin-\xe9", b"\xff\xfe", b"x" * 255, b"new\nline", b"esc\x1b[31m", b"a:b*?", b"-r",
        b" end ", b"dot.", b"~2", "日本".encode(), b"back\\slash", b"back\\x41", b"\\xff",
    ]  # fmt: skip
    for name in names:
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(name)
    world = World(tmp_path / "vault", encrypted=False, redundant=False)
    world.snapshot(world.back_up(folder))
    wanted = {printable(path): sha256 for path, sha256 in contents(folder).items()}
    check(world, tmp_path / "out", wanted)


def test_real_files(tmp_path: Path) -> None:
    folder = tmp_path / "source"
    for number, path in enumerate(real_files()):
        if path.stat().st_size < 300_000 and "pydicom" in path.parts:
            (folder / str(number)).mkdir(parents=True)
            shutil.copy(path, folder / str(number))
    world = World(tmp_path / "vault")
    world.snapshot(world.back_up(folder))
    assert rescued(world, tmp_path / "out") == contents(folder)


@pytest.mark.nightly
@pytest.mark.parametrize("redundant", [True, False], ids=["redundant", "single"])
@pytest.mark.parametrize("encrypted", [True, False], ids=["encrypted", "plain"])
@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_all_real_files_and_what_damage_makes_of_them(
    tmp_path: Path, profile: str, encrypted: bool, redundant: bool
) -> None:
    folder = tmp_path / "source"
    chosen = random.Random(profile)
    for number, path in enumerate(real_files()):
        whole = path.read_bytes()
        place = folder / str(number)
        place.mkdir(parents=True)
        (place / "whole.dcm").write_bytes(whole)
        (place / "headless.dcm").write_bytes(whole[132:])
        (place / "longer.dcm").write_bytes(whole + chosen.randbytes(7777))
        (place / "cut.dcm").write_bytes(whole[: chosen.randrange(len(whole))])
        damaged = bytearray(whole)
        for _ in range(20):
            damaged[chosen.randrange(len(whole))] = chosen.randrange(256)
        (place / "damaged.dcm").write_bytes(damaged)
    for path in real_study_folders():
        shutil.copytree(path, folder / path.name)
    write_recipe_files(folder)
    world = World(tmp_path / "vault", encrypted, redundant, profile)
    world.snapshot(world.back_up(folder))
    wanted = {printable(path): sha256 for path, sha256 in contents(folder).items()}
    assert rescued(world, tmp_path / "out") == wanted
    assert rescued(world, tmp_path / "out-2", key="recovery") == wanted


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    for key in ("one", "two", "three"):
        study(folder, key)
    (folder / "notes.txt").write_bytes(b"no DICOM")
    return folder


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "vault")


def test_before_the_first_snapshot(world: World, source: Path, tmp_path: Path) -> None:
    world.back_up(source, flush_every=3)
    check(world, tmp_path / "out", contents(source))


def test_the_journal_goes_on_where_the_snapshot_ends(
    world: World, source: Path, tmp_path: Path
) -> None:
    before = contents(source)
    first = world.snapshot(world.back_up(source))
    study(source, "one", name="Roe^Jane")  # headers were corrected
    study(source, "four")
    world.back_up(source, run="run-2")
    check(world, tmp_path / "out", contents(source))
    assert rescued(world, tmp_path / "then", "--snapshot", first.name) == before


def test_older_snapshots(world: World, source: Path, tmp_path: Path) -> None:
    states = []
    for run, name in enumerate(("Doe^Jane", "Roe^Jane", "Poe^Jane")):
        study(source, "one", name=name)
        study(source, f"new in {run}")
        link = world.snapshot(world.back_up(source, run=f"run-{run}"))
        states.append((link.name, contents(source)))
    for number, (name, wanted) in enumerate(states):
        assert rescued(world, tmp_path / f"out-{number}", "--snapshot", name) == wanted
    check(world, tmp_path / "now", states[-1][1])


def test_without_indexes_and_journals(world: World, source: Path, tmp_path: Path) -> None:
    world.snapshot(world.back_up(source, flush_every=2))
    study(source, "four")
    world.back_up(source, run="run-2")
    for kind in ("index", "journal"):
        for copy in COPIES:
            shutil.rmtree(world.place / copy / kind, ignore_errors=True)
        assert rescued(world, tmp_path / kind) == contents(source)


@pytest.mark.parametrize("kind", ["index", "journal"])
def test_an_index_or_a_journal_is_damaged_in_all_copies(
    world: World, source: Path, tmp_path: Path, kind: str
) -> None:
    world.snapshot(world.back_up(source))
    study(source, "four")
    world.back_up(source, run="run-2")
    for copy in COPIES:
        for path in (world.place / copy / kind).iterdir():
            path.write_bytes(b"rotten")
    assert rescued(world, tmp_path / "out", status=3) == contents(source)


def test_packs_that_no_journal_names_do_not_count(
    world: World, source: Path, tmp_path: Path
) -> None:
    """Their writer was killed before it wrote them down."""
    world.snapshot(world.back_up(source))
    wanted = contents(source)
    study(source, "four")
    world.back_up(source, run="run-2")
    for copy in COPIES:
        shutil.rmtree(world.place / copy / "journal")
    check(world, tmp_path / "out", wanted)


@pytest.mark.parametrize("damage", [b"", b"rotten", None], ids=["empty", "rotten", "gone"])
def test_only_one_copy_is_sound(
    world: World, source: Path, tmp_path: Path, damage: bytes | None
) -> None:
    world.snapshot(world.back_up(source))
    chosen = random.Random(str(damage))
    single = ("packs/", "parity/", "lease", "ballast", "copies/")
    for path in files_below(world.place):
        key = path.relative_to(world.place).as_posix()
        if key.startswith(single):
            continue
        for copy in chosen.sample(COPIES, 2):
            if damage is None:
                (world.place / copy / key).unlink()
            else:
                (world.place / copy / key).write_bytes(damage)
    check(world, tmp_path / "out", contents(source))


def test_config_is_lost(world: World, source: Path, tmp_path: Path) -> None:
    world.snapshot(world.back_up(source))
    for copy in COPIES:
        (world.place / copy / "config").unlink()
    assert rescued(world, tmp_path / "out") == contents(source)


def test_a_head_is_damaged_in_all_copies(world: World, source: Path, tmp_path: Path) -> None:
    world.snapshot(world.back_up(source))
    study(source, "four")
    last = world.snapshot(world.back_up(source, run="run-2"))
    for copy in COPIES:
        (world.place / copy / last.key).write_bytes(b"rotten")
    assert rescued(world, tmp_path / "out", status=3) == contents(source)


def test_two_writers_and_two_heads(world: World, source: Path, tmp_path: Path) -> None:
    world.snapshot(world.back_up(source))
    one, two = world.opened(), world.opened()
    for key in ("four", "five"):
        study(tmp_path / key, key)
        shutil.copytree(tmp_path / key, source, dirs_exist_ok=True)
    world.back_up(tmp_path / "four", vault=one, run="run-2")
    before = {path: path.read_bytes() for path in files_below(world.place)}
    first = world.snapshot(one, run="run-2")
    # The other writer saw nothing of it.
    hidden = {path: path.read_bytes() for path in files_below(world.place) if path not in before}
    for path in hidden:
        path.unlink()
    for path in before:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(before[path])
    for copy in COPIES:
        for path in (world.place / copy / "journal").iterdir():
            path.unlink()
    world.back_up(tmp_path / "five", vault=two, run="run-3")
    second = world.snapshot(two, run="run-3")
    for path, data in hidden.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    state = world.state()
    assert {link.name for link in state.links} == {first.name, second.name}
    check(world, tmp_path / "out", contents(source))


def test_the_same_moment_in_two_runs(world: World, source: Path, tmp_path: Path) -> None:
    """Of two versions with one time, the one of the greater run counts, whoever came first."""
    noon, seen = world.clock.now(), world.state()
    for run, name in (("run-b", "Roe^Jane"), ("run-a", "Doe^Jane")):
        study(source, "one", name=name)
        world.clock.set_now(noon)
        world.back_up(source, run=run, seen=seen)
    study(source, "one", name="Roe^Jane")
    check(world, tmp_path / "journal", contents(source))
    world.snapshot()
    check(world, tmp_path / "snapshot", contents(source))


def forgotten(world: World, source: Path) -> str:
    """Take two snapshots, and forget the study `two`; returns the first snapshot's name."""
    first = world.snapshot(world.back_up(source))
    study(source, "four", instances=9)
    world.snapshot(world.back_up(source, run="run-2"))
    world.clock.advance(1)
    forget_study(world.opened(), make_uid("two"))
    return first.name


def test_a_forgotten_study(world: World, source: Path, tmp_path: Path) -> None:
    then = contents(source)
    first = forgotten(world, source)
    shutil.rmtree(source / "two")
    wanted = contents(source)
    check(world, tmp_path / "out", wanted)
    left = {name: sha for name, sha in then.items() if not name.startswith("two/")}
    assert rescued(world, tmp_path / "then", "--snapshot", first) == left
    study(source, "two", name="Roe^Again")
    world.snapshot(world.back_up(source, run="run-3"))
    check(world, tmp_path / "again", contents(source))


@pytest.mark.parametrize("grace", [timedelta(0), timedelta(hours=1)], ids=["at once", "in time"])
def test_after_prunes(world: World, source: Path, tmp_path: Path, grace: timedelta) -> None:
    then = contents(source)
    first = forgotten(world, source)
    shutil.rmtree(source / "two")
    request = PruneRequest(grace=grace, most_dropped=1.0)
    for number in range(3):
        prune(world.opened(), request)
        check(world, tmp_path / f"out-{number}", contents(source))
        world.clock.advance(7200)
    left = {name: sha for name, sha in then.items() if not name.startswith("two/")}
    assert rescued(world, tmp_path / "then", "--snapshot", first) == left
    world.clock.advance(1)
    assert forget_snapshots(world.opened(), [first]) is not None
    for number in range(3):
        prune(world.opened(), request)
        check(world, tmp_path / f"fewer-{number}", contents(source))
        world.clock.advance(7200)


def test_after_rotation_and_removal_of_a_slot(
    world: World, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.snapshot(world.back_up(source))
    vault, now = world.opened(), world.clock.now()
    objects = vault.objects
    keys = rotate(objects, vault.sealing.keys, now)
    study(source, "four")
    world.back_up(source, run="run-2")
    check(world, tmp_path / "rotated", contents(source))
    key_file = bytes(range(64))
    keys, _ = add_slot(objects, keys, KeyFile(key_file), label="safe", now=now, cost=COST)
    lost = Passphrase("somebody left")
    keys, gone = add_slot(objects, keys, lost, label="who left", now=now, cost=COST)
    old = {path: path.read_bytes() for path in (world.place / "keys").iterdir()}
    keys = remove_slot(objects, keys, gone.holder.slot, now)
    study(source, "five")
    world.snapshot(world.back_up(source, run="run-3"))
    check(world, tmp_path / "removed", contents(source))
    (tmp_path / "key").write_bytes(key_file)
    command = [str(world.place), str(tmp_path / "out"), "--key-file", str(tmp_path / "key")]
    assert rescue.main(command) == 0
    assert contents(tmp_path / "out") == contents(source)
    # An older generation that was left behind opens nothing.
    for path, data in old.items():
        path.write_bytes(data)
    monkeypatch.setenv("DCMVAULT_PASSPHRASE", lost.text)
    assert rescue.main([str(world.place), str(tmp_path / "none")]) == 5
    with pytest.raises(VaultLockedError):
        open_vault(LocalStore(world.place, world.clock), [lost], world.clock)


@pytest.mark.parametrize("seed", range(4))
def test_what_a_repair_gave_up(tmp_path: Path, source: Path, seed: int) -> None:
    world = World(tmp_path / "vault", redundant=False)
    first = world.snapshot(world.back_up(source))
    wanted = contents(source)
    chosen = random.Random(seed)
    for pack in files_below(world.place / "packs"):
        data = bytearray(pack.read_bytes())
        data[chosen.randrange(64, len(data) * 2 // 3)] ^= 1
        pack.write_bytes(data)
    damaged = rescued(world, tmp_path / "damaged", status=3)
    assert damaged.items() < wanted.items()
    repair(world.opened(), RepairRequest(drop_lost=True))
    left = by_product(world)
    assert left.items() <= wanted.items()
    assert rescued(world, tmp_path / "left") == left
    assert rescued(world, tmp_path / "then", "--snapshot", first.name) == left
    world.snapshot(world.back_up(source, run="run-2"))
    check(world, tmp_path / "again", wanted)


def test_sidecars_of_the_newest_head(world: World, source: Path, tmp_path: Path) -> None:
    vault = world.back_up(source)
    index = tmp_path / "Database.sql"
    for version in (b"older", b"newer" * 1_000_000):
        index.write_bytes(version)
        file = SidecarFile("index/Database.sql", index, len(version))
        world.snapshot(vault, sidecar=[file])
    found = rescued(world, tmp_path / "out")
    assert found.pop("_library/images/index/Database.sql") == contents(tmp_path)["Database.sql"]
    assert found == contents(source)


def test_sources_apart(world: World, tmp_path: Path) -> None:
    for name, text in (("left", "Doe^Jane"), ("right", "Roe^Jane")):
        study(tmp_path / name, "one", name=text)
        world.back_up(tmp_path / name, source=f"/data/{name}")
    world.snapshot()
    wanted = {
        f"{number}-{name}/{path}": sha
        for number, name in enumerate(("left", "right"), 1)
        for path, sha in contents(tmp_path / name).items()
    }
    assert rescued(world, tmp_path / "out") == wanted


def test_the_tool_that_the_vault_has_in_itself(world: World, source: Path, tmp_path: Path) -> None:
    world.snapshot(world.back_up(source))
    (tool,) = (world.place / "rescue").glob("rescue-*.py")
    assert tool.read_bytes() == (ROOT / "tools/rescue.py").read_bytes()
    subprocess.run(
        [sys.executable, "-I", str(tool), str(world.place), str(tmp_path / "out")],
        env={**os.environ, "DCMVAULT_PASSPHRASE": PASSPHRASE},
        check=True,
        capture_output=True,
    )
    assert contents(tmp_path / "out") == contents(source)
