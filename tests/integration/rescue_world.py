"""Vaults that the product writes, and what the rescue tool gets out of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tools import rescue

from dcmvault.dicom.byte_source import MemoryBytes
from dcmvault.dicom.part10 import scan
from dcmvault.errors import MalformedDicomError
from dcmvault.model.instance import Fingerprint, InstanceEntry, InstanceFile
from dcmvault.model.sidecar import SidecarFile
from dcmvault.object_stores.local import LocalStore
from dcmvault.sources.local_files import escape
from dcmvault.testing.clock import FakeClock
from dcmvault.vault.initialise import init_vault
from dcmvault.vault.profile import PROFILES
from dcmvault.vault.recovery_words import to_rows
from dcmvault.vault.repository import Vault, open_vault
from dcmvault.vault.slots import Applicant, Argon2Cost, Passphrase, RecoveryKey
from dcmvault.vault.snapshot import Link
from dcmvault.vault.state import VaultState, present_state
from dcmvault.vault.taking_snapshots import Change, take_snapshot
from dcmvault.vault.writer import KnownFiles, VaultWriter

PASSPHRASE = "correct horse bätteri"
RECOVERY = bytes(range(100, 120))
RECOVERY_WORDS = "\n".join(" ".join(row) for row in to_rows(RECOVERY))
#: What guessing costs in tests: next to nothing.
COST = Argon2Cost(iterations=1, lanes=1, memory_kib=64)
SOURCE = "/data/images"


@contextmanager
def encoders() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2, thread_name_prefix="encoder") as pool:
        yield pool


@dataclass
class World:
    """One vault in a folder, with the clock that its writers look at."""

    place: Path
    encrypted: bool = True
    redundant: bool = True
    profile: str = "balanced"
    clock: FakeClock = field(default_factory=FakeClock)

    def __post_init__(self) -> None:
        self.place.mkdir(parents=True)
        keys: list[tuple[Applicant, str]] = [
            (Passphrase(PASSPHRASE), "me"),
            (RecoveryKey(RECOVERY), "paper"),
        ]
        init_vault(
            LocalStore(self.place, self.clock),
            keys if self.encrypted else [],
            self.clock,
            encrypted=self.encrypted,
            redundant=self.redundant,
            cost=COST,
        )

    def opened(self) -> Vault:
        store = LocalStore(self.place, self.clock)
        return open_vault(store, [Passphrase(PASSPHRASE)], self.clock)

    def state(self) -> VaultState:
        return present_state(self.opened())

    def back_up(
        self,
        folder: Path,
        *,
        vault: Vault | None = None,
        seen: VaultState | None = None,
        source: str = SOURCE,
        run: str = "run-1",
        flush_every: int = 50,
    ) -> Vault:
        """Store all files of a folder; no snapshot is taken. `seen`: what the writer knows of."""
        vault = vault or self.opened()
        self.clock.advance(1)
        with encoders() as pool:
            state = seen or present_state(vault)
            known = KnownFiles(state.records, state.forgotten.studies)
            writer = VaultWriter(vault, known, PROFILES[self.profile], pool, source=source, run=run)
            for number, path in enumerate(files_below(folder), 1):
                file = instance_file(path, folder)
                writer.put(file, MemoryBytes(path.read_bytes()))
                if number % flush_every == 0:
                    writer.flush()
            writer.flush()
        return vault

    def snapshot(
        self,
        vault: Vault | None = None,
        *,
        source: str = SOURCE,
        run: str = "run-1",
        sidecar: Iterable[SidecarFile] | None = None,
    ) -> Link:
        self.clock.advance(1)
        change = Change("backup", run, source, sidecar)
        link = take_snapshot(vault or self.opened(), change, PROFILES[self.profile])
        assert link is not None
        return link


def files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def instance_file(path: Path, folder: Path) -> InstanceFile:
    try:
        header = scan(path)
    except MalformedDicomError:
        header = None
    stat = path.stat()
    fingerprint = Fingerprint(stat.st_size, stat.st_mtime_ns, stat.st_ino)
    return InstanceFile(
        InstanceEntry(escape(str(path.relative_to(folder))), fingerprint), path, header
    )


def contents(folder: Path) -> dict[str, str]:
    """SHA-256 by path below the folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files_below(folder)
    }


def rescued(
    world: World, out: Path, *options: str, key: str = "passphrase", status: int = 0
) -> dict[str, str]:
    """Run the tool, and return what it made."""
    given: list[str] = []
    if world.encrypted:
        text = PASSPHRASE if key == "passphrase" else RECOVERY_WORDS
        secret = out.with_name(out.name + ".key")
        secret.write_text(text, encoding="utf-8")
        given = [f"--{key}-file", str(secret)]
    assert rescue.main([str(world.place), str(out), *given, *options]) == status
    return contents(out)
