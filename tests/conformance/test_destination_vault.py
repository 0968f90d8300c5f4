"""The vault as a destination passes the shipped suite, encrypted and not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.vault.small_vault import CHEAP, PASSPHRASE

from dcmvault.config.sections import VaultDestinationSection
from dcmvault.destinations.vault import VaultDestination
from dcmvault.model.instance import InstanceFile
from dcmvault.model.receipt import Receipt
from dcmvault.object_stores.local import LocalStore
from dcmvault.ports.destination import Destination
from dcmvault.testing.clock import FakeClock
from dcmvault.testing.destination_suite import ORIGIN, DestinationSuite
from dcmvault.vault.blob import BlobType
from dcmvault.vault.blob_packs import BlobPacks
from dcmvault.vault.index import Addition, RecordsRef
from dcmvault.vault.initialise import init_vault
from dcmvault.vault.ledger import Journal
from dcmvault.vault.profile import PROFILES
from dcmvault.vault.repository import Vault, open_vault
from dcmvault.vault.state import read_records


class TestVaultDestination(DestinationSuite):
    @pytest.fixture(autouse=True, params=[True, False], ids=["encrypted", "open"])
    def _vault(self, tmp_path: Path, request: pytest.FixtureRequest) -> None:
        self.scratch = tmp_path / "scratch"
        self.scratch.mkdir()
        self.folder = tmp_path / "vault"
        self.clock = FakeClock()
        encrypted = bool(request.param)
        init_vault(
            LocalStore(self.folder, self.clock),
            [(PASSPHRASE, "")] if encrypted else [],
            self.clock,
            encrypted=encrypted,
            cost=CHEAP,
        )

    def destination(self) -> Destination:
        return self._at(self.folder)

    def unreachable_destination(self) -> Destination:
        return self._at(self.folder / "not" / "mounted")

    def lose(self, destination: Destination, file: InstanceFile, receipt: Receipt) -> None:
        """Write what is known of the study anew, without the file, and have it looked at."""
        vault = self._opened(self.folder)
        vault.refresh()
        for journal in vault.journals():
            self._without(vault, journal, receipt.file_sha256)
        assert isinstance(destination, VaultDestination)
        assert destination.take_snapshot(ORIGIN, None) is not None

    def _without(self, vault: Vault, journal: Journal, file_sha256: bytes) -> None:
        blobs, refs = BlobPacks(vault, PROFILES["fast"]), []
        for ref in journal.records:
            part = read_records(vault, ref.id)
            kept = tuple(one for one in part.instances if one.file_sha256 != file_sha256)
            blob = blobs.put(BlobType.RECORDS, replace(part, instances=kept).encode())
            refs.append(RecordsRef(ref.study_instance_uid, blob, len(kept)))
        blobs.close()
        vault.ledger.add_journal(
            Addition((*journal.packs, *blobs.packs), tuple(refs), written_at=vault.now())
        )
        vault.objects.delete(journal.key)

    def _opened(self, folder: Path) -> Vault:
        return open_vault(LocalStore(folder, self.clock), [PASSPHRASE], self.clock)

    def _at(self, folder: Path) -> VaultDestination:
        section = VaultDestinationSection(location=str(folder), profile="fast")
        return VaultDestination(section, lambda: self._opened(folder), self.clock)
