from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from dcmvault.config.sections import VaultSourceSection
from dcmvault.dicom.byte_source import MemoryBytes
from dcmvault.dicom.part10 import scan
from dcmvault.errors import MalformedDicomError
from dcmvault.model.instance import Fingerprint, InstanceEntry, InstanceFile
from dcmvault.object_stores.local import LocalStore
from dcmvault.sources.vault import VaultSource
from dcmvault.testing.clock import FakeClock
from dcmvault.testing.dicom_files import make_study
from dcmvault.testing.source_suite import KnownSource, SourceSuite
from dcmvault.vault.initialise import init_vault
from dcmvault.vault.profile import PROFILES
from dcmvault.vault.repository import Vault, open_vault
from dcmvault.vault.retention import forget_study
from dcmvault.vault.state import present_state
from dcmvault.vault.taking_snapshots import Change, take_snapshot
from dcmvault.vault.writer import KnownFiles, VaultWriter


@dataclass
class FilledVault:
    """A vault whose files are known: by locator of the source, where they came from."""

    folder: Path
    place: Path
    snapshots: bool
    clock: FakeClock = field(default_factory=FakeClock)
    files: dict[str, tuple[str, Path]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.place.mkdir()
        init_vault(
            LocalStore(self.place, self.clock), (), self.clock, encrypted=False, redundant=False
        )

    def open(self) -> Vault:
        return open_vault(LocalStore(self.place, self.clock), (), self.clock)

    def source(self) -> VaultSource:
        return VaultSource(VaultSourceSection(location=str(self.place)), self.open)

    def store(self, *paths: Path, source: str = "/data") -> None:
        self.clock.advance(1)
        vault = self.open()
        state = present_state(vault)
        known = KnownFiles(state.records, state.forgotten.studies)
        with ThreadPoolExecutor(1) as pool:
            writer = VaultWriter(vault, known, PROFILES["fast"], pool, source=source, run="run")
            for path in paths:
                try:
                    header = scan(path)
                except MalformedDicomError:
                    header = None
                status = path.stat()
                fingerprint = Fingerprint(status.st_size, status.st_mtime_ns, status.st_ino)
                entry = InstanceEntry(str(path.relative_to(self.folder)), fingerprint)
                writer.put(InstanceFile(entry, path, header), MemoryBytes(path.read_bytes()))
            writer.flush()
        if self.snapshots:
            take_snapshot(vault, Change(source=source))

    def known(self) -> KnownSource:
        state = present_state(self.open())
        paths = {}
        studies = {}
        source = self.source()
        for study in source.studies():
            records = {r.sop_instance_uid: r for r in state.records(study.study_instance_uid)}
            for entry in source.entries(study):
                record = records[entry.expected_sop_instance_uid]
                paths[entry.locator] = self.folder / record.locator
                studies[entry.locator] = study.study_instance_uid

        def change(locator: str) -> None:
            path = paths[locator]
            path.write_bytes(path.read_bytes() + b"\0\0")
            self.store(path)

        def remove(locator: str) -> None:
            self.clock.advance(1)
            forget_study(self.open(), studies[locator])

        return KnownSource(
            make=self.source,
            content={locator: path.read_bytes() for locator, path in paths.items()},
            make_unavailable=lambda: shutil.rmtree(self.place),
            change=change,
            remove=remove,
            trees=[self.place],
            index_files=frozenset(path for path in self.place.rglob("*") if path.is_file()),
        )


class TestVaultSource(SourceSuite):
    snapshots = True

    def known_source(self, folder: Path) -> KnownSource:
        vault = FilledVault(folder, folder / "vault", self.snapshots)
        # The suite disturbs the second locator, and a vault forgets whole studies only.
        other = folder / "-"
        other.write_bytes(b"no DICOM")
        made = make_study(folder / "a", study_uid="1.2.3.1", key="a", instances=1)
        made += make_study(folder / "b", study_uid="1.2.3.2", key="b", series=2, instances=2)
        vault.store(other, *(one.path for one in made))
        return vault.known()


class TestVaultSourceWithoutSnapshot(TestVaultSource):
    snapshots = False
