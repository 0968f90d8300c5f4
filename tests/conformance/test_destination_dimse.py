"""The PACS destination passes the shipped suite: simulated, embedded, and a real Orthanc."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from scripts.peer_launch import free_port
from tests.conftest import StartOrthanc

from dcmvault.config.peer_sections import DimseDestinationSection
from dcmvault.destinations.dimse import DimseDestination
from dcmvault.dicom.listener import Listener
from dcmvault.errors import EntryVanishedError
from dcmvault.model.evidence import Level
from dcmvault.model.instance import InstanceFile
from dcmvault.model.receipt import Receipt
from dcmvault.ports.destination import Destination, Listable, Pipelined
from dcmvault.testing.clock import FakeClock
from dcmvault.testing.committing_pacs import CommittingPacs
from dcmvault.testing.destination_suite import ORIGIN, DestinationSuite
from dcmvault.testing.peers import SimulatedPacs


def _destination(
    port: int, called: str, async_window: int = 1, commitment_port: int = 0
) -> DimseDestination:
    section = DimseDestinationSection(
        host="127.0.0.1",
        port=port,
        called_ae_title=called,
        connect_timeout_s=5,
        association_timeout_s=10,
        dimse_timeout_s=20,
        async_window=async_window,
        commitment_port=commitment_port,
    )
    return DimseDestination(section, FakeClock())


def _sop_uid(file: InstanceFile) -> str:
    assert file.header is not None
    return file.header.sop_instance_uid


class _Peerless(DestinationSuite):
    """What all peers share."""

    @pytest.fixture(autouse=True)
    def _scratch(self, tmp_path: Path) -> None:
        self.scratch = tmp_path / "scratch"
        self.scratch.mkdir()

    def unreachable_destination(self) -> Destination:
        return _destination(free_port(), "NOBODY")

    def test_lists_what_it_holds(self) -> None:
        destination, files = self.destination(), self.sample_files()
        with destination.open(
            {file.header.kind for file in files if file.header}, ORIGIN
        ) as delivery:
            for file in files:
                delivery.put(file)
        assert isinstance(destination, Listable)
        first = files[0].header
        assert first is not None
        expected = {_sop_uid(file) for file in files[:4]}
        assert destination.instances(first.study_instance_uid) == expected
        assert (
            destination.instances(first.study_instance_uid, first.series_instance_uid) == expected
        )
        assert destination.instances("1.2.3.4") == frozenset()


class TestSimulatedPacs(_Peerless):
    not_offered = frozenset({Level.PROVEN})  # no C-GET

    @pytest.fixture(autouse=True)
    def _peer(self) -> Iterator[None]:
        self.pacs: SimulatedPacs
        with CommittingPacs() as self.pacs:
            yield

    def destination(self) -> Destination:
        return _destination(self.pacs.port, self.pacs.ae_title)

    def lose(self, destination: Destination, file: InstanceFile, receipt: Receipt) -> None:
        self.pacs.lose(_sop_uid(file))


class TestSimulatedPacsWithWindow(TestSimulatedPacs):
    not_offered = frozenset({Level.COMMITTED, Level.PROVEN})

    @pytest.fixture(autouse=True)
    def _peer(self) -> Iterator[None]:
        with SimulatedPacs(async_window=8) as self.pacs:
            yield

    def destination(self) -> Destination:
        return _destination(self.pacs.port, self.pacs.ae_title, async_window=3)

    def test_files_on_their_way_are_all_heard_of(self) -> None:
        destination, files = self.destination(), self.sample_files()[:4]
        files[1].path.unlink()
        with destination.open(
            {file.header.kind for file in files if file.header}, ORIGIN
        ) as delivery:
            assert isinstance(delivery, Pipelined)
            delivery.begin(files[0])
            with pytest.raises(EntryVanishedError):
                delivery.begin(files[1])
            delivery.begin(files[2])
            delivery.begin(files[3])
            assert delivery.window == 3
            came = dict(delivery.finish() for _ in range(3))
        for file in (files[0], *files[2:]):
            receipt = came[file]
            assert isinstance(receipt, Receipt)
            assert receipt.locator == file.entry.locator


class TestListener(_Peerless):
    not_offered = frozenset({Level.COMMITTED, Level.PROVEN})

    @pytest.fixture(autouse=True)
    def _peer(self, tmp_path: Path) -> Iterator[None]:
        with Listener(tmp_path / "pacs", ae_title="EMBEDDED") as self.pacs:
            yield

    def destination(self) -> Destination:
        return _destination(self.pacs.port, "EMBEDDED")

    def lose(self, destination: Destination, file: InstanceFile, receipt: Receipt) -> None:
        self.pacs.forget(_sop_uid(file))


@pytest.mark.peers
class TestOrthanc(_Peerless):
    @pytest.fixture(autouse=True)
    def _peer(self, start_orthanc: StartOrthanc) -> None:
        self.port = free_port()
        us = ["DCMVAULT", "127.0.0.1", self.port]
        self.pacs = start_orthanc(DicomModalities={"us": us})

    def destination(self) -> Destination:
        return _destination(self.pacs.dicom_port, self.pacs.ae_title, commitment_port=self.port)

    def lose(self, destination: Destination, file: InstanceFile, receipt: Receipt) -> None:
        self.pacs.delete(_sop_uid(file))
