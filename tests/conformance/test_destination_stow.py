"""DICOMweb services as destinations: the shipped suite against a real Orthanc."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripts.peer_launch import free_port
from scripts.peer_processes import Orthanc

from dcmvault.config.peer_sections import StowDestinationSection
from dcmvault.destinations.stow import StowDestination
from dcmvault.model.instance import InstanceFile
from dcmvault.model.receipt import Receipt
from dcmvault.ports.destination import Destination, Listable
from dcmvault.testing.clock import FakeClock
from dcmvault.testing.destination_suite import ORIGIN, DestinationSuite


def _destination(url: str) -> StowDestination:
    section = StowDestinationSection(url=url, connect_timeout_s=5, response_timeout_s=20)
    return StowDestination(section, FakeClock())


def _sop_uid(file: InstanceFile) -> str:
    assert file.header is not None
    return file.header.sop_instance_uid


@pytest.mark.peers
class TestOrthanc(DestinationSuite):
    @pytest.fixture(autouse=True)
    def _peer(self, orthanc: Orthanc, tmp_path: Path) -> None:
        self.pacs = orthanc
        self.scratch = tmp_path / "scratch"
        self.scratch.mkdir()

    def destination(self) -> Destination:
        return _destination(f"{self.pacs.http_url}/dicom-web")

    def unreachable_destination(self) -> Destination:
        return _destination(f"http://127.0.0.1:{free_port()}/dicom-web")

    def lose(self, destination: Destination, file: InstanceFile, receipt: Receipt) -> None:
        self.pacs.delete(_sop_uid(file))

    def test_lists_what_it_holds(self) -> None:
        destination, files = self.destination(), self.sample_files()
        with destination.open((), ORIGIN) as delivery:
            for file in files:
                delivery.put(file)
        assert isinstance(destination, Listable)
        first = files[0].header
        assert first is not None
        expected = {_sop_uid(file) for file in files[:4]}
        study, series = first.study_instance_uid, first.series_instance_uid
        assert destination.instances(study) == expected
        assert destination.instances(study, series) == expected
        assert destination.instances("1.2.3.4") == frozenset()

    def test_what_is_held_is_the_file_byte_for_byte(self) -> None:
        destination, files = self.destination(), self.sample_files()
        with destination.open((), ORIGIN) as delivery:
            delivery.put(files[0])
        assert self.pacs.file(_sop_uid(files[0])) == files[0].path.read_bytes()
