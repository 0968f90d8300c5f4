"""The folder destination passes the shipped suite, on a disk and in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcmvault.config.sections import FolderDestinationSection
from dcmvault.destinations.folder import FolderDestination
from dcmvault.model.instance import InstanceFile
from dcmvault.model.receipt import Receipt
from dcmvault.object_stores.local import LocalStore
from dcmvault.ports.destination import Destination, Verifier
from dcmvault.testing.clock import FakeClock
from dcmvault.testing.destination_suite import DestinationSuite


class TestFolderDestination(DestinationSuite):
    @pytest.fixture(autouse=True)
    def _folders(self, tmp_path: Path) -> None:
        self.scratch = tmp_path / "scratch"
        self.scratch.mkdir()
        self.root = tmp_path / "backup"
        self.root.mkdir()

    def destination(self) -> Destination:
        return self._at(self.root)

    def unreachable_destination(self) -> Destination:
        return self._at(self.root / "not" / "mounted")

    def lose(self, destination: Destination, file: InstanceFile, receipt: Receipt) -> None:
        (self.root / receipt.object_key).unlink()

    def _at(self, path: Path) -> FolderDestination:
        clock = FakeClock()
        return FolderDestination(
            FolderDestinationSection(path=path), LocalStore(path, clock), clock
        )

    def test_gives_evidence(self) -> None:
        assert isinstance(self.destination(), Verifier)
