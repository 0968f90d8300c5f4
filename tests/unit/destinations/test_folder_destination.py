"""The folder destination's own promises: layout, manifests, damage, faults at every moment."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from dcmvault.config.sections import FolderDestinationSection
from dcmvault.destinations.folder import FolderDestination, object_key
from dcmvault.errors import (
    DestinationError,
    DestinationUnreachableError,
    EntryChangedError,
    EntryUnreadableError,
    EntryVanishedError,
    LevelNotSupportedError,
)
from dcmvault.model.evidence import ExpectedInstance, ExpectedStudy, Finding, Level
from dcmvault.model.identifiers import VersionId
from dcmvault.model.instance import Fingerprint, InstanceEntry, InstanceFile, InstanceIdentity
from dcmvault.model.receipt import Receipt
from dcmvault.object_stores.local import LocalStore
from dcmvault.object_stores.memory import MemoryStore
from dcmvault.testing.clock import FakeClock
from dcmvault.testing.corpus import real_files
from dcmvault.testing.destination_suite import ORIGIN, describe_instance
from dcmvault.testing.dicom_files import make_study
from dcmvault.testing.faulty import CrashError, Fault, FaultyStore, StagingStore


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "backup"


@pytest.fixture
def files(tmp_path: Path) -> list[InstanceFile]:
    made = make_study(tmp_path / "source", instances=3)
    return [describe_instance(instance.path) for instance in made]


def _destination(
    root: Path, store: StagingStore | None = None, *, holds_copies: bool = False
) -> FolderDestination:
    clock = FakeClock()
    section = FolderDestinationSection(path=root)
    return FolderDestination(section, store or LocalStore(root, clock), clock, lambda: holds_copies)


def _opaque(path: Path) -> InstanceFile:
    status = path.stat()
    fingerprint = Fingerprint(status.st_size, status.st_mtime_ns, status.st_ino)
    return InstanceFile(InstanceEntry(path.name, fingerprint), path)


def _deliver(destination: FolderDestination, files: list[InstanceFile]) -> list[Receipt]:
    with destination.open([], ORIGIN) as delivery:
        receipts = [delivery.put(file) for file in files]
        delivery.flush()
    return receipts


def _expected(files: list[InstanceFile], receipts: list[Receipt]) -> ExpectedStudy:
    nobody = InstanceIdentity("", "", "")
    instances = tuple(
        ExpectedInstance(
            VersionId(number),
            file.header.identity if file.header else nobody,
            file.entry.fingerprint.size,
            receipt.file_sha256,
            receipt.object_key,
        )
        for number, (file, receipt) in enumerate(zip(files, receipts, strict=True))
    )
    return ExpectedStudy(instances[0].identity.study_instance_uid, instances)


def test_layout(root: Path, files: list[InstanceFile], tmp_path: Path) -> None:
    path = tmp_path / "broken.dcm"
    path.write_bytes(b"broken")
    _deliver(_destination(root), [files[0], _opaque(path)])
    assert files[0].header is not None
    study = hashlib.sha256(files[0].header.study_instance_uid.encode()).hexdigest()[:32]
    digest = hashlib.sha256(files[0].path.read_bytes()).hexdigest()
    broken = hashlib.sha256(b"broken").hexdigest()
    stored = sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())
    assert stored[0] == "README.txt"
    assert stored[1].startswith("manifests/20260131T020000Z-")
    assert stored[2:] == [f"opaque/{broken[:2]}/{broken}.bin", f"studies/{study}/{digest}.dcm"]


def test_real_files_are_copied_byte_for_byte_and_sha256sum_agrees(root: Path) -> None:
    """The oracle stands outside the product: coreutils."""
    files = [_opaque(path) for path in real_files()[:60]]
    receipts = _deliver(_destination(root), files)
    for file, receipt in zip(files, receipts, strict=True):
        assert (root / receipt.object_key).read_bytes() == file.path.read_bytes()
    listed = _sha256sum(root)
    assert listed.returncode == 0, listed.stdout + listed.stderr
    assert listed.stdout.count(": OK") == len({receipt.object_key for receipt in receipts})


def test_sha256sum_finds_damage(root: Path, files: list[InstanceFile]) -> None:
    receipts = _deliver(_destination(root), files)
    _flip(root / receipts[1].object_key)
    listed = _sha256sum(root)
    assert listed.returncode != 0
    assert f"{receipts[1].object_key}: FAILED" in listed.stdout


def _sha256sum(root: Path) -> subprocess.CompletedProcess[str]:
    manifests = sorted(str(path.relative_to(root)) for path in (root / "manifests").iterdir())
    tool = ["sha256sum"] if shutil.which("sha256sum") else ["shasum", "-a", "256"]
    return subprocess.run(
        [*tool, "-c", *manifests], cwd=root, capture_output=True, text=True, check=False
    )


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_each_flush_lists_only_what_is_new(root: Path, files: list[InstanceFile]) -> None:
    with _destination(root).open([], ORIGIN) as delivery:
        delivery.put(files[0])
        delivery.flush()
        delivery.put(files[1])
        delivery.put(files[2])
        delivery.flush()
        delivery.flush()
    lines = sorted(len(path.read_text().splitlines()) for path in (root / "manifests").iterdir())
    assert lines == [1, 2]


def test_what_was_there_already_is_said_and_listed(root: Path, files: list[InstanceFile]) -> None:
    """The delivery that put it first may have died before its manifest."""
    _destination(root).open([], ORIGIN).put(files[0])
    (receipt,) = _deliver(_destination(root), files[:1])
    assert receipt.already_there
    assert receipt.transferred_bytes == 0
    assert _sha256sum(root).returncode == 0


def test_readme_of_another_version_stays(root: Path, files: list[InstanceFile]) -> None:
    root.mkdir()
    (root / "README.txt").write_text("an older text")
    _deliver(_destination(root), files)
    assert (root / "README.txt").read_text() == "an older text"


def test_damage_is_found_and_mended(root: Path, files: list[InstanceFile]) -> None:
    destination = _destination(root)
    receipts = _deliver(destination, files)
    study = _expected(files, receipts)
    _flip(root / receipts[0].object_key)
    with (root / receipts[1].object_key).open("r+b") as stream:
        stream.truncate(13)
    sizes = destination.verify(study, Level.COMPLETE)
    assert list(sizes.findings.values()) == [Finding.HELD, Finding.DAMAGED, Finding.HELD]
    content = destination.verify(study, Level.PROVEN)
    assert list(content.findings.values()) == [Finding.DAMAGED, Finding.DAMAGED, Finding.HELD]
    assert content.reasons == {
        VersionId(0): "its SHA-256 differs from the source's",
        VersionId(1): f"13 of {files[1].entry.fingerprint.size:,} bytes are there",
    }
    assert content.proof["damaged"] == 2
    assert content.proof["held"] == 1
    again = _deliver(destination, files)
    assert [receipt.warning for receipt in again] == ["replaced a damaged copy"] * 2 + [""]
    assert [receipt.already_there for receipt in again] == [False, False, True]
    assert set(destination.verify(study, Level.PROVEN).findings.values()) == {Finding.HELD}


def test_proof_counts_what_was_read(root: Path, files: list[InstanceFile]) -> None:
    destination = _destination(root)
    study = _expected(files, _deliver(destination, files))
    proof = destination.verify(study, Level.PROVEN).proof
    assert proof["bytes_read"] == sum(file.entry.fingerprint.size for file in files)
    assert proof["objects"] == proof["held"] == 3
    assert "bytes_read" not in destination.verify(study, Level.PRESENT).proof


def test_lost_disk_is_not_a_lost_copy(root: Path, files: list[InstanceFile]) -> None:
    """The mount point of a disk that is not mounted is an empty folder."""
    destination = _destination(root)
    study = _expected(files, _deliver(destination, files))
    root.rename(root.with_name("unmounted"))
    root.mkdir()
    with pytest.raises(DestinationUnreachableError, match="empty"):
        destination.verify(study, Level.COMPLETE)


@pytest.mark.parametrize("shows", ["nothing", "the mount point", "foreign files"])
def test_nothing_is_stored_on_the_disk_below_a_lost_one(
    root: Path, files: list[InstanceFile], shows: str
) -> None:
    """The catalogue knows of copies, and the folder shows none: it must not begin anew there."""
    if shows != "nothing":
        root.mkdir()
    if shows == "foreign files":
        (root / "notes.txt").write_text("mount the disk here")
    before = sorted(root.rglob("*"))
    with pytest.raises(DestinationUnreachableError, match="copies were stored") as caught:
        _destination(root, holds_copies=True).open([], ORIGIN)
    assert "README.txt" in caught.value.hint
    assert sorted(root.rglob("*")) == before
    # The hint's way out.
    root.mkdir(exist_ok=True)
    (root / "README.txt").touch()
    assert len(_deliver(_destination(root, holds_copies=True), files)) == 3


def test_copies_without_the_readme_are_copies(root: Path, files: list[InstanceFile]) -> None:
    _deliver(_destination(root), files)
    (root / "README.txt").unlink()
    receipts = _deliver(_destination(root, holds_copies=True), files)
    assert all(receipt.already_there for receipt in receipts)
    assert (root / "README.txt").read_text()


def test_first_use_of_a_folder_with_foreign_files(root: Path, files: list[InstanceFile]) -> None:
    root.mkdir()
    (root / "notes.txt").touch()
    assert len(_deliver(_destination(root, holds_copies=False), files)) == 3


def test_one_unreadable_copy_leaves_one_question_open(
    root: Path, files: list[InstanceFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    destination = _destination(root)
    receipts = _deliver(destination, files)
    bad = (root / receipts[1].object_key).stat().st_ino
    real = os.pread

    def fail(descriptor: int, length: int, start: int) -> bytes:
        if os.fstat(descriptor).st_ino == bad:
            raise OSError(5, os.strerror(5))
        return real(descriptor, length, start)

    monkeypatch.setattr(os, "pread", fail)
    found = destination.verify(_expected(files, receipts), Level.PROVEN)
    assert list(found.findings.values()) == [Finding.HELD, Finding.UNKNOWN, Finding.HELD]


@pytest.mark.parametrize("level", [Level.NONE, Level.SENT, Level.COMMITTED])
def test_levels_it_cannot_give(root: Path, files: list[InstanceFile], level: Level) -> None:
    destination = _destination(root)
    study = _expected(files, _deliver(destination, files))
    with pytest.raises(LevelNotSupportedError):
        destination.verify(study, level)


def test_a_file_that_grows_while_it_is_read(root: Path, files: list[InstanceFile]) -> None:
    """Somebody appends in the middle of our read: no half file gets a name."""

    class Growing(MemoryStore):
        def stage(self):  # type: ignore[no-untyped-def] # the test's own double write
            with files[0].path.open("ab") as stream:
                stream.write(b"\0\0")
            return super().stage()

    store = Growing()
    delivery = _destination(root, store).open([], ORIGIN)
    with pytest.raises(EntryChangedError):
        delivery.put(files[0])
    assert list(store.keys()) == ["README.txt"]


def test_why_a_file_cannot_be_read(root: Path, files: list[InstanceFile], tmp_path: Path) -> None:
    delivery = _destination(root).open([], ORIGIN)
    folder = tmp_path / "folder"
    folder.mkdir()
    for path, kind in (
        (tmp_path / "gone", EntryVanishedError),
        (files[0].path / "below a file", EntryVanishedError),
        (folder, EntryUnreadableError),
    ):
        with pytest.raises(kind) as caught:
            delivery.put(replace(files[0], path=path))
        assert str(tmp_path) not in caught.value.message


def test_a_source_without_inodes(root: Path, files: list[InstanceFile]) -> None:
    entry = files[0].entry
    without = replace(entry, fingerprint=entry.fingerprint._replace(inode=0))
    (receipt,) = _deliver(_destination(root), [replace(files[0], entry=without)])
    assert receipt.fingerprint.inode == 0


def _operations(root: Path, files: list[InstanceFile]) -> int:
    store = FaultyStore(MemoryStore())
    _deliver(_destination(root, store), files)
    return store.operations


@pytest.mark.parametrize("fault", list(Fault))
def test_faults_at_every_moment(root: Path, files: list[InstanceFile], fault: Fault) -> None:
    """Whatever fails and whenever: nothing or whole files; the same work again mends it."""
    moments = _operations(root, files)
    assert moments >= 15
    for at in range(1, moments + 1):
        objects = MemoryStore()
        with contextlib.suppress(DestinationError, CrashError):
            _deliver(_destination(root, FaultyStore(objects, at, fault)), files)
        _assert_whole(objects)
        receipts = _deliver(_destination(root, objects), files)
        _assert_whole(objects)
        assert all(objects.head(receipt.object_key) for receipt in receipts)


def _assert_whole(objects: MemoryStore) -> None:
    for key in objects.keys("studies/"):
        assert key.endswith(f"/{hashlib.sha256(objects.get(key)).hexdigest()}.dcm")
    for key in objects.keys("manifests/"):
        for line in objects.get(key).decode().splitlines():
            digest, name = line.split("  ")
            assert hashlib.sha256(objects.get(name)).hexdigest() == digest


def test_names_tell_nothing_about_the_patient(root: Path, tmp_path: Path) -> None:
    made = make_study(tmp_path / "Doe^Jane", patient_name="Doe^Jane", patient_id="12345")
    _deliver(_destination(root), [describe_instance(instance.path) for instance in made])
    for path in root.rglob("*"):
        assert not any(word in str(path.relative_to(root)) for word in ("Doe", "Jane", "12345"))
        if path.suffix == ".sha256":
            assert "Doe" not in path.read_text()


def test_object_key_is_the_documented_one() -> None:
    assert object_key(InstanceIdentity("1.2.3", "1.2.3.4", "1.2.3.4.5"), b"\xab" * 32) == (
        "studies/" + hashlib.sha256(b"1.2.3").hexdigest()[:32] + "/" + "ab" * 32 + ".dcm"
    )


def test_probe_of_a_folder_that_will_be_made(root: Path) -> None:
    steps = _destination(root).probe()
    assert [(step.name, step.ok) for step in steps] == [
        ("folder", True),
        ("write", True),
        ("space", True),
    ]
    assert not root.exists()
