"""Reading back: a PACS that stored other bytes with success, or kept older ones, is found out."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from scripts.peer_processes import DicomPeer, Orthanc
from tests.conftest import RunDcmvault, StartOrthanc
from tests.integration.dimse_story import destination_at, expected, file_of, put_each
from tests.integration.fault_proxy import ALTERING, FaultProxy, WireFault
from tests.integration.flow_world import Flow
from tests.integration.story import instances, summary_of

from dcmvault.config.peer_sections import DimseDestinationSection
from dcmvault.destinations.dimse import DimseDestination
from dcmvault.dicom.digest import data_set_digest
from dcmvault.model.evidence import ExpectedInstance, Finding, Level
from dcmvault.model.instance import InstanceFile, UnreadableEntry
from dcmvault.model.report import RunReport
from dcmvault.testing.clock import FakeClock
from dcmvault.testing.dicom_files import MadeInstance, make_study
from dcmvault.testing.peers import SimulatedPacs

pytestmark = pytest.mark.peers

INSTANCES = 6
#: The first association asks what the peer has, the second delivers.
DELIVERY = 2


class MadeOriginals:
    """Made instances as originals, versions counting from 1."""

    def __init__(self, made: Sequence[MadeInstance]) -> None:
        self.made = made

    def files(
        self, instances: Sequence[ExpectedInstance]
    ) -> Iterator[tuple[ExpectedInstance, InstanceFile | UnreadableEntry]]:
        return ((one, file_of(self.made[one.version_id - 1].path)) for one in instances)


def _study(folder: Path) -> tuple[MadeInstance, ...]:
    return make_study(folder, key=str(folder), instances=INSTANCES, rows=64, columns=64)


def _backup(folder: Path, source: Path, port: int, called: str) -> Callable[[], RunReport]:
    """Return what backs up with evidence `proven`, again and again."""
    flow = Flow(folder, FakeClock())
    destination = destination_at(port, called, max_associations=1)
    flow.destinations[destination.name] = destination
    return lambda: flow.backup(source, destination.name, level=Level.PROVEN)


def _data_set_bytes(one: MadeInstance) -> int:
    header = file_of(one.path).header
    assert header is not None
    return header.data_set_end - header.data_set_start


def _altered(orthanc: Orthanc, made: tuple[MadeInstance, ...], folder: Path) -> list[str]:
    copy = folder / "copy.dcm"
    altered = []
    for one in made:
        digests = set()
        for stored in orthanc.files(one.sop_instance_uid):
            copy.write_bytes(stored)
            digests.add(data_set_digest(copy))
        if data_set_digest(one.path) not in digests:
            altered.append(one.sop_instance_uid)
    return altered


@pytest.mark.parametrize("overwrites", [True, False])
@pytest.mark.parametrize("offset", [3000, 14_000])
def test_altered_on_the_wire(
    tmp_path: Path, start_orthanc: StartOrthanc, offset: int, overwrites: bool
) -> None:
    """What Orthanc stored with a bit turned is sent once more: mended, or reported as damaged."""
    orthanc = start_orthanc(OverwriteInstances=overwrites)
    proxy = FaultProxy((orthanc.host, orthanc.dicom_port))
    source = tmp_path / "source"
    made = _study(source)
    with proxy.running():
        proxy.arm(WireFault.CORRUPTION, offset, after_negotiation=True, connection=DELIVERY)
        backup = _backup(tmp_path, source, proxy.port, orthanc.ae_title)
        report = backup()
        assert proxy.struck
        altered = _altered(orthanc, made, tmp_path)
        if overwrites:
            assert altered == []
            assert (report.exit_status, report.counts.stored) == (0, INSTANCES)
            return
        assert len(altered) == 1
        for again, stored in ((report, INSTANCES - 1), (backup(), 0)):
            assert (again.exit_status, again.counts.stored) == (3, stored)
            (failure,) = again.failures
            assert (failure.code, failure.sop_instance_uid) == ("damaged", altered[0])
            assert failure.message == "what came back differs: pixel data"
        (there,) = report.destinations
        sent = [_data_set_bytes(one) for one in made]
        once_more = [
            n for n, one in zip(sent, made, strict=True) if one.sop_instance_uid in altered
        ]
        assert there.transferred_bytes == sum(sent) + sum(once_more)


@pytest.mark.nightly
@pytest.mark.parametrize("fault", sorted(ALTERING))
def test_altered_at_many_places(
    tmp_path: Path, start_orthanc: StartOrthanc, fault: WireFault
) -> None:
    """Whatever was altered and kept is never shown as held; nothing else is reported."""
    orthanc = start_orthanc(OverwriteInstances=False)
    proxy = FaultProxy((orthanc.host, orthanc.dicom_port))
    chance = random.Random(f"{fault}")
    with proxy.running():
        for turn in range(40):
            folder = tmp_path / str(turn)
            made = _study(folder / "source")
            # Mostly in a header, where most different things are.
            offset = chance.randrange(chance.choice((1000, 18_000)))
            proxy.arm(fault, offset, after_negotiation=True, connection=DELIVERY)
            report = _backup(folder, folder / "source", proxy.port, orthanc.ae_title)()
            altered = _altered(orthanc, made, folder)
            named = {failure.sop_instance_uid for failure in report.failures}
            assert named == set(altered), (offset, report.failures)
            assert report.exit_status == (3 if altered else 0)
            assert report.counts.stored == INSTANCES - len(altered)


def test_altered_in_the_second_series(tmp_path: Path, start_orthanc: StartOrthanc) -> None:
    """A study of several series is mended as a whole, in one run."""
    orthanc = start_orthanc(OverwriteInstances=True)
    proxy = FaultProxy((orthanc.host, orthanc.dicom_port))
    source = tmp_path / "source"
    made = make_study(source, key=str(source), series=3, instances=2, rows=64, columns=64)
    with proxy.running():
        for turn, offset in enumerate((3000, 21_000, 40_000)):
            orthanc.wipe()
            folder = tmp_path / str(turn)
            folder.mkdir()
            proxy.arm(WireFault.CORRUPTION, offset, after_negotiation=True, connection=DELIVERY)
            report = _backup(folder, source, proxy.port, orthanc.ae_title)()
            assert proxy.struck
            assert report.exit_status == 0
            assert _altered(orthanc, made, folder) == []


def test_doubled_bytes(tmp_path: Path, start_orthanc: StartOrthanc) -> None:
    """Bytes that came twice either break the association or are found out."""
    orthanc = start_orthanc(OverwriteInstances=True)
    proxy = FaultProxy((orthanc.host, orthanc.dicom_port))
    source = tmp_path / "source"
    made = _study(source)
    with proxy.running():
        proxy.arm(WireFault.DUPLICATE, 3000, after_negotiation=True, connection=DELIVERY)
        backup = _backup(tmp_path, source, proxy.port, orthanc.ae_title)
        reports = [backup(), backup()]
        assert proxy.struck
    assert reports[-1].exit_status == 0
    assert _altered(orthanc, made, tmp_path) == []


def test_an_older_content_under_the_uid(tmp_path: Path, start_orthanc: StartOrthanc) -> None:
    """A PACS that keeps what it had under a UID, and says success, does not hold ours."""
    orthanc = start_orthanc(OverwriteInstances=False)
    source, older = tmp_path / "source", tmp_path / "older"
    made = _study(source)
    older.mkdir()
    data = pydicom.dcmread(made[0].path)
    data.SeriesDescription = "before it was corrected"
    data.save_as(older / "one.dcm")
    destination = destination_at(orthanc.dicom_port, orthanc.ae_title)
    put_each(destination, [file_of(older / "one.dcm")])
    destination.close_idle()
    report = _backup(tmp_path, source, orthanc.dicom_port, orthanc.ae_title)()
    assert (report.exit_status, report.counts.stored) == (3, INSTANCES - 1)
    (failure,) = report.failures
    assert (failure.code, failure.sop_instance_uid) == ("damaged", made[0].sop_instance_uid)
    assert failure.message == "what came back differs: (0008,103E)"
    # Declared as the PACS's own doing it is proven, and kept as evidence.
    section = DimseDestinationSection(
        host="127.0.0.1",
        port=orthanc.dicom_port,
        called_ae_title=orthanc.ae_title,
        coerced="(0008,103E) (0008,0050)",
    )
    destination = DimseDestination(section, FakeClock())
    study = replace(expected([file_of(one.path) for one in made]), originals=MadeOriginals(made))
    found = destination.verify(study, Level.PROVEN)
    destination.close_idle()
    assert set(found.findings.values()) == {Finding.HELD}
    assert found.proof["likeness"] == {"coerced": 1, "equal": INSTANCES - 1}
    assert found.proof["coercions"] == [
        {
            "attribute": "(0008,103E)",
            "old": "CT series 1",
            "new": "before it was corrected",
            "instances": 1,
        }
    ]


def _proven_on_the_command_line(
    run_dcmvault: RunDcmvault, home: Path, source: Path, peer: DicomPeer
) -> None:
    address = f"dicom://{peer.ae_title}@127.0.0.1:{peer.dicom_port}"
    # One at a time: processes of dcmqrscp that store at once write into each other's files.
    (home / "config.toml").write_text(
        f'[destinations.pacs]\naddress = "{address}"\nmax_associations = 1\n'
    )
    run_dcmvault("backup", source, "--to", "pacs")
    done = run_dcmvault("verify", source, "--at", "pacs", "--level", "proven", "--json")
    summary = summary_of(done)
    assert summary["level"] == "proven"
    assert instances(summary) == {"selected": INSTANCES, "stored": INSTANCES}


def test_orthanc_proves(
    tmp_path: Path, home: Path, run_dcmvault: RunDcmvault, orthanc: Orthanc
) -> None:
    """A sound study is proven; what the PACS lost afterwards is not."""
    made = _study(tmp_path / "source")
    _proven_on_the_command_line(run_dcmvault, home, tmp_path / "source", orthanc)
    orthanc.delete(made[0].sop_instance_uid)
    arguments = ("verify", tmp_path / "source", "--at", "pacs", "--level", "proven", "--json")
    lost = summary_of(run_dcmvault(*arguments), 3)
    assert [failure["code"] for failure in lost["failures"]] == ["missing"]


def test_dcmtk_proves(
    tmp_path: Path, home: Path, run_dcmvault: RunDcmvault, dcmqrscp: DicomPeer
) -> None:
    """Another implementation of C-GET, which re-encodes what it stores."""
    _study(tmp_path / "source")
    _proven_on_the_command_line(run_dcmvault, home, tmp_path / "source", dcmqrscp)


def test_transcoded_by_the_peer(tmp_path: Path, start_orthanc: StartOrthanc) -> None:
    """A PACS that compresses without loss what it takes holds the same instances."""
    orthanc = start_orthanc(IngestTranscoding="1.2.840.10008.1.2.4.70")
    source = tmp_path / "source"
    made = _study(source)
    report = _backup(tmp_path, source, orthanc.dicom_port, orthanc.ae_title)()
    stored = pydicom.dcmread(io.BytesIO(orthanc.file(made[0].sop_instance_uid)))
    assert stored.file_meta.TransferSyntaxUID.is_compressed
    assert (report.exit_status, report.counts.stored) == (0, INSTANCES)


def test_a_peer_without_retrieval(tmp_path: Path) -> None:
    """What cannot be read back stays a claim, and is said to be no more."""
    source = tmp_path / "source"
    _study(source)
    with SimulatedPacs() as pacs:
        report = _backup(tmp_path, source, pacs.port, pacs.ae_title)()
        assert (report.exit_status, report.counts.stored) == (3, 0)
        assert {failure.code for failure in report.failures} == {"cannot_verify"}
        assert "offers no retrieval (C-GET, Study Root)" in report.failures[0].message
