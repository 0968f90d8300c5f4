"""The plug-in keeps dcmvault's contracts: the suites are shipped with it."""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from dcmvault.model.instance import InstanceFile
from dcmvault.model.receipt import Receipt
from dcmvault.ports.destination import Destination
from dcmvault.ports.notifier import Notifier
from dcmvault.testing.clock import FakeClock
from dcmvault.testing.destination_suite import DestinationSuite
from dcmvault.testing.notifier_suite import NotifierSuite
from dcmvault_tar.archive import TarDestination, TarSection
from dcmvault_tar.journal import AppendNotifier


class TestTarDestination(DestinationSuite):
    @pytest.fixture(autouse=True)
    def _folders(self, tmp_path: Path) -> None:
        self.scratch = tmp_path / "scratch"
        self.scratch.mkdir()
        self.file = tmp_path / "copies.tar"

    def destination(self) -> Destination:
        return TarDestination(TarSection(file=self.file), FakeClock())

    def unreachable_destination(self) -> Destination:
        away = self.file.parent / "not" / "mounted.tar"
        return TarDestination(TarSection(file=away), FakeClock())

    def lose(self, destination: Destination, file: InstanceFile, receipt: Receipt) -> None:
        left = self.file.with_suffix(".new")
        with tarfile.open(self.file) as old, tarfile.open(left, "w") as new:
            for member in old:
                if member.name != receipt.object_key:
                    new.addfile(member, old.extractfile(member))
        left.replace(self.file)


class TestAppendNotifier(NotifierSuite):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def notifier(self) -> Notifier:
        return AppendNotifier(self.folder / "journal.jsonl")

    def unreachable_notifier(self) -> Notifier:
        return AppendNotifier(self.folder / "not" / "mounted.jsonl")

    def refused_notifier(self) -> Notifier:
        return AppendNotifier(self.folder)

    def taken(self) -> Sequence[bytes]:
        return (self.folder / "journal.jsonl").read_bytes().splitlines()
