"""What a peer gets when it refuses a transfer syntax: the same pixels, the same attributes."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    JPEG2000,
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    MRImageStorage,
    RLELossless,
)
from scripts import peer_processes
from tests.conftest import RunDcmvault, StartOrthanc
from tests.integration.dimse_story import (
    destination_at,
    expected,
    file_of,
    put_each,
    sop_uids,
    study_files,
    with_header,
)
from tests.integration.picky_peer import picky_peer
from tests.integration.transcoding_oracles import (
    by_name,
    elements,
    read_native_little_endian,
    samples_of,
    second_opinion,
)

from dcmvault.dicom.transcode import Transcoded, transcoded
from dcmvault.errors import InstanceUnsendableError, MalformedDicomError
from dcmvault.model.evidence import Finding, Level
from dcmvault.model.instance import InstanceFile
from dcmvault.model.receipt import Receipt
from dcmvault.testing.corpus import real_files
from dcmvault.testing.dicom_files import make_instance, make_uid

#: Large, and of kinds that smaller ones have, too.
_LARGE = 20 << 20
_TOO_MUCH = {"color3d_jpeg_baseline.dcm"}


def _sendable() -> Iterator[InstanceFile]:
    """Yield the files of the corpus that name an instance."""
    for path in real_files():
        if path.stat().st_size > _LARGE or path.name in _TOO_MUCH:
            continue
        try:
            file = file_of(path)
        except MalformedDicomError:
            continue
        if file.header is not None and file.header.study_instance_uid and file.header.sop_class_uid:
            yield file


def _assert_same(before: Path, after: Path, scratch: Path) -> bool:
    """Compare a stored file with its original; return whether pixels had a second opinion."""
    was = read_native_little_endian(before, scratch)
    arrived = pydicom.dcmread(after)
    syntax = was.file_meta.get("TransferSyntaxUID", ImplicitVRLittleEndian)
    assert list(elements(arrived)) == list(elements(was))
    if "PixelData" not in was:
        return True
    if not syntax.is_encapsulated:
        assert arrived.PixelData == was.PixelData
        return True
    opinion = second_opinion(before, scratch)
    if opinion is None:
        return False
    samples, exactly = opinion
    got = samples_of(after)
    assert got.shape == samples.shape
    if exactly:
        assert np.array_equal(got, samples)
    else:
        # Nobody rounds and upsamples alike; a wrong colour or sign would be far off.
        assert np.abs(got.astype(int) - samples.astype(int)).mean() < 3
    return True


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")  # pydicom tells what is wrong with its own files
def test_a_peer_of_implicit_little_endian_only_gets_the_same_objects(tmp_path: Path) -> None:
    compared: set[str] = set()
    refused: dict[str, str] = {}
    with peer_processes.storescp("+xi") as peer:
        destination = destination_at(peer.dicom_port, peer.ae_title)
        for file in _sendable():
            header = file.header
            assert header is not None
            (outcome,) = put_each(destination, [file])
            if not isinstance(outcome, Receipt):
                assert isinstance(outcome, InstanceUnsendableError), f"{file.path.name}: {outcome}"
                refused[file.path.name] = outcome.message
                continue
            (stored,) = [path for path in peer.storage.iterdir() if path.is_file()]
            assert outcome.file_sha256 == hashlib.sha256(file.path.read_bytes()).digest()
            arrived = pydicom.dcmread(stored, stop_before_pixels=True)
            assert arrived.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
            is_other = header.transfer_syntax_uid != ImplicitVRLittleEndian
            assert (outcome.transfer_syntax_uid == ImplicitVRLittleEndian) is is_other
            if _assert_same(file.path, stored, tmp_path) and is_other:
                compared.add(header.transfer_syntax_uid)
            stored.unlink()
    assert compared == _SYNTAXES
    assert refused.keys() == _REFUSED.keys()
    for name, word in _REFUSED.items():
        assert word in refused[name]


#: Transfer syntaxes of the corpus with UIDs that a PACS needs, but for the one that is asked for.
_SYNTAXES = {
    *(ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless),
    *(JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLosslessSV1, JPEGLSLossless),
    *(JPEG2000Lossless, JPEG2000),
}
_REFUSED = {
    "JPEG2000-embedded-sequence-delimiter.dcm": "too many tiles",
    "MR_truncated.dcm": "is cut off",
    "SC_rgb_expb_16bit.dcm": "do not agree",
    "SC_rgb_expb_16bit_2frame.dcm": "do not agree",
    "SC_rgb_expb_32bit.dcm": "do not agree",
    "SC_rgb_expb_32bit_2frame.dcm": "do not agree",
    "bad_sequence.dcm": "SOP Instance UID is not a UID",
    "emri_small_jpeg_2k_lossless_too_short.dcm": "is cut off",
    "rtdose_expb.dcm": "do not agree",
    "rtdose_expb_1frame.dcm": "do not agree",
    "rtplan_truncated.dcm": "odd",
}


@pytest.mark.peers
def test_more_kinds_than_an_association_carries_private_ones_too(tmp_path: Path) -> None:
    files = []
    for number in range(140):
        made = make_instance(
            tmp_path / f"{number}.dcm",
            make_uid("study"),
            make_uid("series"),
            make_uid(number),
            sop_class_uid=f"1.3.6.1.4.1.99999.{number + 1}",
            transfer_syntax=ExplicitVRLittleEndian if number % 2 else ImplicitVRLittleEndian,
        )
        files.append(file_of(made.path))
    with peer_processes.storescp() as peer:
        destination = destination_at(peer.dicom_port, peer.ae_title)
        # To and fro between kinds that no association carries together.
        outcomes = put_each(destination, [*files, files[0], files[-1], files[0]])
        stored = {
            str(pydicom.dcmread(path).SOPInstanceUID)
            for path in peer.storage.iterdir()
            if path.is_file()
        }
    assert all(isinstance(outcome, Receipt) for outcome in outcomes)
    assert stored == set(sop_uids(files))


@pytest.mark.parametrize(
    ("syntax", "decompress"),
    [
        (JPEGLSLossless, "dcmdjpls"),
        (JPEGLosslessSV1, "dcmdjpeg"),
        (RLELossless, "dcmdrle"),
    ],
)
@pytest.mark.peers
def test_a_peer_of_one_compressed_syntax_only(tmp_path: Path, syntax: str, decompress: str) -> None:
    names = ("CT_small.dcm", "SC_rgb.dcm", "MR_small_RLE.dcm", "693_J2KR.dcm", "emri_small.dcm")
    files = [file_of(by_name(name)) for name in names]
    classes = [file.header.sop_class_uid for file in files if file.header is not None]
    with picky_peer(tmp_path / "pacs", classes, [syntax]) as peer:
        outcomes = put_each(destination_at(peer.port), files)
        for name, uid, outcome in zip(names, sop_uids(files), outcomes, strict=True):
            assert isinstance(outcome, Receipt), f"{name}: {outcome}"
            if name == "MR_small_RLE.dcm" and syntax == RLELossless:
                assert not outcome.transfer_syntax_uid
                continue
            assert outcome.transfer_syntax_uid == syntax
            out = tmp_path / "out.dcm"
            subprocess.run([decompress, str(peer.stored(uid)), str(out)], check=True)
            opinion = second_opinion(by_name(name), tmp_path)
            assert opinion is not None
            assert np.array_equal(samples_of(out), opinion[0]), name
            was, now = pydicom.dcmread(by_name(name)), pydicom.dcmread(peer.stored(uid))
            assert list(elements(now)) == list(elements(was))


def test_what_is_refused_says_what_the_peer_takes(tmp_path: Path) -> None:
    """Never means never; video cannot be transcoded; the others of the batch arrive."""
    compressed = file_of(by_name("emri_small_jpeg_2k_lossless.dcm"))
    plain = file_of(by_name("emri_small.dcm"))
    assert compressed.header is not None
    video = with_header(
        file_of(by_name("MR_small_RLE.dcm")),
        transfer_syntax_uid=MPEG2MPML,
        sop_class_uid=compressed.header.sop_class_uid,
    )
    accepted = [ExplicitVRLittleEndian]
    with picky_peer(tmp_path / "pacs", [compressed.header.sop_class_uid], accepted) as peer:
        never = put_each(destination_at(peer.port, transcode="never"), [compressed, plain])
        lossless = put_each(destination_at(peer.port), [video, plain])
        assert peer.associations == 2
    for outcome in (never[0], lossless[0]):
        assert isinstance(outcome, InstanceUnsendableError)
        assert outcome.message.endswith(
            "it takes it as Explicit VR Little Endian (1.2.840.10008.1.2.1)"
        )
    assert "JPEG 2000" in never[0].message  # type: ignore[union-attr]
    assert "lossless" in never[0].hint
    assert "MPEG2" in lossless[0].message  # type: ignore[union-attr]
    assert isinstance(never[1], Receipt)
    assert isinstance(lossless[1], Receipt)


def test_damaged_pixels_spare_the_others(tmp_path: Path) -> None:
    original = by_name("MR_small_RLE.dcm").read_bytes()
    damaged = tmp_path / "damaged.dcm"
    # Inside the frame; its length stays.
    damaged.write_bytes(original[:-3000] + b"\xff" * 2000 + original[-1000:])
    files = [file_of(damaged), *study_files(tmp_path / "s", 2, modality="MR")]
    with picky_peer(tmp_path / "pacs", [MRImageStorage], [ImplicitVRLittleEndian]) as peer:
        outcomes = put_each(destination_at(peer.port), files)
        assert peer.associations == 1
        assert {path.stem for path in peer.folder.iterdir()} == set(sop_uids(files[1:]))
    assert isinstance(outcomes[0], InstanceUnsendableError)
    assert all(isinstance(outcome, Receipt) for outcome in outcomes[1:])


@pytest.mark.peers
def test_a_report_says_what_was_transcoded(run_dcmvault: RunDcmvault, tmp_path: Path) -> None:
    (tmp_path / "studies").mkdir()
    shutil.copy(by_name("693_J2KR.dcm"), tmp_path / "studies")
    shutil.copy(by_name("US1_J2KR.dcm"), tmp_path / "studies")
    with peer_processes.storescp("+xi") as peer:
        address = f"dicom://{peer.ae_title}@127.0.0.1:{peer.dicom_port}"
        result = run_dcmvault("backup", tmp_path / "studies", "--to", address, "--verify", "sent")
    assert result.returncode == 0, result.stderr
    assert "sent as Implicit VR Little Endian" in result.stdout
    assert "changed with it: PhotometricInterpretation" in result.stdout
    run = json.loads(run_dcmvault("report", "latest", "--format", "json").stdout)
    assert {warned["code"] for warned in run["warned"]} == {"transcoded"}
    assert run["failures"] == []


@pytest.mark.peers
@pytest.mark.parametrize(
    ("preference", "arrives_as"),
    [
        ("+x=", [ExplicitVRLittleEndian] * 3),
        ("+xe", [ExplicitVRLittleEndian] * 3),
        ("+xb", [ExplicitVRLittleEndian] * 3),
        ("+xs", [ExplicitVRLittleEndian, ExplicitVRLittleEndian, JPEGLosslessSV1]),
        ("+xt", [ExplicitVRLittleEndian, JPEGLSLossless, ExplicitVRLittleEndian]),
        ("+xv", [JPEG2000Lossless, ExplicitVRLittleEndian, ExplicitVRLittleEndian]),
        ("+xa", [JPEG2000Lossless, JPEGLSLossless, JPEGLosslessSV1]),
    ],
)
def test_storescp_of_any_preference_gets_what_it_takes(
    tmp_path: Path, preference: str, arrives_as: list[str]
) -> None:
    names = ("693_J2KR.dcm", "emri_small_jpeg_ls_lossless.dcm", "JPGLosslessP14SV1_1s_1f_8b.dcm")
    files = [file_of(by_name(name)) for name in names]
    with peer_processes.storescp(preference) as peer:
        outcomes = put_each(destination_at(peer.dicom_port, peer.ae_title), files)
        stored = {
            str(read.SOPInstanceUID): read.file_meta.TransferSyntaxUID
            for path in peer.storage.iterdir()
            if path.is_file()
            for read in [pydicom.dcmread(path, stop_before_pixels=True)]
        }
    assert all(isinstance(outcome, Receipt) for outcome in outcomes), outcomes
    assert [stored[uid] for uid in sop_uids(files)] == arrives_as


@pytest.mark.peers
def test_an_orthanc_that_takes_no_compression(start_orthanc: StartOrthanc, tmp_path: Path) -> None:
    orthanc = start_orthanc(AcceptedTransferSyntaxes=[ImplicitVRLittleEndian])
    names = ("693_J2KR.dcm", "US1_J2KR.dcm", "emri_small_RLE.dcm", "JPEG-LL.dcm")
    files = [file_of(by_name(name)) for name in names]
    destination = destination_at(orthanc.dicom_port, orthanc.ae_title)
    outcomes = put_each(destination, files)
    assert all(isinstance(outcome, Receipt) for outcome in outcomes), outcomes
    for file, uid in zip(files, sop_uids(files), strict=True):
        found = destination.verify(expected([file]), Level.COMPLETE)
        assert set(found.findings.values()) == {Finding.HELD}
        there = tmp_path / "there.dcm"
        there.write_bytes(orthanc.file(uid))
        opinion = second_opinion(file.path, tmp_path)
        assert opinion is not None
        assert np.array_equal(samples_of(there), opinion[0])


def test_an_association_that_ended_during_the_work_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def slow(descriptor: int, target: str) -> Iterator[Transcoded]:
        with transcoded(descriptor, target) as result:
            time.sleep(1)
            yield result

    monkeypatch.setattr("dcmvault.dicom.store.transcoded", slow)
    file = file_of(by_name("MR_small_RLE.dcm"))
    accepted = [ImplicitVRLittleEndian]
    with picky_peer(tmp_path / "pacs", [MRImageStorage], accepted, idle_s=0.3) as peer:
        (outcome,) = put_each(destination_at(peer.port), [file])
        assert peer.associations == 2
    assert isinstance(outcome, Receipt)
