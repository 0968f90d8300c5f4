"""A small vault in memory, what is put into it, and what comes back."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dcmvault.dicom.byte_source import MemoryBytes
from dcmvault.dicom.part10 import scan
from dcmvault.errors import DestinationStoppedError
from dcmvault.model.instance import Fingerprint, InstanceEntry, InstanceFile, InstanceHeader
from dcmvault.object_stores.memory import MemoryStore
from dcmvault.ports.object_store import ObjectStore
from dcmvault.testing.clock import FakeClock
from dcmvault.testing.dicom_files import make_instance, make_uid
from dcmvault.vault.initialise import init_vault
from dcmvault.vault.profile import PROFILES
from dcmvault.vault.rebuild import rebuild_file
from dcmvault.vault.repository import Vault, open_vault
from dcmvault.vault.slots import Argon2Cost, Passphrase, Secret
from dcmvault.vault.snapshot import Link
from dcmvault.vault.state import VaultState, present_state
from dcmvault.vault.taking_snapshots import Change, take_snapshot
from dcmvault.vault.writer import KnownFiles, VaultWriter

PASSPHRASE = Passphrase("correct horse battery staple")
CHEAP = Argon2Cost(iterations=1, lanes=1, memory_kib=8)
STUDY, OTHER = make_uid("study"), make_uid("other")


def instance(study: str, number: int, content: str, rows: int) -> tuple[bytes, InstanceHeader]:
    """Make an instance of a study; `content` decides its pixels, which no codec makes smaller."""
    sop = make_uid(study, number)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.dcm")
        make_instance(
            path,
            study,
            make_uid(study, "series"),
            sop,
            rows=rows,
            columns=rows,
            patient_name=content,
            elements={"PixelData": hashlib.shake_256(content.encode()).digest(2 * rows * rows)},
        )
        header = scan(path)
        return path.read_bytes(), header


@dataclass
class SmallVault:
    """A vault and its clock; `files` are those that were put, by study and locator."""

    store: ObjectStore = field(default_factory=MemoryStore)
    clock: FakeClock = field(default_factory=FakeClock)
    encrypted: bool = True
    redundant: bool = False
    secret: Secret = PASSPHRASE
    encoders: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(2))

    def __post_init__(self) -> None:
        applicants = [(PASSPHRASE, "")] if self.encrypted else []
        init_vault(
            self.store,
            applicants,
            self.clock,
            encrypted=self.encrypted,
            redundant=self.redundant,
            cost=CHEAP,
        )

    def opened(self, store: ObjectStore | None = None) -> Vault:
        """Open it as another process does."""
        return open_vault(store or self.store, [self.secret], self.clock)

    def writer(self, vault: Vault) -> VaultWriter:
        """Begin to write, as a backup does."""
        state = present_state(vault)
        known = KnownFiles(state.records, state.forgotten.studies)
        return VaultWriter(vault, known, PROFILES["fast"], self.encoders, source="/s", run="r")

    def write(
        self, study: str, content: str, files: Iterable[int] = range(3), vault: Vault | None = None
    ) -> Vault:
        """Put files of a study and flush them; no snapshot is taken."""
        vault = vault or self.opened()
        writer = self.writer(vault)
        self.put(writer, study, content, files)
        writer.flush()
        return vault

    def put(
        self, writer: VaultWriter, study: str, content: str, files: Iterable[int], rows: int = 96
    ) -> None:
        """Put files of a study."""
        for number in files:
            data, header = instance(study, number, f"{content}{number}", rows)
            entry = InstanceEntry(f"{number}.dcm", Fingerprint(len(data), 0, 0))
            writer.put(InstanceFile(entry, Path("nowhere"), header), MemoryBytes(data))

    def back_up(self, study: str, content: str, files: Iterable[int] = range(3)) -> Link:
        """Put files of a study and take a snapshot."""
        vault = self.write(study, content, files)
        link = self.snapshot(vault)
        assert link is not None
        return link

    def snapshot(self, vault: Vault | None = None) -> Link | None:
        """Take a snapshot, as a run does at its end."""
        link = take_snapshot(vault or self.opened(), Change("backup", "r", "/s"))
        self.clock.advance(60)
        return link

    def objects(self) -> dict[str, bytes]:
        """Return everything that is stored, but the lease."""
        return {key: self.store.get(key) for key in list(self.store.keys()) if key != "lease"}

    def names(self, prefix: str) -> list[str]:
        """List keys."""
        return list(self.store.keys(prefix))


def expected(study: str, content: str, files: Iterable[int] = range(3)) -> dict[str, str]:
    """Return what `restored` says of these files."""
    found = {}
    for number in files:
        data, _header = instance(study, number, f"{content}{number}", 96)
        found[f"{number}.dcm"] = hashlib.sha256(data).hexdigest()
    return found


def restored(state: VaultState, study: str) -> dict[str, str]:
    """Put the files of a study together, and return their digests."""
    return {
        record.locator: hashlib.sha256(
            b"".join(rebuild_file(record, state.vault.read_blob))
        ).hexdigest()
        for record in state.records(study)
    }


@contextmanager
def no_room(store: MemoryStore, room: int) -> Iterator[None]:
    """Let a store be full but for `room` bytes, while it lasts."""

    class Full(MemoryStore):
        def size(self) -> int:
            return sum(map(len, self._objects.values()))

        def add(self, key: str, content: bytes) -> bool:
            if key not in self._objects and self.size() + len(content) > limit:
                raise DestinationStoppedError("The destination's disk is full.")
            return super().add(key, content)

        def swap(self, key: str, expected: bytes | None, new: bytes) -> bool:
            if self.size() + len(new) > limit:
                raise DestinationStoppedError("The destination's disk is full.")
            return super().swap(key, expected, new)

    limit = sum(len(store.get(key)) for key in list(store.keys())) + room
    before = type(store)
    store.__class__ = Full
    try:
        yield
    finally:
        store.__class__ = before
