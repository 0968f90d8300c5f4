"""What senders send to the listener lies in its spool as it was sent, and was answered after."""

from __future__ import annotations

import shutil
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import UID
from tests.conftest import StartOrthanc
from tests.integration.dimse_story import (
    destination_at,
    file_of,
    put_each,
    study_files,
    with_header,
)
from tests.integration.listener_world import AE_TITLE, dcmsend, dcmtk, echoes, receiving
from tests.integration.tls_world import Authority

from dcmvault.dicom.part10 import scan
from dcmvault.dicom.tls import TlsAcceptor, TlsOptions
from dcmvault.errors import StateError
from dcmvault.model.receipt import Receipt
from dcmvault.testing.dicom_files import make_instance, make_study

SYNTAXES = {
    "1.2.840.10008.1.2": "implicit",
    "1.2.840.10008.1.2.1": "explicit",
    "1.2.840.10008.1.2.2": "big endian",
    "1.2.840.10008.1.2.1.99": "deflated",
    "1.2.840.10008.1.2.5": "RLE",
}


def data_set_of(path: Path) -> bytes:
    """The bytes behind the file meta information."""
    content = path.read_bytes()
    length = int.from_bytes(content[140:144], "little")
    return content[144 + length :]


def test_dcmsend_and_its_files(tmp_path: Path) -> None:
    """Every file that dcmsend sent is there once, and pydicom reads the same data set."""
    made = make_study(tmp_path / "s", key="dcmsend", series=2, instances=10)
    with receiving(tmp_path / "spool") as listener:
        sent = dcmsend(listener.port, tmp_path / "s")
        assert sent.returncode == 0, sent.stderr
        assert len(listener.arrived) == 20
        assert listener.uids == sorted(one.sop_instance_uid for one in made)
        ours = {scan(path).sop_instance_uid: path for path in listener.files}
        for one in made:
            assert pydicom.dcmread(one.path) == pydicom.dcmread(ours[one.sop_instance_uid])
        assert len({path.parent for path in listener.files}) == 1
        assert listener.spool.used == sum(path.stat().st_size for path in listener.files)
    assert not list((tmp_path / "spool" / "arriving").iterdir())


@pytest.mark.parametrize("syntax", SYNTAXES, ids=SYNTAXES.values())
def test_every_byte_as_sent(tmp_path: Path, syntax: str) -> None:
    """The data set lies in the spool byte for byte, in whatever transfer syntax it came."""
    files = study_files(tmp_path / "s", 3, transfer_syntax=syntax)
    with receiving(tmp_path / "spool") as listener:
        outcomes = put_each(destination_at(listener.port, AE_TITLE, transcode="never"), files)
        assert all(isinstance(outcome, Receipt) for outcome in outcomes)
        ours = {scan(path).sop_instance_uid: path for path in listener.files}
        for file in files:
            assert file.header is not None
            mine = ours[file.header.sop_instance_uid]
            assert scan(mine).transfer_syntax_uid == syntax
            assert data_set_of(mine) == data_set_of(file.path)


def test_dcmtk_tests_its_own_files(tmp_path: Path) -> None:
    """What lies in the spool is a Part 10 file that dcmdump reads without complaint."""
    make_study(tmp_path / "s", key="dump", instances=2)
    with receiving(tmp_path / "spool") as listener:
        assert (
            dcmtk(
                "storescu",
                "-aec",
                AE_TITLE,
                "--scan-directories",
                "--recurse",
                "127.0.0.1",
                listener.port,
                tmp_path / "s",
            ).returncode
            == 0
        )
        for path in listener.files:
            assert dcmtk("dcmdump", path).returncode == 0


def test_private_and_unknown_sop_classes(tmp_path: Path) -> None:
    """A SOP class of a manufacturer's own, and one that no library knows yet, are taken."""
    classes = (UID("1.3.12.2.1107.5.9.1"), UID("1.2.840.10008.5.1.4.1.1.999.7"))
    files = []
    for number, sop_class in enumerate(classes):
        path = tmp_path / f"{number}.dcm"
        make_instance(path, "1.2.3", "1.2.3.1", f"1.2.3.1.{number}")
        data_set = pydicom.dcmread(path)
        data_set.SOPClassUID = data_set.file_meta.MediaStorageSOPClassUID = sop_class
        data_set.save_as(path)
        files.append(file_of(path))
    with receiving(tmp_path / "spool") as listener:
        outcomes = put_each(destination_at(listener.port, AE_TITLE), files)
        assert all(isinstance(outcome, Receipt) for outcome in outcomes), outcomes
        assert {scan(path).sop_class_uid for path in listener.files} == set(classes)


def test_the_same_again_and_another_content(tmp_path: Path) -> None:
    """The same bytes again change nothing; other bytes under the same UID are kept beside."""
    (file,) = study_files(tmp_path / "s", 1)
    changed = tmp_path / "changed.dcm"
    data_set = pydicom.dcmread(file.path)
    data_set.StudyDescription = "another one"
    data_set.save_as(changed)
    with receiving(tmp_path / "spool") as listener:
        destination = destination_at(listener.port, AE_TITLE)
        for one in (file, file, file_of(changed), file, file_of(changed)):
            assert isinstance(put_each(destination, [one])[0], Receipt)
        assert len(listener.files) == 2
        assert {data_set_of(path) for path in listener.files} == {
            data_set_of(file.path),
            data_set_of(changed),
        }
        assert listener.spool.used == sum(path.stat().st_size for path in listener.files)


def test_names_say_nothing_and_are_private(tmp_path: Path) -> None:
    """Names come from hashes, and nobody else may read them."""
    make_study(tmp_path / "s", key="names", instances=2)
    with receiving(tmp_path / "spool") as listener:
        assert dcmsend(listener.port, tmp_path / "s").returncode == 0
        assert listener.spool.folder.stat().st_mode & 0o077 == 0
        for path in listener.files:
            assert path.stat().st_mode & 0o077 == 0
            assert path.parent.stat().st_mode & 0o077 == 0
            assert len(path.stem) == len(path.parent.name) == 40
            assert int(path.stem, 16)
            assert int(path.parent.name, 16)


def test_orthanc_sends(tmp_path: Path, start_orthanc: StartOrthanc) -> None:
    """Orthanc pushes a study to us; what it holds and what we hold are the same data sets."""
    made = make_study(tmp_path / "s", key="orthanc", instances=6)
    with receiving(tmp_path / "spool") as listener:
        modality = {"us": [AE_TITLE, "127.0.0.1", listener.port]}
        orthanc = start_orthanc(DicomModalities=modality)
        assert dcmsend(orthanc.dicom_port, tmp_path / "s").returncode == 0
        (study,) = orthanc.rest("/studies")
        answer = orthanc.rest("/modalities/us/store", method="POST", body=study)
        assert answer["FailedInstancesCount"] == 0
        assert listener.uids == sorted(one.sop_instance_uid for one in made)
        for path in listener.files:
            uid = scan(path).sop_instance_uid
            (tmp_path / "theirs").write_bytes(orthanc.file(uid))
            assert pydicom.dcmread(tmp_path / "theirs") == pydicom.dcmread(path)


def test_tls_with_client_certificates(tmp_path: Path) -> None:
    """Over TLS who shows a certificate of our authority may send; others may not."""
    authority = Authority(tmp_path / "pki")
    stranger = Authority(tmp_path / "strangers", "Strangers").issue("them")
    ours, theirs = authority.issue("listener"), authority.issue("modality")
    server = TlsAcceptor(
        TlsOptions(
            ca_file=str(authority.ca_file),
            certificate_file=str(ours.certificate),
            key_file=str(ours.key),
        )
    )
    made = make_study(tmp_path / "s", key="tls", instances=3)
    trust = ("--add-cert-file", authority.ca_file)
    where = ("127.0.0.1",)
    with receiving(tmp_path / "spool", tls=server) as listener:
        for identity, is_let_in in ((theirs, True), (stranger, False)):
            tls = ("--enable-tls", str(identity.key), str(identity.certificate), *map(str, trust))
            sent = dcmtk(
                "storescu",
                "-aec",
                AE_TITLE,
                *tls,
                "--scan-directories",
                "--recurse",
                *where,
                listener.port,
                tmp_path / "s",
            )
            assert (sent.returncode == 0) is is_let_in, sent.stderr
        assert not echoes(listener.port), "without TLS nobody is answered"
        anonymous = ("--anonymous-tls", *map(str, trust))
        assert not echoes(listener.port, *anonymous), "a certificate is asked for"
        assert listener.uids == sorted(one.sop_instance_uid for one in made)


def test_what_was_being_received_is_cleared_away(tmp_path: Path) -> None:
    """What a killed listener left half received is gone after the next start; the rest is there."""
    make_study(tmp_path / "s", key="left", instances=2)
    with receiving(tmp_path / "spool") as listener:
        assert dcmsend(listener.port, tmp_path / "s").returncode == 0
        kept = listener.files
    (tmp_path / "spool" / "arriving" / "7.part").write_bytes(b"half")
    with receiving(tmp_path / "spool") as listener:
        assert listener.files == kept
        assert listener.spool.used == sum(path.stat().st_size for path in kept)
        assert not list((tmp_path / "spool" / "arriving").iterdir())


def test_a_spool_has_one_listener(tmp_path: Path) -> None:
    with receiving(tmp_path / "spool"):
        second = receiving(tmp_path / "spool")
        with pytest.raises(StateError, match="another listener"):
            second.__enter__()


def test_a_data_set_that_is_not_the_one_announced(tmp_path: Path) -> None:
    """Another SOP Instance UID in the data set is refused by A900; nothing is left of it."""
    (file,) = study_files(tmp_path / "s", 1)
    assert file.header is not None
    other = tmp_path / "other.dcm"
    shutil.copy(file.path, other)
    lying = with_header(file_of(other), sop_instance_uid="1.2.3.4")
    with receiving(tmp_path / "spool") as listener:
        (outcome,) = put_each(destination_at(listener.port, AE_TITLE), [lying])
        assert getattr(outcome, "status", "") == "A900", outcome
        assert listener.files == []
        assert listener.spool.used == 0
