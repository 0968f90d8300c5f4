"""The PACS destination passes the shipped suite: simulated, embedded, and a real Orthanc."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from scripts.peer_processes import Orthanc

from dcmvault.config.sections import DimseDestinationSection
from dcmvault.destinations.dimse import DimseDestination
from dcmvault.dicom.listener import Listener
from dcmvault.model.evidence import Level
from dcmvault.model.instance import InstanceFile
from dcmvault.model.receipt import Receipt
from dcmvault.ports.destination import Destination, Listable
from dcmvault.testing.clock import FakeClock
from dcmvault.testing.destination_suite import ORIGIN, DestinationSuite
from dcmvault.testing.peers import SimulatedPacs


def _destination(port: int, called: str) -> DimseDestination:
    section = DimseDestinationSection(
        host="127.0.0.1",
        port=port,
        called_ae_title=called,
        connect_timeout_s=5,
        association_timeout_s=10,
        dimse_timeout_s=20,
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
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port: int = free.getsockname()[1]
        return _destination(port, "NOBODY")

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
        with SimulatedPacs() as self.pacs:
            yield

    def destination(self) -> Destination:
        return _destination(self.pacs.port, self.pacs.ae_title)

    def lose(self, destination: Destination, file: InstanceFile, receipt: Receipt) -> None:
        self.pacs.lose(_sop_uid(file))


class TestListener(_Peerless):
    not_offered = frozenset({Level.PROVEN})  # no C-GET

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
    def _peer(self, orthanc: Orthanc) -> None:
        self.pacs = orthanc

    def destination(self) -> Destination:
        return _destination(self.pacs.dicom_port, self.pacs.ae_title)

    def lose(self, destination: Destination, file: InstanceFile, receipt: Receipt) -> None:
        self.pacs.delete(_sop_uid(file))
