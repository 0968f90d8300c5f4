"""Our own listener: durable before it answers, names without DICOM values, questions by UIDs."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at run time
    StudyRootQueryRetrieveInformationModelFind,
)
from tests.integration.dimse_story import (
    destination_at,
    expected,
    file_of,
    put_each,
    sop_uids,
    study_files,
    with_header,
)

from dcmvault.dicom.listener import Listener
from dcmvault.dicom.part10 import scan
from dcmvault.errors import AssociationRejectedError, InstanceRefusedError
from dcmvault.model.evidence import Finding, Level
from dcmvault.model.instance import InstanceFile
from dcmvault.model.receipt import Receipt
from dcmvault.testing.destination_suite import ORIGIN
from dcmvault.testing.dicom_files import make_instance


def _put(listener: Listener, files: Sequence[InstanceFile]) -> list[object]:
    return list(put_each(destination_at(listener.port), files))


def test_what_it_holds_survives_a_restart(tmp_path: Path) -> None:
    files = study_files(tmp_path / "s", 3)
    with Listener(tmp_path / "pacs") as listener:
        _put(listener, files)
    (tmp_path / "pacs" / ".left-over.part").write_bytes(b"x")
    (tmp_path / "pacs" / "foreign.dcm").write_bytes(b"not DICOM")
    with Listener(tmp_path / "pacs") as listener:
        assert listener.instances() == set(sop_uids(files))
        found = destination_at(listener.port).verify(expected(files), Level.COMPLETE)
    assert set(found.findings.values()) == {Finding.HELD}
    assert not list((tmp_path / "pacs").glob("*.part"))


def test_names_hold_no_dicom_values(tmp_path: Path) -> None:
    files = study_files(tmp_path / "s", 2)
    with Listener(tmp_path / "pacs") as listener:
        _put(listener, files)
    names = {path.name for path in (tmp_path / "pacs").iterdir()}
    assert len(names) == 2
    assert not any(uid in name for uid in sop_uids(files) for name in names)


def test_stored_files_are_part_10(tmp_path: Path) -> None:
    files = study_files(tmp_path / "s", 1)
    with Listener(tmp_path / "pacs") as listener:
        _put(listener, files)
    (stored,) = (tmp_path / "pacs").iterdir()
    header = scan(stored)
    assert files[0].header is not None
    assert header.identity == files[0].header.identity
    assert header.kind == files[0].header.kind
    assert header.flaws == ()


def test_first_content_under_a_uid_stays(tmp_path: Path) -> None:
    first = make_instance(tmp_path / "a.dcm", "1.2.3", "1.2.4", "1.2.5", rows=8)
    other = make_instance(tmp_path / "b.dcm", "1.2.3", "1.2.4", "1.2.5", rows=9)
    with Listener(tmp_path / "pacs") as listener:
        files = [file_of(path) for path in (first.path, first.path, other.path)]
        receipts = [outcome for outcome in _put(listener, files) if isinstance(outcome, Receipt)]
    assert [receipt.status for receipt in receipts] == ["0000", "0000", "0111"]
    assert receipts[2].already_there
    (stored,) = (tmp_path / "pacs").iterdir()
    assert stored.read_bytes().endswith(first.path.read_bytes()[-100:])


def test_forgotten_instances_are_gone(tmp_path: Path) -> None:
    files = study_files(tmp_path / "s", 2)
    with Listener(tmp_path / "pacs") as listener:
        _put(listener, files)
        listener.forget(sop_uids(files)[0])
        assert listener.instances() == {sop_uids(files)[1]}
        with pytest.raises(KeyError):
            listener.forget(sop_uids(files)[0])
        assert len(list((tmp_path / "pacs").iterdir())) == 1
        _put(listener, files)
        assert listener.instances() == set(sop_uids(files))


def test_instance_under_another_uid_is_refused(tmp_path: Path) -> None:
    (file,) = study_files(tmp_path / "s", 1)
    with Listener(tmp_path / "pacs") as listener:
        (outcome,) = _put(listener, [with_header(file, sop_instance_uid="1.2.3.4")])
        assert listener.instances() == frozenset()
    assert isinstance(outcome, InstanceRefusedError)
    assert outcome.status == "A900"
    assert not list((tmp_path / "pacs").iterdir())


def test_strangers_are_turned_away(tmp_path: Path) -> None:
    with (
        Listener(tmp_path / "pacs", allowed_ae_titles=["FRIEND"]) as listener,
        pytest.raises(AssociationRejectedError, match="calling"),
    ):
        destination_at(listener.port).open((), ORIGIN)


def _ask(listener: Listener, level: str, **keys: str) -> list[Dataset]:
    """Ask by the library's own C-FIND, as somebody else's program would."""
    entity = AE()
    entity.add_requested_context(StudyRootQueryRetrieveInformationModelFind)
    association = entity.associate("127.0.0.1", listener.port)
    assert association.is_established
    query = Dataset()
    query.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(query, keyword, value)
    answers = []
    for status, row in association.send_c_find(query, StudyRootQueryRetrieveInformationModelFind):
        assert status.Status in (0x0000, 0xFF00, 0xFF01)
        if row is not None:
            answers.append(row)
    association.release()
    return answers


def test_other_programs_can_ask(tmp_path: Path) -> None:
    files = study_files(tmp_path / "s", 2, series=2)
    study = expected(files).study_instance_uid
    with Listener(tmp_path / "pacs") as listener:
        _put(listener, files)
        (row,) = _ask(
            listener,
            "STUDY",
            StudyInstanceUID=study,
            NumberOfStudyRelatedSeries="",
            NumberOfStudyRelatedInstances="",
            PatientName="",
        )
        assert (row.NumberOfStudyRelatedSeries, row.NumberOfStudyRelatedInstances) == (2, 4)
        series = _ask(listener, "SERIES", StudyInstanceUID=study, SeriesInstanceUID="")
        assert len(series) == 2
        wanted = "\\".join(sop_uids(files)[:2])
        found = _ask(listener, "IMAGE", StudyInstanceUID=study, SOPInstanceUID=wanted)
        assert sorted(row.SOPInstanceUID for row in found) == sorted(sop_uids(files)[:2])


@pytest.mark.peers
def test_dcmtk_stores_and_asks(tmp_path: Path) -> None:
    files = study_files(tmp_path / "s", 2)
    with Listener(tmp_path / "pacs", ae_title="EMBEDDED") as listener:
        address = ["-aec", "EMBEDDED", "127.0.0.1", str(listener.port)]
        paths = [str(file.path) for file in files]
        subprocess.run(["echoscu", *address], check=True, timeout=60)
        subprocess.run(["storescu", *address, *paths], check=True, timeout=60)
        assert listener.instances() == set(sop_uids(files))
        keys = ["-k", "QueryRetrieveLevel=IMAGE", "-k", "SOPInstanceUID"]
        asked = subprocess.run(
            ["findscu", "-S", *keys, *address], check=True, capture_output=True, timeout=60
        )
        assert all(uid.encode() in asked.stdout + asked.stderr for uid in sop_uids(files))


def test_no_patient_data_in_any_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    files = study_files(tmp_path / "s", 2, patient_name="Secret^Name", patient_id="SECRET-ID")
    with Listener(tmp_path / "pacs") as listener:
        _put(listener, files)
        destination_at(listener.port).verify(expected(files), Level.COMPLETE)
    assert "secret" not in caplog.text.lower()
