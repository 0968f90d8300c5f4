"""A vault with several processes at work, a model of what it holds, and a comparison of the two."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from dcmvault.config.sections import VaultDestinationSection, VaultProfile
from dcmvault.destinations.vault import VaultDestination
from dcmvault.dicom.part10 import scan
from dcmvault.errors import MalformedDicomError, VaultBusyError
from dcmvault.model.evidence import ExpectedInstance, ExpectedStudy, Finding, Level
from dcmvault.model.identifiers import RunId, VersionId
from dcmvault.model.instance import (
    Fingerprint,
    InstanceEntry,
    InstanceFile,
    InstanceHeader,
    InstanceIdentity,
)
from dcmvault.model.snapshot import Origin
from dcmvault.object_stores.memory import MemoryStore
from dcmvault.ports.object_store import ObjectStore
from dcmvault.testing.clock import FakeClock
from dcmvault.testing.faulty import StagingStore
from dcmvault.vault.choosing import Choice
from dcmvault.vault.initialise import init_vault
from dcmvault.vault.rebuild import rebuild_file
from dcmvault.vault.repository import Vault, open_vault
from dcmvault.vault.slots import Argon2Cost, Passphrase, Secret
from dcmvault.vault.state import VaultState

PASSPHRASE = Passphrase("correct horse battery staple")
#: What guessing costs in tests: next to nothing.
COST = Argon2Cost(iterations=1, lanes=1, memory_kib=64)
#: A batch is tried so often before its error counts, as a backup does.
ATTEMPTS = 3

#: (Study Instance UID, source, locator, SOP Instance UID); UIDs are empty for opaque files.
FileKey = tuple[str, str, str, str]


class Files:
    """Contents as files of a folder, scanned once each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._headers: dict[bytes, InstanceHeader | None] = {}

    def file(self, locator: str, content: bytes) -> InstanceFile:
        """Return a content as the file that a source shows under a locator."""
        digest = hashlib.sha256(content)
        path = self._folder / digest.hexdigest()
        if digest.digest() not in self._headers:
            path.write_bytes(content)
            try:
                self._headers[digest.digest()] = scan(path)
            except MalformedDicomError:
                self._headers[digest.digest()] = None
        stat = path.stat()
        fingerprint = Fingerprint(stat.st_size, stat.st_mtime_ns, stat.st_ino)
        entry = InstanceEntry(locator, fingerprint)
        return InstanceFile(entry, path, self._headers[digest.digest()])

    def key(self, source: str, locator: str, content: bytes) -> FileKey:
        """Return what a later version of the same file has, too."""
        header = self.file(locator, content).header
        if header is None:
            return "", source, locator, ""
        return header.study_instance_uid, source, locator, header.sop_instance_uid


@dataclass
class Model:
    """What a vault must hold, by the rules of the format alone."""

    #: Of each file the content and the number of the flush that brought it.
    present: dict[FileKey, tuple[bytes, int]] = field(default_factory=dict)
    snapshots: dict[str, dict[FileKey, tuple[bytes, int]]] = field(default_factory=dict)
    #: The last flush before a study was forgotten.
    forgotten: dict[str, int] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)
    flushes: int = 0

    def copy(self) -> Model:
        """Return the same model once more."""
        snapshots = {name: dict(holding) for name, holding in self.snapshots.items()}
        held, forgotten = set(self.held), dict(self.forgotten)
        return Model(dict(self.present), snapshots, forgotten, held, self.flushes)

    def flushed(self, brought: Mapping[FileKey, bytes]) -> None:
        """Take in what a flush made durable."""
        self.flushes += 1
        self.present |= {key: (content, self.flushes) for key, content in brought.items()}

    def forget(self, study_instance_uid: str) -> None:
        """Let everything of a study go, wherever it is."""
        self.forgotten[study_instance_uid] = self.flushes

    def view(self, holding: Mapping[FileKey, tuple[bytes, int]]) -> dict[FileKey, bytes]:
        """Return what counts of a holding."""
        return {
            key: content
            for key, (content, flush) in holding.items()
            if flush > self.forgotten.get(key[0], 0)
        }

    def studies(self) -> list[str]:
        """List the studies of which anything is there now."""
        return sorted({key[0] for key in self.view(self.present)})


@dataclass
class VaultWorld:
    """One vault, its clock, and the model of what it holds."""

    store: StagingStore
    files: Files
    redundant: bool = True
    encrypted: bool = True
    clock: FakeClock = field(default_factory=FakeClock)
    model: Model = field(default_factory=Model)
    secret: Secret = PASSPHRASE

    def init(self) -> VaultWorld:
        """Make the vault."""
        init_vault(
            self.store,
            [(PASSPHRASE, "me")] if self.encrypted else [],
            self.clock,
            encrypted=self.encrypted,
            redundant=self.redundant,
            cost=COST,
        )
        return self

    def copy(self) -> VaultWorld:
        """Return the same world once more, in memory; what happens here does not happen there."""
        store = MemoryStore()
        for key in self.store.keys(""):
            store.put(key, [self.store.get(key)])
        clock = FakeClock(self.clock.now())
        return replace(self, store=store, clock=clock, model=self.model.copy())

    def opened(self, store: ObjectStore | None = None) -> Vault:
        """Open the vault anew, as a new process does."""
        return open_vault(store or self.store, [self.secret], self.clock)

    def process(self, store: ObjectStore | None = None, profile: VaultProfile = "fast") -> Process:
        """Start a process that backs up into the vault."""
        section = VaultDestinationSection(location="somewhere", profile=profile)
        destination = VaultDestination(section, lambda: self.opened(store), self.clock)
        return Process(self, destination)

    def origin(self, source: str) -> Origin:
        """Return where files of a new run come from."""
        return Origin(RunId(secrets.token_hex(8)), source)

    def compare(self) -> None:
        """Restore the present and every snapshot, and compare them with the model."""
        vault = self.opened()
        choice = Choice(vault)
        assert restored(choice.present()) == self.model.view(self.model.present)
        assert {link.name for link in choice.links} == self.model.snapshots.keys()
        for name, holding in self.model.snapshots.items():
            assert restored(choice.snapshot(name)) == self.model.view(holding), name


@dataclass
class Process:
    """A process that lives on: it remembers of the vault what such a process remembers."""

    world: VaultWorld
    destination: VaultDestination

    def back_up(self, source: str, files: Sequence[tuple[str, bytes]]) -> None:
        """Store files and flush; tried again when the vault asks for that, as a backup does."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self.deliver(source, files)
            except VaultBusyError:
                if attempt == ATTEMPTS:
                    raise
            else:
                break
        self.world.model.flushed(
            {self.world.files.key(source, locator, one): one for locator, one in files}
        )
        self.verify(source, files)

    def deliver(self, source: str, files: Sequence[tuple[str, bytes]]) -> None:
        """Store files and flush, once."""
        with self.destination.open((), self.world.origin(source)) as delivery:
            for locator, content in files:
                receipt = delivery.put(self.world.files.file(locator, content))
                assert receipt.file_sha256 == hashlib.sha256(content).digest()
            self.world.clock.advance(0.001)
            delivery.flush()

    def verify(self, source: str, files: Iterable[tuple[str, bytes]]) -> None:
        """Ask for the evidence that a backup asks for."""
        last = {self.world.files.key(source, locator, one): one for locator, one in files}
        for (study, _source, locator, sop), content in last.items():
            header = self.world.files.file(locator, content).header
            identity = InstanceIdentity(study, header.series_instance_uid if header else "", sop)
            sha256 = hashlib.sha256(content).digest()
            expected = ExpectedInstance(VersionId(1), identity, len(content), sha256)
            found = self.destination.verify(ExpectedStudy(study, (expected,)), Level.COMPLETE)
            assert found.findings[VersionId(1)] is Finding.HELD, found.reasons

    def snapshot(self, source: str = "") -> str | None:
        """Take a snapshot; return its name."""
        world = self.world
        seen = dict(world.model.present)
        world.clock.advance(0.001)
        before = world.model.snapshots.keys()
        ref = self.destination.take_snapshot(world.origin(source), None)
        if ref is None or ref.snapshot_id in before:
            return None
        world.model.snapshots[ref.snapshot_id] = seen
        return ref.snapshot_id


def restored(state: VaultState) -> dict[FileKey, bytes]:
    """Put every file of a state together."""
    found: dict[FileKey, bytes] = {}
    for uid in state.studies():
        for record in state.records(uid):
            key = (uid, *record.key)
            assert key not in found
            found[key] = b"".join(rebuild_file(record, state.vault.read_blob))
    return found
