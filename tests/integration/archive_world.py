"""A vault on a disk with studies in it, and the archive over it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.integration.vault_world import COST, PASSPHRASE

from dcmvault.archives.vault import VaultArchive
from dcmvault.config.sections import VaultDestinationSection
from dcmvault.destinations.vault import VaultDestination
from dcmvault.dicom.part10 import scan
from dcmvault.errors import MalformedDicomError
from dcmvault.model.identifiers import RunId
from dcmvault.model.instance import Fingerprint, InstanceEntry, InstanceFile
from dcmvault.model.query import ArchiveQuery, QueryLevel
from dcmvault.model.snapshot import Origin
from dcmvault.object_stores.local import LocalStore
from dcmvault.testing.clock import FakeClock
from dcmvault.vault.choosing import Choice
from dcmvault.vault.initialise import init_vault
from dcmvault.vault.repository import Vault, open_vault


def file_at(path: Path, locator: str = "") -> InstanceFile:
    """Return a file as a source shows it."""
    stat = path.stat()
    entry = InstanceEntry(
        locator or str(path), Fingerprint(stat.st_size, stat.st_mtime_ns, stat.st_ino)
    )
    try:
        return InstanceFile(entry, path, scan(path))
    except MalformedDicomError:
        return InstanceFile(entry, path)


@dataclass
class ArchiveWorld:
    """A vault in a folder; each backup ends with a snapshot."""

    folder: Path
    encrypted: bool = True
    clock: FakeClock = field(default_factory=FakeClock)

    def __post_init__(self) -> None:
        init_vault(
            self.store(),
            [(PASSPHRASE, "me")] if self.encrypted else [],
            self.clock,
            encrypted=self.encrypted,
            cost=COST,
        )

    def store(self) -> LocalStore:
        """Return its object store."""
        return LocalStore(self.folder, self.clock)

    def opened(self) -> Vault:
        """Open it anew."""
        return open_vault(self.store(), [PASSPHRASE], self.clock)

    def back_up(self, files: Iterable[Path], source: str = "/data", run: str = "run-1") -> str:
        """Store files; return the name of the snapshot after it."""
        section = VaultDestinationSection(location=str(self.folder), profile="fast")
        destination = VaultDestination(section, self.opened, self.clock)
        origin = Origin(RunId(run), source)
        self.clock.advance(1)
        with destination.open((), origin) as delivery:
            for path in files:
                delivery.put(file_at(path))
            delivery.flush()
        self.clock.advance(1)
        snapshot = destination.take_snapshot(origin, None)
        assert snapshot is not None
        return str(snapshot.snapshot_id)

    def archive(self, snapshot: str = "", keeps: Path | None = None) -> VaultArchive:
        """Return the archive over the present, or over a snapshot; cards are kept in a folder."""
        vault = self.opened()

        def choose() -> object:
            choice = Choice(vault)
            return choice.snapshot(snapshot) if snapshot else choice.present()

        follows = not snapshot
        return VaultArchive(vault, choose, follows=follows, keeps=keeps)  # type: ignore[arg-type]


def found(archive: VaultArchive, level: QueryLevel, **keys: str) -> list[dict[int, str]]:
    """Ask, with the keys by their keywords; return all answers."""
    from pydicom.datadict import tag_for_keyword

    asked = {}
    for keyword, value in keys.items():
        tag = tag_for_keyword(keyword)
        assert tag is not None, keyword
        asked[int(tag)] = value
    return [dict(answer.attributes) for answer in archive.find(ArchiveQuery(level, asked))]
