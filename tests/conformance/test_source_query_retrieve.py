"""The suite of sources over real archives: Orthanc by C-GET and C-MOVE, DCMTK's dcmqrscp."""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest
from scripts.peer_launch import free_port
from scripts.peer_packages import find_program, require
from scripts.peer_processes import DicomPeer, Orthanc
from tests.conftest import StartOrthanc
from tests.peer_files import send

from dcmvault.config.peer_sections import DimseSourceSection
from dcmvault.dicom.digest import data_set_digest
from dcmvault.sources.query_retrieve import QueryRetrieveSource
from dcmvault.testing.dicom_files import MadeInstance, make_study
from dcmvault.testing.source_suite import KnownSource, SourceSuite

pytestmark = pytest.mark.peers


def data_set(file: bytes) -> bytes:
    """What the peer's own file meta information says nothing about."""
    with tempfile.NamedTemporaryFile() as stream:
        stream.write(file)
        stream.flush()
        return data_set_digest(Path(stream.name)).encode()


def locator_of(made: MadeInstance) -> str:
    return f"{made.study_instance_uid}/{made.series_instance_uid}/{made.sop_instance_uid}"


@dataclass
class FilledArchive:
    """Studies that were sent to a peer."""

    peer: DicomPeer
    section: DimseSourceSection
    folder: Path

    def __post_init__(self) -> None:
        made = make_study(self.folder / "a", key="a", series=2, instances=2)
        made += make_study(self.folder / "b", key="b", instances=3)
        send(self.peer, self.folder)
        self.made = {locator_of(one): one for one in made}

    def change(self, locator: str) -> None:
        """Send another content under the same UIDs."""
        made = self.made[locator]
        changed = pydicom.dcmread(made.path)
        changed.InstanceNumber = 4711
        other = self.folder / "changed" / made.path.name
        other.parent.mkdir()
        changed.save_as(other)
        send(self.peer, other.parent)

    def known(self, content: dict[str, bytes]) -> KnownSource:
        return KnownSource(
            make=lambda: QueryRetrieveSource(self.section),
            content=content,
            make_unavailable=self.stop,
            change=self.change,
            remove=self.remove,
            compared=data_set,
            changes_show=False,
        )

    def stop(self) -> None:
        self.peer.process.kill()
        self.peer.process.wait()

    def remove(self, locator: str) -> None:
        raise NotImplementedError


class OrthancArchive(FilledArchive):
    def remove(self, locator: str) -> None:
        assert isinstance(self.peer, Orthanc)
        self.peer.delete(self.made[locator].sop_instance_uid)


class TestOrthancByGet(SourceSuite):
    @pytest.fixture(autouse=True)
    def _peer(self, start_orthanc: StartOrthanc) -> None:
        self.orthanc = start_orthanc(OverwriteInstances=True)
        self.section = DimseSourceSection(
            host=self.orthanc.host, port=self.orthanc.dicom_port, called_ae_title="ORTHANC"
        )

    def known_source(self, folder: Path) -> KnownSource:
        archive = OrthancArchive(self.orthanc, self.section, folder / "files")
        return archive.known(
            {
                locator: self.orthanc.file(one.sop_instance_uid)
                for locator, one in archive.made.items()
            }
        )


class TestOrthancByMove(TestOrthancByGet):
    @pytest.fixture(autouse=True)
    def _peer(self, start_orthanc: StartOrthanc) -> None:
        port = free_port()
        self.orthanc = start_orthanc(
            OverwriteInstances=True, DicomModalities={"us": ["BACKUP", "127.0.0.1", port]}
        )
        self.section = DimseSourceSection(
            host=self.orthanc.host,
            port=self.orthanc.dicom_port,
            called_ae_title="ORTHANC",
            retrieve="move",
            move_to="BACKUP",
            move_host="127.0.0.1",
            move_port=port,
        )


class DcmtkArchive(FilledArchive):
    def remove(self, locator: str) -> None:
        """Remove the file, and make the index anew of those that are left."""
        uid = self.made[locator].sop_instance_uid
        files = {pydicom.dcmread(path).SOPInstanceUID: path for path in self.files()}
        files.pop(uid).unlink()
        (self.peer.storage / "index.dat").unlink()
        program = require(find_program("dcmqridx"), "dcmtk")
        command = [str(program), str(self.peer.storage), *map(str, files.values())]
        subprocess.run(command, check=True, capture_output=True)

    def files(self) -> list[Path]:
        return [path for path in self.peer.storage.iterdir() if path.name != "index.dat"]


class TestDcmtkByGet(SourceSuite):
    @pytest.fixture(autouse=True)
    def _peer(self, dcmqrscp: DicomPeer) -> None:
        self.dcmqrscp = dcmqrscp

    def known_source(self, folder: Path) -> KnownSource:
        section = DimseSourceSection(
            host=self.dcmqrscp.host, port=self.dcmqrscp.port, called_ae_title="DCMQRSCP"
        )
        archive = DcmtkArchive(self.dcmqrscp, section, folder / "files")
        stored = {pydicom.dcmread(path).SOPInstanceUID: path for path in archive.files()}
        return archive.known(
            {
                locator: stored[one.sop_instance_uid].read_bytes()
                for locator, one in archive.made.items()
            }
        )
