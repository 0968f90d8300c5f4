"""What goes over the wire: the file's own bytes, under the right context, however many kinds."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from scripts.peer_processes import DicomPeer, Orthanc
from tests.integration.dimse_story import (
    destination_at,
    expected,
    file_of,
    kinds_of,
    put_each,
    sop_uids,
    study_files,
    with_header,
)

from dcmvault.destinations.dimse import DimseDestination
from dcmvault.dicom.listener import Listener
from dcmvault.dicom.part10 import scan
from dcmvault.errors import (
    DestinationError,
    EntryUnreadableError,
    InstanceUnsendableError,
    LevelNotSupportedError,
    MalformedDicomError,
)
from dcmvault.model.evidence import Finding, Level
from dcmvault.model.instance import InstanceFile, InstanceKind
from dcmvault.model.receipt import Receipt
from dcmvault.testing.corpus import real_files
from dcmvault.testing.destination_suite import ORIGIN
from dcmvault.testing.dicom_files import make_instance, make_uid
from dcmvault.testing.peers import SimulatedPacs


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    with Listener(tmp_path / "pacs", ae_title="EMBEDDED") as running:
        yield running


def _at(listener: Listener) -> DimseDestination:
    return destination_at(listener.port, "EMBEDDED")


def _stored(folder: Path, sop_instance_uid: str) -> Path:
    return folder / "pacs" / f"{hashlib.sha256(sop_instance_uid.encode()).hexdigest()}.dcm"


def _data_set(path: Path) -> bytes:
    header = scan(path)
    return path.read_bytes()[header.data_set_start : header.data_set_end]


def _readable(paths: list[Path]) -> Iterator[InstanceFile]:
    seen: set[str] = set()
    for path in paths:
        try:
            file = file_of(path)
        except MalformedDicomError:
            continue
        assert file.header is not None
        if file.header.sop_instance_uid not in seen:
            seen.add(file.header.sop_instance_uid)
            yield file


def test_real_files_arrive_byte_for_byte_or_are_refused(listener: Listener, tmp_path: Path) -> None:
    files = list(_readable(real_files()))
    outcomes = put_each(_at(listener), files)
    stored = 0
    for file, outcome in zip(files, outcomes, strict=True):
        if isinstance(outcome, Receipt):
            assert file.header is not None
            there = _stored(tmp_path, file.header.sop_instance_uid)
            assert _data_set(there) == _data_set(file.path), file.path.name
            assert outcome.file_sha256 == hashlib.sha256(file.path.read_bytes()).digest()
            stored += 1
        else:
            assert isinstance(outcome, InstanceUnsendableError), f"{file.path.name}: {outcome}"
    assert stored == len(listener.instances())
    assert stored > 50


@pytest.mark.parametrize("size", [16, 600, 1500])
def test_data_sets_of_many_pdus(listener: Listener, tmp_path: Path, size: int) -> None:
    made = make_instance(tmp_path / "a.dcm", "1.2.3", "1.2.4", "1.2.5", rows=size, columns=size)
    (receipt,) = put_each(_at(listener), [file_of(made.path)])
    assert isinstance(receipt, Receipt)
    there = _stored(tmp_path, "1.2.5")
    assert _data_set(there) == _data_set(made.path)
    assert receipt.transferred_bytes == len(_data_set(made.path))


def test_more_kinds_than_an_association_carries(tmp_path: Path) -> None:
    files = []
    for number in range(140):
        made = make_instance(
            tmp_path / f"{number}.dcm",
            make_uid("study"),
            make_uid("series"),
            make_uid(number),
            sop_class_uid=f"1.3.6.1.4.1.99999.{number + 1}",
        )
        files.append(file_of(made.path))
    with SimulatedPacs() as pacs:
        outcomes = put_each(destination_at(pacs.port, transcode="never"), files)
        assert pacs.held() == set(sop_uids(files))
        assert 2 <= pacs.associations <= 4
    assert all(isinstance(outcome, Receipt) for outcome in outcomes)


def test_a_kind_that_was_not_announced_is_negotiated(tmp_path: Path) -> None:
    files = [*study_files(tmp_path / "a", 1), *study_files(tmp_path / "b", 1, modality="MR")]
    with (
        SimulatedPacs() as pacs,
        destination_at(pacs.port).open(kinds_of(files[:1]), ORIGIN) as delivery,
    ):
        for file in [*files, *files]:
            delivery.put(file)
        assert pacs.associations == 2
        assert pacs.held() == set(sop_uids(files))


def test_kinds_that_no_peer_can_be_told_are_not_proposed(tmp_path: Path) -> None:
    (file,) = study_files(tmp_path, 1)
    odd_kinds = {InstanceKind("", ""), InstanceKind("1.2.\ufffd", "1.2"), *kinds_of([file])}
    with SimulatedPacs() as pacs, destination_at(pacs.port).open(odd_kinds, ORIGIN) as delivery:
        delivery.put(file)
        assert pacs.associations == 1


def test_an_idle_association_that_the_peer_ended_is_made_anew(tmp_path: Path) -> None:
    files = study_files(tmp_path, 2)
    with SimulatedPacs() as pacs:
        port = pacs.port
        destination = destination_at(port)
        with destination.open(kinds_of(files), ORIGIN) as delivery:
            delivery.put(files[0])
            pacs.stop()
            with SimulatedPacs(port=port) as restarted:
                delivery.put(files[1])
                assert restarted.held() == {sop_uids(files)[1]}


# Our own check.


def _cut(path: Path, by: int) -> InstanceFile:
    os.truncate(path, path.stat().st_size - by)
    return file_of(path)


def test_unsendable_files_are_named_and_spare_the_others(tmp_path: Path) -> None:
    made = study_files(tmp_path / "s", 4)
    rle = study_files(tmp_path / "r", 1, transfer_syntax=pydicom.uid.RLELossless)
    implicit = pydicom.uid.ImplicitVRLittleEndian
    implicit_file = study_files(tmp_path / "i", 1, transfer_syntax=implicit)[0]
    no_study = make_instance(tmp_path / "n.dcm", "", make_uid(1), make_uid(2)).path
    files = [
        _cut(made[0].path, 100),
        _cut(made[1].path, 101),
        _cut(rle[0].path, 20),
        with_header(made[2], series_instance_uid=""),
        with_header(made[2], sop_instance_uid="1.2.3*"),
        with_header(made[2], data_set_end=made[2].entry.fingerprint.size - 1),
        file_of(no_study),
        with_header(made[2], transfer_syntax_uid=implicit),
        with_header(implicit_file, transfer_syntax_uid=pydicom.uid.JPEGBaseline8Bit),
        made[3],
    ]
    with SimulatedPacs() as pacs:
        outcomes = put_each(destination_at(pacs.port), files)
        assert pacs.received == sop_uids(made[3:])
        assert pacs.associations == 1
    assert isinstance(outcomes.pop(), Receipt)
    words = ["truncated"] * 3 + ["no Series", "SOP Instance UID is not", "odd", "no Study"]
    words += ["not encoded as Implicit", "not encoded as JPEG"]
    for outcome, word in zip(outcomes, words, strict=True):
        assert isinstance(outcome, InstanceUnsendableError)
        assert word in outcome.message


def test_a_file_that_shrinks_while_it_is_sent_spares_the_others(tmp_path: Path) -> None:
    made = make_instance(tmp_path / "a.dcm", "1.2.3", "1.2.4", "1.2.5", rows=1500, columns=1500)
    good = study_files(tmp_path / "s", 1)[0]
    shrinking = file_of(made.path)
    os.truncate(made.path, 2_000_000)
    stat = made.path.stat()
    # The size is believed until the end of the file comes too early.
    shrunk = InstanceFile(file_of(made.path).entry, made.path, shrinking.header)
    assert shrunk.header is not None
    assert shrunk.header.data_set_end > stat.st_size
    with (
        SimulatedPacs() as pacs,
        destination_at(pacs.port).open(kinds_of([good]), ORIGIN) as delivery,
    ):
        with pytest.raises(InstanceUnsendableError, match="truncated"):
            delivery.put(shrunk)
        with pytest.raises(EntryUnreadableError):
            delivery.put(shrinking)
        delivery.put(good)
        assert pacs.held() == set(sop_uids([good]))


# Real peers.


@pytest.mark.peers
def test_storescp_takes_data_sets_as_they_are(storescp: DicomPeer, tmp_path: Path) -> None:
    files = study_files(tmp_path / "s", 5)
    destination = destination_at(storescp.dicom_port, storescp.ae_title)
    outcomes = put_each(destination, files)
    assert all(isinstance(outcome, Receipt) for outcome in outcomes)
    stored = {
        str(read.SOPInstanceUID): read.PixelData
        for path in storescp.storage.iterdir()
        if path.is_file()
        for read in [pydicom.dcmread(path)]
    }
    assert stored == {
        uid: pydicom.dcmread(file.path).PixelData
        for uid, file in zip(sop_uids(files), files, strict=True)
    }


@pytest.mark.peers
def test_storescp_without_query_gives_no_evidence(storescp: DicomPeer, tmp_path: Path) -> None:
    files = study_files(tmp_path / "s", 1)
    destination = destination_at(storescp.dicom_port, storescp.ae_title)
    put_each(destination, files)
    found = destination.verify(expected(files), Level.COMPLETE)
    assert set(found.findings.values()) == {Finding.UNKNOWN}
    assert all("no query" in reason for reason in found.reasons.values())
    with pytest.raises(DestinationError, match="no query"):
        destination.instances(expected(files).study_instance_uid)
    assert all(step.ok for step in destination.probe())


@pytest.mark.peers
def test_orthanc_refuses_a_private_sop_class_in_words(orthanc: Orthanc, tmp_path: Path) -> None:
    private = make_instance(
        tmp_path / "p.dcm", "1.2.3", "1.2.4", "1.2.5", sop_class_uid="1.3.6.1.4.1.99999.1"
    )
    files = [file_of(private.path), *study_files(tmp_path / "s", 1)]
    outcomes = put_each(destination_at(orthanc.dicom_port, orthanc.ae_title), files)
    assert isinstance(outcomes[0], InstanceUnsendableError)
    assert "does not take 1.3.6.1.4.1.99999.1" in outcomes[0].message
    assert isinstance(outcomes[1], Receipt)


@pytest.mark.peers
def test_dcmqrscp_is_verified(dcmqrscp: DicomPeer, tmp_path: Path) -> None:
    files = study_files(tmp_path / "s", 4)
    destination = destination_at(dcmqrscp.dicom_port, dcmqrscp.ae_title)
    put_each(destination, files[:3])
    found = destination.verify(expected(files), Level.COMPLETE)
    assert list(found.findings.values()) == [Finding.HELD] * 3 + [Finding.MISSING]


@pytest.mark.peers
def test_orthanc_keeps_what_it_can_and_is_asked_per_series(
    orthanc: Orthanc, tmp_path: Path
) -> None:
    files = list(_readable(real_files()))
    destination = destination_at(orthanc.dicom_port, orthanc.ae_title)
    stored: list[InstanceFile] = []
    for file in files:
        # One delivery each: some of these files make it abort the association.
        (outcome,) = put_each(destination, [file])
        if isinstance(outcome, Receipt):
            stored.append(file)
    assert set(orthanc.instances()) == set(sop_uids(stored))
    assert len(stored) > 50
    for file in stored:
        found = destination.verify(expected([file]), Level.COMPLETE)
        assert set(found.findings.values()) == {Finding.HELD}, file.path.name


def test_receipts_cannot_be_verified(tmp_path: Path) -> None:
    with pytest.raises(LevelNotSupportedError):
        destination_at(104).verify(expected(study_files(tmp_path, 1)), Level.SENT)


# The process of its own.


def test_simulated_pacs_as_a_process(tmp_path: Path) -> None:
    files = study_files(tmp_path / "s", 3)
    log = tmp_path / "log"
    command = [sys.executable, "-m", "dcmvault.testing.peers", "--fault", "refuse-every=2:A700:1"]
    with subprocess.Popen([*command, "--log", str(log)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        port = int(line.split(b":")[1].strip(b" }\n"))
        put_each(destination_at(port), files)
        put_each(destination_at(port), files[1:2])
        process.terminate()
        assert process.wait(30) == 0
    first, second, third = sop_uids(files)
    assert log.read_text().splitlines() == [
        f"{first} 0000",
        f"{second} A700",
        f"{third} 0000",
        f"{second} 0000",
    ]
