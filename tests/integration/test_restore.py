"""What comes out of a vault by `dcmvault restore`, whatever is in the vault and in the folder."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import random
import shutil
import stat
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import RunDcmvault, StartDcmvault
from tests.integration.rescue_world import PASSPHRASE, World, contents, encoders, files_below

from dcmvault.cli.main import run
from dcmvault.dicom.byte_source import MemoryBytes
from dcmvault.model.instance import Fingerprint, InstanceEntry, InstanceFile
from dcmvault.model.sidecar import SidecarFile
from dcmvault.testing.corpus import real_files
from dcmvault.testing.dicom_files import make_instance, make_study, make_uid
from dcmvault.testing.recipe_files import write_recipe_files
from dcmvault.vault.blob import BlobType
from dcmvault.vault.copies import with_check_line
from dcmvault.vault.profile import PROFILES
from dcmvault.vault.retention import forget_study
from dcmvault.vault.state import present_state
from dcmvault.vault.writer import KnownFiles, VaultWriter

COPIES = ("", "copies/1/", "copies/2/")


@pytest.fixture(autouse=True)
def _passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCMVAULT_PASSPHRASE", PASSPHRASE)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    for key in ("one", "two", "three"):
        make_study(folder / key, key=key, series=2, instances=2)
    (folder / "notes.txt").write_bytes(b"no DICOM")
    return folder


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "vault", redundant=False)


class Restoring:
    """Runs `dcmvault restore`, in this process: what it is made of is loaded once for all tests."""

    def __init__(self, world: World, out: Path) -> None:
        self._world = world
        self.out = out

    def __call__(self, *options: str | Path, status: int = 0) -> dict[str, Any]:
        vault = f"vault:{self._world.place}"
        told, complaints = io.StringIO(), io.StringIO()
        words = ["restore", vault, self.out, "--json", "--progress", "none", *options]
        with redirect_stdout(told), redirect_stderr(complaints):
            returned = run([str(word) for word in words])
        assert complaints.getvalue() == ""
        summary: dict[str, Any] = json.loads(told.getvalue())
        assert (returned, summary["exit_status"]) == (status, status), summary
        return summary


@pytest.fixture
def restore(home: Path, world: World, tmp_path: Path) -> Restoring:
    return Restoring(world, tmp_path / "out")


def put(world: World, files: dict[str, bytes], *, source: str = "/data", run: str = "run") -> None:
    """Store contents as opaque files under locators of any kind."""
    vault = world.opened()
    world.clock.advance(1)
    known = KnownFiles(present_state(vault).records)
    with encoders() as pool:
        writer = VaultWriter(vault, known, PROFILES["fast"], pool, source=source, run=run)
        for locator, content in files.items():
            entry = InstanceEntry(locator, Fingerprint(len(content), 0, 0))
            writer.put(InstanceFile(entry, Path("-")), MemoryBytes(content))
        writer.flush()


def test_every_kind_of_file_comes_back(world: World, tmp_path: Path, restore: Restoring) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    write_recipe_files(folder)
    for number, path in enumerate(real_files()):
        if path.stat().st_size < 300_000 and "pydicom" in path.parts:
            (folder / str(number)).mkdir(parents=True)
            shutil.copy(path, folder / str(number))
    for number, path in enumerate(files_below(folder)):
        os.utime(path, ns=(1_600_000_000_123_456_789 + number,) * 2)
    world.snapshot(world.back_up(folder))
    summary = restore()
    wanted = contents(folder)
    printable = {path.replace("\n", "_"): digest for path, digest in wanted.items()}
    assert contents(restore.out) == printable
    assert summary["files"]["written"] == len(wanted)
    assert summary["bytes"]["written"] == sum(path.stat().st_size for path in files_below(folder))
    assert not summary["failures"]
    for path in [restore.out, *restore.out.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600)
    for name in wanted:
        restored = restore.out / name
        if restored.exists():
            assert restored.stat().st_mtime_ns == (folder / name).stat().st_mtime_ns


def test_what_is_there_is_left(world: World, source: Path, restore: Restoring) -> None:
    world.snapshot(world.back_up(source))
    restore()
    missing = restore.out / "two" / "s01" / "i0001.dcm"
    missing.unlink()
    before = {path: path.stat().st_mtime_ns for path in files_below(restore.out)}
    summary = restore()
    assert summary["files"] == {
        "selected": 13,
        "written": 1,
        "already_there": 12,
        "read_back": 13,
        "failed": 0,
    }
    assert contents(restore.out) == contents(source)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_another_file_is_never_overwritten(
    world: World, source: Path, tmp_path: Path, restore: Restoring
) -> None:
    world.snapshot(world.back_up(source))
    restore.out.mkdir()
    same_size = (source / "notes.txt").read_bytes().swapcase()
    (restore.out / "notes.txt").write_bytes(same_size)
    (restore.out / "two").write_bytes(b"a file where a folder should be")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (restore.out / "three").symlink_to(elsewhere)
    (restore.out / "one" / "s01").mkdir(parents=True)
    (restore.out / "one" / "s01" / "i0001.dcm").symlink_to(source / "one" / "s01" / "i0001.dcm")
    summary = restore(status=3)
    assert summary["files"] == {
        "selected": 13,
        "written": 3,
        "already_there": 0,
        "read_back": 3,
        "failed": 10,
    }
    assert {failure["code"] for failure in summary["failures"]} == {"object_exists"}
    assert all(failure["hint"] for failure in summary["failures"])
    assert (restore.out / "notes.txt").read_bytes() == same_size
    assert list(elsewhere.iterdir()) == []
    assert not (restore.out / ".dcmvault-restore").exists()


def test_some_studies_and_series(world: World, source: Path, restore: Restoring) -> None:
    world.snapshot(world.back_up(source))
    series = make_uid("two", make_uid("two"), 2)
    summary = restore("--study", make_uid("one"), "--series", series, "--study", "-")
    assert summary["studies"] == 3
    wanted = {
        path: digest
        for path, digest in contents(source).items()
        if path.startswith(("one/", "two/s02/", "notes"))
    }
    assert contents(restore.out) == wanted


@pytest.mark.parametrize("options", [("--study", "1.2.3"), ("--series", "1.2.3")])
def test_what_is_not_there_is_said_before_anything_is_made(
    world: World, source: Path, restore: Restoring, options: tuple[str, ...]
) -> None:
    world.snapshot(world.back_up(source))
    summary = restore(*options, status=2)
    assert "1.2.3" in summary["error"]["message"]
    assert not restore.out.exists()


def test_snapshots_and_times(
    world: World, source: Path, restore: Restoring, run_dcmvault: RunDcmvault
) -> None:
    first = world.snapshot(world.back_up(source))
    then = contents(source)
    between = world.clock.now()
    world.clock.advance(60)
    make_study(source / "one", key="one", patient_name="Roe^Jane")
    make_study(source / "four", key="four")
    last = world.snapshot(world.back_up(source, run="run-2"))
    short = first.name.rpartition("-")[2][:8]
    for number, options in enumerate(
        [("--snapshot", short), ("--snapshot", first.name), ("--as-of", between.isoformat())]
    ):
        restore.out = restore.out.with_name(f"then-{number}")
        summary = restore(*options)
        assert [one["name"] for one in summary["snapshots"]] == [first.name]
        assert contents(restore.out) == then
    restore.out = restore.out.with_name("now")
    assert restore("--snapshot", "latest")["snapshots"][0]["name"] == last.name
    assert contents(restore.out) == contents(source)
    told = run_dcmvault(
        "restore", world.place, restore.out, "--as-of", between.isoformat(), "--study", "-"
    )
    assert told.returncode == 0
    assert short in told.stdout
    error = restore("--as-of", "1999-12-31", status=2)["error"]
    assert "1999-12-31" in error["message"] or "2000-01-01" in error["message"]
    assert restore("--as-of", "yesterday", status=2)["error"]["hint"]
    assert restore("--as-of", "2020-01-01", "--snapshot", short, status=2)["error"]
    assert restore("--snapshot", "00000000", status=2)["error"]["hint"]


def test_files_that_no_snapshot_names_yet(world: World, source: Path, restore: Restoring) -> None:
    world.back_up(source, flush_every=3)
    summary = restore()
    assert summary["snapshots"] == []
    assert contents(restore.out) == contents(source)


def test_a_forgotten_study_stays_forgotten(world: World, source: Path, restore: Restoring) -> None:
    first = world.snapshot(world.back_up(source))
    world.clock.advance(1)
    forget_study(world.opened(), make_uid("two"))
    shutil.rmtree(source / "two")
    restore("--snapshot", first.name)
    assert contents(restore.out) == contents(source)
    assert restore("--study", make_uid("two"), status=2)["error"]["code"] == "usage"


HOSTILE = {
    "../../../outside": b"1",
    "/absolute/path": b"2",
    "a/../../b": b"3",
    "..": b"4",
    "": b"5",
    "C:/Windows/x": b"6",
    "con": b"7",
    "line\nbreak\x1b[2J": b"8",
    "x" * 3000: b"9",
    "/".join(["deep"] * 60): b"10",
    "deep": b"a file where a folder is",
    "dicom://AET@host/1.2.3?x=y": b"11",
    ".dcmvault-restore/lock": b"12",
    "_library/data/x": b"13",
    "\u202egnp.exe": b"14",
    r"\\server\\share": b"15",
}


def test_hostile_locators_stay_inside(world: World, tmp_path: Path, restore: Restoring) -> None:
    put(world, HOSTILE)
    restore.out = tmp_path / "a" / "b" / "out"
    restore.out.parent.mkdir(parents=True)
    summary = restore()
    assert summary["files"]["written"] == len(HOSTILE)
    found = [path.read_bytes() for path in files_below(restore.out)]
    assert sorted(found) == sorted(HOSTILE.values())
    assert sorted((tmp_path / "a").rglob("outside")) == [restore.out / "outside"]
    assert set((tmp_path / "a").iterdir()) == {tmp_path / "a" / "b"}
    again = restore()
    assert again["files"]["already_there"] == len(HOSTILE)


def test_names_that_several_files_want(world: World, restore: Restoring) -> None:
    put(world, {"a/x.dcm": b"older", "a\\\\x": b"1"})
    put(world, {"a/./x.dcm": b"newest", "b/x.dcm": b"alone", "a//x.dcm": b"newest"})
    restore()
    found = {
        str(path.relative_to(restore.out)): path.read_bytes() for path in files_below(restore.out)
    }
    assert found == {
        "a/x.dcm": b"newest",
        "a/x~2.dcm": b"older",
        "b/x.dcm": b"alone",
        "a\\x": b"1",
    }
    assert restore()["files"] == {
        "selected": 5,
        "written": 0,
        "already_there": 5,
        "read_back": 5,
        "failed": 0,
    }


def test_several_sources_and_their_libraries(
    world: World, tmp_path: Path, restore: Restoring
) -> None:
    put(world, {"x": b"of one"}, source="/data/one")
    put(world, {"x": b"of two"}, source="horos:/data/Horos Data")
    (tmp_path / "albums").write_bytes(b"albums")
    sidecar = [SidecarFile("index/albums.json", tmp_path / "albums", 6)]
    world.snapshot(source="horos:/data/Horos Data", sidecar=sidecar)
    summary = restore()
    assert summary["library_files"] == 1
    assert contents(restore.out).keys() == {
        "1-one/x",
        "2-Horos Data/x",
        "_library/2-Horos Data/index/albums.json",
    }
    restore.out = tmp_path / "part"
    restore("--study", "-")
    assert "_library" not in {path.name for path in restore.out.iterdir()}


def test_the_library_of_a_single_source(world: World, tmp_path: Path, restore: Restoring) -> None:
    put(world, {"_library/data/index.json": b"of the source"})
    (tmp_path / "index").write_bytes(b"of the library")
    world.snapshot(source="/data", sidecar=[SidecarFile("index.json", tmp_path / "index", 14)])
    restore()
    found = {path.name: path.read_bytes() for path in files_below(restore.out)}
    assert sorted(found) == ["index.json", "index~2.json"]
    assert set(found.values()) == {b"of the source", b"of the library"}


def test_a_large_file_is_decoded_by_several_threads(
    world: World, tmp_path: Path, restore: Restoring
) -> None:
    folder = tmp_path / "source"
    make_instance(
        folder / "frames.dcm", "1.2.3", "1.2.3.4", "1.2.3.4.5", frames=24, rows=600, columns=600
    )
    (folder / "opaque").write_bytes(random.Random(1).randbytes(17 << 20))
    world.snapshot(world.back_up(folder))
    restore()
    assert contents(restore.out) == contents(folder)


def test_an_empty_vault(world: World, restore: Restoring, run_dcmvault: RunDcmvault) -> None:
    assert restore()["files"]["selected"] == 0
    told = run_dcmvault("restore", world.place, restore.out)
    assert told.returncode == 0
    assert "nothing" in told.stdout


# Damage


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


def test_a_damaged_file_does_not_stop_the_others(
    world: World, tmp_path: Path, restore: Restoring, run_dcmvault: RunDcmvault
) -> None:
    folder = tmp_path / "source"
    made = make_study(folder / "one", key="one", instances=6, rows=64, columns=64)
    world.snapshot(world.back_up(folder))
    vault = world.opened()
    state = present_state(vault)
    (record,) = [one for one in state.records(make_uid("one")) if one.locator.endswith("i0003.dcm")]
    kind, blob = next(one for one in record.blob_ids() if one[0] == "F")
    (place,) = vault.index.places(BlobType(kind), blob)
    pack = world.place / "packs" / place.pack.hex()[:2] / place.pack.hex()
    flip(pack, place.offset + 9)
    summary = restore(status=3)
    assert summary["files"] == {
        "selected": 6,
        "written": 5,
        "already_there": 0,
        "read_back": 5,
        "failed": 1,
    }
    (failure,) = summary["failures"]
    assert failure["sop_instance_uid"] == made[2].sop_instance_uid
    assert failure["study_instance_uid"] == made[2].study_instance_uid
    assert failure["code"] == "vault_damaged"
    wanted = contents(folder)
    del wanted["one/s01/i0003.dcm"]
    assert contents(restore.out) == wanted
    told = run_dcmvault("restore", world.place, restore.out)
    assert told.returncode == 3
    assert made[2].sop_instance_uid in told.stdout
    assert "repair" in told.stdout


def test_a_damaged_pack_is_made_whole_from_its_parity(
    home: Path, tmp_path: Path, source: Path
) -> None:
    world = World(tmp_path / "vault")
    world.snapshot(world.back_up(source))
    for pack in files_below(world.place / "packs"):
        flip(pack, 70)
        flip(pack, 10)
    before = contents(world.place)
    restore = Restoring(world, tmp_path / "out")
    # Lists of studies are in packs, too; what is found there is read from parity as well.
    restore()
    assert contents(restore.out) == contents(source)
    assert contents(world.place) == before


@pytest.mark.parametrize("kind", ["index", "journal"])
@pytest.mark.parametrize("damage", [b"rotten", None], ids=["rotten", "gone"])
def test_an_index_or_a_journal_is_lost(
    world: World, source: Path, restore: Restoring, kind: str, damage: bytes | None
) -> None:
    world.snapshot(world.back_up(source))
    before = contents(source)
    make_study(source / "four", key="four")
    world.back_up(source, run="run-2")
    for path in files_below(world.place / kind):
        path.unlink() if damage is None else path.write_bytes(damage)
    summary = restore(status=0 if damage is None else 3)
    # What only a lost journal named is not known to be missing.
    assert contents(restore.out) == (before if kind == "journal" else contents(source))
    assert all(failure["code"] == "vault_damaged" for failure in summary["failures"])


def test_a_damaged_snapshot_hides_only_what_it_alone_names(
    world: World, source: Path, restore: Restoring
) -> None:
    world.snapshot(world.back_up(source))
    before = contents(source)
    make_study(source / "four", key="four")
    last = world.snapshot(world.back_up(source, run="run-2"))
    (world.place / last.key).write_bytes(b"rotten")
    summary = restore(status=3)
    assert last.name in summary["failures"][0]["message"]
    assert contents(restore.out) == before


def test_wrong_passphrase_newer_format_no_vault(
    world: World, source: Path, restore: Restoring, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    world.snapshot(world.back_up(source))
    monkeypatch.setenv("DCMVAULT_PASSPHRASE", "wrong")
    assert restore(status=5)["error"]["code"] == "vault_locked"
    monkeypatch.delenv("DCMVAULT_PASSPHRASE")
    assert restore(status=5)["error"]["code"] == "vault_locked"
    config = json.loads((world.place / "config").read_text().partition("sha256:")[0])
    for copy in COPIES:
        newer = with_check_line(json.dumps({**config, "version": 99}))
        (world.place / copy / "config").write_bytes(newer)
    assert restore(status=4)["error"]["code"] == "vault_format"
    world.place = tmp_path / "nothing"
    assert restore(status=5)["error"]["code"] == "vault_missing"
    assert not restore.out.exists()


# The folder


def test_folders_that_cannot_be(
    world: World, source: Path, tmp_path: Path, restore: Restoring
) -> None:
    world.snapshot(world.back_up(source))
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "Database.sql").write_bytes(b"")
    inside = tmp_path / "link"
    inside.symlink_to(world.place)
    for folder in (
        world.place,
        world.place / "out",
        inside / "out",
        tmp_path / "not mounted" / "out",
        tmp_path / "file",
        tmp_path / "library",
        tmp_path / "library" / "DATABASE.noindex",
    ):
        restore.out = folder
        error = restore(status=2)["error"]
        assert error["message"]
    assert not (world.place / "out").exists()


def test_leftovers_of_a_killed_restore_go(world: World, source: Path, restore: Restoring) -> None:
    world.snapshot(world.back_up(source))
    unfinished = restore.out / ".dcmvault-restore"
    unfinished.mkdir(parents=True)
    (unfinished / "0123456789abcdef").write_bytes(b"half a file")
    restore()
    assert contents(restore.out) == contents(source)


def test_killed_in_the_middle(
    world: World, tmp_path: Path, restore: Restoring, start_dcmvault: StartDcmvault
) -> None:
    folder = tmp_path / "source"
    make_study(folder, key="many", instances=400)
    world.snapshot(world.back_up(folder, flush_every=400))
    wanted = contents(folder)
    process = start_dcmvault("restore", world.place, restore.out, "--progress", "none")
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if any(restore.out.glob("s01/*.dcm")):
            process.kill()
            break
        time.sleep(0.001)
    process.wait()
    left = contents(restore.out)
    for path, digest in left.items():
        assert path.startswith(".dcmvault-restore") or wanted[path] == digest
    restore()
    assert contents(restore.out) == wanted


def test_interrupted(
    world: World, tmp_path: Path, restore: Restoring, start_dcmvault: StartDcmvault
) -> None:
    folder = tmp_path / "source"
    make_study(folder, key="many", instances=300)
    world.snapshot(world.back_up(folder, flush_every=300))
    process = start_dcmvault("restore", world.place, restore.out, "--json", "--progress", "none")
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if any(restore.out.glob("s01/*.dcm")):
            process.terminate()
            break
        time.sleep(0.001)
    answer, _ = process.communicate()
    if process.returncode == 130:
        assert json.loads(answer)["error"]["code"] == "interrupted"
    else:
        assert process.returncode == 0  # it was done before it heard of it
    assert not (restore.out / ".dcmvault-restore").exists()
    restore()
    assert contents(restore.out) == contents(folder)


def test_one_restore_at_a_time(world: World, source: Path, restore: Restoring) -> None:
    world.snapshot(world.back_up(source))
    (restore.out / ".dcmvault-restore").mkdir(parents=True)
    with (restore.out / ".dcmvault-restore" / "lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        assert "Another restore" in restore(status=2)["error"]["message"]
    restore()


def test_progress_as_json(
    world: World, source: Path, restore: Restoring, run_dcmvault: RunDcmvault
) -> None:
    world.snapshot(world.back_up(source))
    done = run_dcmvault("restore", world.place, restore.out, "--progress", "json", "--json")
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert lines[-1] == {
        **lines[-1],
        "event": "progress",
        "state": "reading_back",
        "files": 13,
        "done": 13,
        "failed": 0,
        "bytes": lines[-1]["done_bytes"],
        "eta_s": None,
    }


def test_a_restore_needs_neither_engine_nor_database_nor_dicom_library(
    world: World, source: Path, restore: Restoring
) -> None:
    world.snapshot(world.back_up(source))
    probe = (
        "import sys\nfrom dcmvault.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'alembic', 'dbos', 'sqlalchemy', 'sqlite3', 'pydicom', 'pynetdicom', 'rich'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    command = [sys.executable, "-c", probe, "restore", str(world.place), str(restore.out)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert contents(restore.out) == contents(source)


def test_names_of_files_are_hidden_where_nobody_looks(
    world: World, restore: Restoring, run_dcmvault: RunDcmvault
) -> None:
    """The summary may go into a mail; names of files may be names of patients."""
    put(world, {"Doe^Jane/x": b"content"})
    restore.out.mkdir()
    (restore.out / "Doe^Jane").write_bytes(b"in the way")
    told = run_dcmvault("restore", world.place, restore.out)
    assert told.returncode == 3
    assert "Doe" not in told.stdout + told.stderr
    digest = hashlib.sha256(b"Doe^Jane/x").hexdigest()
    assert f"file:{digest[:12]}" in told.stdout
