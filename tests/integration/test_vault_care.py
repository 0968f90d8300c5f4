"""`vault check` and `vault repair` as a user meets them, on a real vault in a folder."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import RunDcmvault
from tests.integration.damage_world import flipped
from tests.integration.story import QUICK_RETRIES, summary_of

from dcmvault import i18n
from dcmvault.app.wiring.clock import SystemClock
from dcmvault.catalogue import open_catalogue
from dcmvault.cli.main import run
from dcmvault.model.snapshot import SnapshotRef
from dcmvault.object_stores.local import LocalStore
from dcmvault.testing.dicom_files import make_instance, make_study, make_uid
from dcmvault.vault.blob import BlobType
from dcmvault.vault.initialise import init_vault
from dcmvault.vault.pack import blob_rows
from dcmvault.vault.repository import open_vault
from dcmvault.vault.slots import Argon2Cost, Passphrase
from dcmvault.vault.state import present_state

_PASSPHRASE = "correct horse battery"


class Care:
    """A vault with two studies, and its two commands."""

    def __init__(self, folder: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.vault, self.source, self.home = folder / "vault", folder / "source", home
        self.capsys = capsys

    def __call__(self, command: str, *options: str, vault: str = "") -> tuple[int, str, str]:
        """Run a command; return exit status, stdout and stderr."""
        self.capsys.readouterr()
        status = run(["vault", command, vault or str(self.vault), *options])
        shown = self.capsys.readouterr()
        return status, shown.out, shown.err

    def json(self, command: str, *options: str) -> dict[str, Any]:
        status, out, _err = self(command, *options, "--json", "--progress", "none")
        found = json.loads(out)
        assert isinstance(found, dict)
        assert found["exit_status"] == status
        return found

    def packs(self) -> list[Path]:
        """The packs, largest first."""
        paths = (self.vault / "packs").rglob("*/*")
        return sorted(paths, key=lambda path: -path.stat().st_size)

    def middle_of_a_frame(self, pack: Path) -> int:
        """Where in a pack the middle of a frame lies: blobs come in the order they are ready."""
        secret = Passphrase(_PASSPHRASE)
        vault = open_vault(LocalStore(self.vault, SystemClock()), [secret], SystemClock())
        vault.refresh()
        rows = blob_rows(vault.index.packs[bytes.fromhex(pack.name)].rows)
        frame = next(row for row in rows if row.type is BlobType.FRAME)
        return frame.offset + frame.length // 2

    def damage_present(self, study: str) -> bytes:
        """Damage the pixels of a study's one instance as it is now; return its SHA-256."""
        secret = Passphrase(_PASSPHRASE)
        vault = open_vault(LocalStore(self.vault, SystemClock()), [secret], SystemClock())
        (record,) = present_state(vault).records(study)
        (frame,) = (blob for kind, blob in record.blob_ids() if kind == "F")
        (place,) = vault.index.places(BlobType.FRAME, frame)
        pack = self.vault / "packs" / place.pack.hex()[:2] / place.pack.hex()
        where = place.offset + place.length // 2
        pack.write_bytes(flipped(pack.read_bytes(), 8 * where))
        return record.file_sha256

    def lose(self, pack: Path) -> None:
        """Remove a pack with its parity."""
        for path in (self.vault / "parity").rglob(f"{pack.name}.*"):
            path.unlink()
        pack.unlink()

    def snapshots(self) -> list[str]:
        return sorted(path.name for path in (self.vault / "snapshots").iterdir())


@pytest.fixture(scope="module")
def backed_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vault and its source, made once."""
    folder = tmp_path_factory.mktemp("backed-up")
    (folder / "vault").mkdir()
    store = LocalStore(folder / "vault", SystemClock())
    cost = Argon2Cost(iterations=1, lanes=1, memory_kib=64)
    init_vault(store, [(Passphrase(_PASSPHRASE), "me")], SystemClock(), cost=cost)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DCMVAULT_HOME", str(folder / "home"))
        patch.setenv("DCMVAULT_PASSPHRASE", _PASSPHRASE)
        for key in ("one", "two"):
            make_study(folder / "source" / key, key=key, instances=2, rows=64, columns=64)
            address = f"vault:{folder / 'vault'}"
            arguments = ["backup", str(folder / "source"), "--to", address, "--progress", "none"]
            assert run(arguments) == 0
    return folder


@pytest.fixture
def care(
    backed_up: Path,
    tmp_path: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Care:
    monkeypatch.setenv("DCMVAULT_PASSPHRASE", _PASSPHRASE)
    i18n.use_language("en")
    shutil.copytree(backed_up / "vault", tmp_path / "vault")
    shutil.copytree(backed_up / "source", tmp_path / "source")
    return Care(tmp_path, home, capsys)


@pytest.mark.parametrize(
    ("options", "level"),
    [
        ((), "structure"),
        (("--read-data",), "read_data"),
        (("--read-data-subset", "50%"), "subset"),
        (("--read-data-subset", "2/2"), "subset"),
        (("--keyless",), "keyless"),
    ],
)
def test_a_sound_vault(care: Care, options: tuple[str, ...], level: str) -> None:
    status, out, _err = care("check", *options)
    assert (status, "2 snapshots" in out) == (0, True)
    found = care.json("check", *options)
    assert (found["level"], found["sound"], found["findings"]) == (level, True, [])
    assert found["known_snapshots"] is None
    # A check makes nothing, not even a state folder's catalogue.
    assert list(care.home.iterdir()) == []


def test_keyless_asks_for_no_secret(care: Care, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DCMVAULT_PASSPHRASE")
    assert care("check", "--keyless")[0] == 0
    assert care("check")[0] == 5
    care.packs()[0].write_bytes(b"nothing")
    assert care("check", "--keyless")[0] == 3


def test_damage_is_named_and_mended(care: Care) -> None:
    pack = care.packs()[0]
    pack.write_bytes(flipped(pack.read_bytes(), 8 * 600))
    (care.vault / "README.txt").unlink()
    status, out, _err = care("check", "--read-data")
    assert status == 3
    assert "2 things are wrong" in out
    assert f"packs/{pack.parent.name}/{pack.name} is damaged" in out
    assert f"`dcmvault vault repair {care.vault}`" in out
    found = care.json("check", "--read-data")
    assert (found["sound"], found["mendable"]) == (False, True)
    troubles = {finding["key"]: finding["trouble"] for finding in found["findings"]}
    assert troubles == {f"packs/{pack.parent.name}/{pack.name}": "damaged", "README.txt": "missing"}
    for uid, instances in found["studies"].items():
        assert uid in out
        assert all(instance in out for instance in instances)
    status, out, _err = care("repair")
    assert (status, "sound again" in out, pack.name in out) == (0, True, True)
    assert care("check", "--read-data")[0] == 0
    again = care.json("repair")
    assert (again["mended"], again["before"]["sound"], again["snapshot"]) == ([], True, None)


def test_what_is_lost_is_named_and_given_up_on_demand(care: Care) -> None:
    care.lose(care.packs()[0])
    found = care.json("check")
    assert (found["sound"], found["mendable"], len(found["studies"]) > 0) == (False, False, True)
    status, out, _err = care("repair")
    assert (status, "--drop-lost" in out) == (3, True)
    assert all(uid in out for uid in found["studies"])
    repaired = care.json("repair", "--drop-lost")
    assert (repaired["exit_status"], repaired["lost"]) == (0, {})
    assert repaired["given_up"].keys() == found["studies"].keys()
    assert repaired["snapshot"] in care.snapshots()
    assert care("check", "--read-data")[0] == 0


def _remember(care: Care, *names: str) -> None:
    catalogue = open_catalogue(str(care.home / "catalogue.sqlite3"))
    destination = catalogue.plans.destination(f"vault:{care.vault}")
    for name in names:
        ref = SnapshotRef(name, int(name[:8]), SystemClock().now())
        catalogue.snapshots.record_snapshot(destination, ref)
    catalogue.close()


def test_the_catalogue_is_asked_what_should_be_there(care: Care) -> None:
    first, second = care.snapshots()
    _remember(care, first, second)
    status, out, _err = care("check")
    assert (status, "All 2 snapshots that this machine remembers" in out) == (0, True)
    for path in care.vault.rglob(second):
        path.unlink()
    status, out, _err = care("check")
    assert (status, second in out, "dcmvault verify SOURCE" in out) == (3, True, True)
    found = care.json("check")
    assert {one["trouble"] for one in found["findings"]} == {"snapshot_gone", "rolled_back"}
    assert (found["known_snapshots"], found["mendable"]) == (2, False)
    status, out, _err = care("repair")
    assert (status, second in out, "--drop-lost" in out) == (3, True, False)


@pytest.mark.parametrize("short", [lambda name: name, lambda name: name.rpartition("-")[2][:8]])
def test_a_head_that_was_written_down(care: Care, short: Callable[[str], str]) -> None:
    newest = care.snapshots()[-1]
    assert care("check", "--head", short(newest))[0] == 0
    for path in care.vault.rglob(newest):
        path.unlink()
    for level in ((), ("--keyless",)):
        status, out, _err = care("check", "--head", short(newest), *level)
        assert (status, short(newest) in out) == (3, True)


def test_a_catalogue_that_cannot_be_read_keeps_nobody_from_a_check(care: Care) -> None:
    (care.home / "catalogue.sqlite3").write_bytes(b"no database at all" * 500)
    status, _out, err = care("check")
    assert (status, "could not be looked up" in err) == (0, True)
    assert care.json("check")["known_snapshots"] is None


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("--read-data", "--keyless"), 2),
        (("--read-data-subset", "7/3"), 2),
        (("--read-data-subset", "0%"), 2),
        (("--head", "newest"), 2),
        (("--progress", "loud"), 2),
    ],
)
def test_wrong_options(care: Care, arguments: tuple[str, ...], status: int) -> None:
    assert care("check", *arguments)[0] == status


def test_vaults_that_cannot_be_opened(care: Care, monkeypatch: pytest.MonkeyPatch) -> None:
    for command in ("check", "repair"):
        assert care(command, vault="vault:/nowhere/at/all")[0] == 5
        assert care(command, vault=str(care.source))[0] == 2
        with monkeypatch.context() as patch:
            patch.setenv("DCMVAULT_PASSPHRASE", "wrong")
            assert care(command)[0] == 5
    for config in [care.vault / "config", *care.vault.glob("copies/*/config")]:
        text = config.read_text().partition("sha256:")[0].replace('"version": 1', '"version": 9')
        config.write_text(f"{text}sha256:{hashlib.sha256(text.encode()).hexdigest()}\n")
    assert care("check")[0] == care("check", "--keyless")[0] == care("repair")[0] == 4


def test_progress_as_json(care: Care) -> None:
    _status, _out, err = care("check", "--read-data", "--progress", "json")
    first = json.loads(err.splitlines()[0])
    assert (first["event"], first["phase"]) == ("progress", "reading")


def test_what_was_given_up_is_stored_again(
    care: Care, home: Path, run_dcmvault: RunDcmvault
) -> None:
    (home / "config.toml").write_text(QUICK_RETRIES)
    backup = ("backup", care.source, "--to", f"vault:{care.vault}", "--json")
    assert summary_of(run_dcmvault(*backup))["exit_status"] == 0
    care.lose(care.packs()[0])
    done = run_dcmvault("vault", "repair", care.vault, "--drop-lost", "--json")
    assert len(summary_of(done)["given_up"]) > 0
    assert summary_of(run_dcmvault(*backup))["instances"]["stored"] > 0
    done = run_dcmvault("vault", "check", care.vault, "--read-data", "--json")
    assert summary_of(done)["known_snapshots"] > 0


def _copies(home: Path) -> dict[str, int]:
    """Count the copies that the catalogue knows, by state and level."""
    with sqlite3.connect(home / "catalogue.sqlite3") as database:
        rows = database.execute(
            "select state || ' ' || level, count(*) from holdings group by state, level"
        )
        return dict(rows.fetchall())


@pytest.mark.parametrize("harm", ["damaged", "missing"])
@pytest.mark.parametrize("repaired", [False, True])
def test_the_catalogue_is_told_of_damage(
    care: Care, home: Path, run_dcmvault: RunDcmvault, harm: str, repaired: bool
) -> None:
    """Copies that need a damaged pack are held no longer, and are so again by evidence only."""
    (home / "config.toml").write_text(QUICK_RETRIES)
    backup = ("backup", care.source, "--to", f"vault:{care.vault}", "--json")
    assert summary_of(run_dcmvault(*backup))["exit_status"] == 0
    assert _copies(home) == {"held 3": 4}
    pack = care.packs()[0]
    if harm == "missing":
        pack.unlink()
    else:
        pack.write_bytes(flipped(pack.read_bytes(), 8 * care.middle_of_a_frame(pack)))
    status, out, _err = care("check", "--read-data")
    assert (status, "not counted any more" in out) == (3, True)
    lost = _copies(home)[f"{harm} 0"]
    assert _copies(home) == {f"{harm} 0": lost, "held 3": 4 - lost}
    assert care.json("check", "--read-data")["no_longer_held"] == 0
    if repaired:
        assert care("repair")[0] == 0
        assert _copies(home) == {f"{harm} 0": lost, "held 3": 4 - lost}
    if harm == "missing" and not repaired:
        # With the list of the files of its study: nothing can be stored beside that.
        (failure, _other) = summary_of(run_dcmvault(*backup), 3)["failures"]
        assert "--drop-lost" in failure["hint"]
        assert _copies(home) == {f"{harm} 0": lost, "held 3": 4 - lost}
        return
    summary = summary_of(run_dcmvault(*backup))
    assert summary["instances"]["stored"] == lost
    assert (summary["bytes"]["transferred"] == 0) == repaired
    if harm == "damaged":
        assert _copies(home) == {"held 5": lost, "held 3": 4 - lost}
    proven = ("verify", care.source, "--at", f"vault:{care.vault}", "--level", "proven", "--json")
    assert summary_of(run_dcmvault(*proven))["instances"]["stored"] == 4


def test_of_two_versions_only_the_damaged_one_is_doubted(
    care: Care, home: Path, tmp_path: Path, run_dcmvault: RunDcmvault
) -> None:
    """An instance that changed at the source is kept twice: damage to one says nothing of both."""
    source, uid = tmp_path / "changing", make_uid("changing")
    for seed in (1, 2):
        make_instance(
            source / "one.dcm",
            uid,
            make_uid("changing series"),
            make_uid("changing instance"),
            rows=64,
            columns=64,
            elements={"PixelData": random.Random(seed).randbytes(2 * 64 * 64)},
        )
        done = run_dcmvault("backup", source, "--to", f"vault:{care.vault}", "--json")
        assert summary_of(done)["instances"]["stored"] == 1
    assert sum(_copies(home).values()) == 2
    damaged = care.damage_present(uid)
    assert care.json("check", "--read-data")["no_longer_held"] == 1
    with sqlite3.connect(home / "catalogue.sqlite3") as database:
        rows = database.execute(
            "select file_sha256, holdings.state from holdings join versions on id = version_id"
        ).fetchall()
    assert [sha256 for sha256, state in rows if state == "damaged"] == [damaged]
    assert sorted(state for _sha256, state in rows) == ["damaged", "held"]
