"""A small vault in memory, and a store in which its objects are damaged and made whole again."""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from dcmvault.dicom.byte_source import MemoryBytes
from dcmvault.dicom.part10 import scan
from dcmvault.errors import (
    DcmvaultError,
    DestinationError,
    DestinationUnreachableError,
    ObjectExistsError,
    ObjectMissingError,
)
from dcmvault.model.instance import Fingerprint, InstanceEntry, InstanceFile
from dcmvault.model.sidecar import SidecarFile
from dcmvault.testing.clock import FakeClock
from dcmvault.testing.dicom_files import make_instance, make_study
from dcmvault.vault import initialise
from dcmvault.vault.check import CheckRequest, check
from dcmvault.vault.findings import CheckResult
from dcmvault.vault.initialise import init_vault
from dcmvault.vault.key_changes import rotate
from dcmvault.vault.lease import LEASE_KEY, hold_lease
from dcmvault.vault.profile import PROFILES
from dcmvault.vault.prune import PruneRequest, prune
from dcmvault.vault.rebuild import rebuild_file
from dcmvault.vault.repository import Vault
from dcmvault.vault.retention import forget_snapshots, forget_study, hold_study
from dcmvault.vault.slots import Argon2Cost, Passphrase
from dcmvault.vault.snapshot import Link
from dcmvault.vault.state import present_state
from dcmvault.vault.taking_snapshots import Change, take_snapshot
from dcmvault.vault.writer import KnownFiles, VaultWriter

_BALLAST_BYTES = 512
_CHEAP = Argon2Cost(iterations=1, lanes=1, memory_kib=8)
_RLE = "1.2.840.10008.1.2.5"


class DamagedStore:
    """Objects in memory under damage that lies over them; `heal` takes it all away again."""

    def __init__(self) -> None:
        self._whole: dict[str, bytes] = {}
        self._harm: dict[str, bytes | None] = {}
        #: Bytes that the medium does not give.
        self.bad_spots: dict[str, int] = {}
        #: The store is away after so many writes.
        self.writes_left = math.inf
        #: Called before each listing.
        self.before_keys: Callable[[], None] = lambda: None
        self.bytes_got = 0

    def harm(self, key: str, content: bytes | None) -> None:
        """Let an object have other bytes, or be gone (None)."""
        self._harm[key] = content

    def heal(self) -> None:
        """Be as at the last `freeze`."""
        self._harm.clear()
        self.bad_spots.clear()

    def freeze(self) -> None:
        """Take what is there for whole from now on."""
        self._whole = self.objects()
        self._harm.clear()

    def objects(self) -> dict[str, bytes]:
        """Return everything as it is now."""
        now = {**self._whole, **self._harm}
        return {key: content for key, content in now.items() if content is not None}

    def is_whole(self) -> bool:
        """Say whether every byte of every object is as at the last `freeze`."""
        return all(
            key == LEASE_KEY or self._whole.get(key) == content
            for key, content in self._harm.items()
        )

    def put(self, key: str, chunks: Iterable[bytes]) -> int:
        self._count_write()
        if key in self.bad_spots:
            raise DestinationUnreachableError("what is there cannot be compared")
        content, there = b"".join(chunks), self._find(key)
        if there is not None and there != content:
            raise ObjectExistsError(f"other bytes are stored under {key}")
        self._harm[key] = content
        return len(content)

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        content = self._find(key)
        if content is None:
            raise ObjectMissingError(f"no object {key}")
        spot = self.bad_spots.get(key, -1)
        if start <= spot < (len(content) if length is None else start + length):
            raise DestinationError(f"a part of {key} cannot be read")
        found = content[start:] if length is None else content[start : start + length]
        self.bytes_got += len(found)
        return found

    def head(self, key: str) -> int | None:
        content = self._find(key)
        return None if content is None else len(content)

    def keys(self, prefix: str = "") -> Iterator[str]:
        self.before_keys()
        every = self._whole.keys() | self._harm.keys()
        found = (key for key in every if key.startswith(prefix))
        return iter(sorted(key for key in found if self._find(key) is not None))

    def delete(self, key: str) -> None:
        self._count_write()
        if self._find(key) is None:
            raise ObjectMissingError(f"no object {key}")
        self._harm[key] = None
        self.bad_spots.pop(key, None)

    def swap(self, key: str, expected: bytes | None, new: bytes) -> bool:
        self._count_write()
        if self._find(key) != expected:
            return False
        self._harm[key] = new
        return True

    def _count_write(self) -> None:
        if self.writes_left <= 0:
            raise DestinationUnreachableError("the store is away")
        self.writes_left -= 1

    def _find(self, key: str) -> bytes | None:
        return self._harm[key] if key in self._harm else self._whole.get(key)


@dataclass(slots=True)
class DamageWorld:
    """A vault, its store, and the files that were backed up into it."""

    store: DamagedStore
    vault: Vault
    clock: FakeClock
    folder: Path
    encoders: ThreadPoolExecutor

    def back_up(self, *, snapshot: bool = True, run: str = "run") -> tuple[int, Link | None]:
        """Back up the folder; return how many files the vault did not have, and the snapshot."""
        self.clock.advance(60)
        vault = self.vault.unread()
        state = present_state(vault)
        writer = VaultWriter(
            vault,
            KnownFiles(state.records),
            PROFILES["fast"],
            self.encoders,
            source="source",
            run=run,
        )
        new = 0
        for path in sorted(one for one in self.folder.rglob("*") if one.is_file()):
            status = path.stat()
            fingerprint = Fingerprint(status.st_size, status.st_mtime_ns, status.st_ino)
            entry = InstanceEntry(path.relative_to(self.folder).as_posix(), fingerprint)
            try:
                header = scan(path)
            except DcmvaultError:
                header = None
            stored = writer.put(InstanceFile(entry, path, header), MemoryBytes(path.read_bytes()))
            new += not stored.already_there
        writer.flush()
        self.clock.advance(60)
        link = take_snapshot(vault, Change("backup", run, "source")) if snapshot else None
        return new, link

    def files(self) -> dict[str, bytes]:
        """Return what is in the folder."""
        paths = (one for one in self.folder.rglob("*") if one.is_file())
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in paths}

    def restored(self) -> dict[str, bytes]:
        """Return what a restore of the present state gives."""
        vault = self.vault.unread()
        state = present_state(vault)
        return {
            record.locator: b"".join(rebuild_file(record, vault.read_blob))
            for uid in state.studies()
            for record in state.records(uid)
        }

    def check(self, *, read_data: bool = True) -> CheckResult:
        """Check the vault."""
        return check(self.vault, CheckRequest(read_data=read_data))

    def prune(self) -> None:
        """Remove what nothing needs, at once."""
        self.clock.advance(timedelta(days=2).total_seconds())
        prune(self.vault.unread(), PruneRequest(grace=timedelta(0), most_dropped=1.0))

    def study_of(self, name: str) -> str:
        """Return the UID of a study of which files lie in `name/`."""
        return scan(next((self.folder / name).rglob("*.dcm"))).study_instance_uid


def make_world(folder: Path, *, encrypted: bool = True, redundant: bool = True) -> DamageWorld:
    """Make a vault with two snapshots and a journal that no snapshot took up yet."""
    store, clock = DamagedStore(), FakeClock()
    applicants = [(Passphrase("correct horse battery"), "me")] if encrypted else []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(initialise, "BALLAST_BYTES", _BALLAST_BYTES)
        vault = init_vault(
            store, applicants, clock, encrypted=encrypted, redundant=redundant, cost=_CHEAP
        )
    _shorten_rescue_kit(vault)
    world = DamageWorld(store, vault, clock, folder, ThreadPoolExecutor(1))
    make_study(folder / "first", key="first", instances=2, rows=48, columns=48)
    (folder / "first" / "notes.txt").write_text("no DICOM at all")
    world.back_up(run="one")
    make_study(folder / "second", key="second", instances=2, transfer_syntax=_RLE)
    world.back_up(run="two")
    make_instance(folder / "third" / "report.dcm", "2.25.33", "2.25.34", "2.25.35", modality="SR")
    world.back_up(run="three", snapshot=False)
    with hold_lease(store, clock, "test"):  # so that there is one
        pass
    store.freeze()
    return world


def grow_old(world: DamageWorld, sidecar: Path) -> None:
    """Let more happen to the vault: another key epoch, a sidecar, a hold, what was forgotten."""
    vault = world.vault
    vault.sealing.keys = rotate(vault.objects, vault.sealing.keys, world.clock.now())
    sidecar.write_bytes(b"albums and comments" * 9)
    file = SidecarFile("albums.json", sidecar, sidecar.stat().st_size)
    world.clock.advance(60)
    take_snapshot(vault.unread(), Change("backup", "four", "library", sidecar=[file]))
    world.clock.advance(60)
    hold_study(vault.unread(), world.study_of("first"), "a lawsuit")
    world.clock.advance(60)
    forget_study(vault.unread(), world.study_of("second"))
    shutil.rmtree(world.folder / "second")
    world.clock.advance(60)
    forget_snapshots(vault.unread(), [vault.links()[0].name])
    prune(vault.unread(), PruneRequest(most_dropped=1.0))  # leaves condemned packs
    make_study(world.folder / "fourth", key="fourth", instances=1)
    world.back_up(run="five", snapshot=False)
    world.store.freeze()


def _shorten_rescue_kit(vault: Vault) -> None:
    """Put short texts in place of tool and page, as if another version had written them."""
    for key in vault.objects.keys("rescue/"):
        vault.objects.delete(key)
        prefix, _dash, rest = key.rpartition("-")
        content = f"# {prefix}\n".encode() * 4
        digest = hashlib.sha256(content).hexdigest()
        vault.objects.put(f"{prefix}-{digest}.{rest.rpartition('.')[2]}", content)


def base_of(place: str) -> str:
    """Return the key of an object, given where a copy of it lies."""
    return place.split("/", 2)[2] if place.startswith("copies/") else place


def flipped(content: bytes, bit: int) -> bytes:
    """Return the bytes with one bit the other way round."""
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << (bit % 8)
    return bytes(changed)
