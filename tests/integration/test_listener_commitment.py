"""Storage commitment is promised for what is durable, and for nothing else."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, evt
from scripts.peer_launch import free_port
from tests.conftest import StartOrthanc
from tests.integration.listener_world import AE_TITLE, dcmsend, receiving

from dcmvault.dicom.channel import Peer
from dcmvault.dicom.commitment_coding import COMMITMENT
from dcmvault.dicom.commitment_report import CommitmentReports
from dcmvault.dicom.commitment_scp import CommitmentScp
from dcmvault.dicom.part10 import scan
from dcmvault.dicom.spool import Spool
from dcmvault.testing.dicom_files import MadeInstance, make_study

_INSTANCE = "1.2.840.10008.1.20.1.1"


def _references(made: Collection[MadeInstance], *others: tuple[str, str]) -> Dataset:
    request = Dataset()
    request.TransactionUID = generate_uid()
    request.ReferencedSOPSequence = []
    named = [(scan(one.path).sop_class_uid, one.sop_instance_uid) for one in made]
    for sop_class, uid in [*named, *others]:
        item = Dataset()
        item.ReferencedSOPClassUID = sop_class
        item.ReferencedSOPInstanceUID = uid
        request.ReferencedSOPSequence.append(item)
    return request


class _Scu:
    """pynetdicom asking for commitment, and listening to the report on the same association."""

    def __init__(self) -> None:
        self.reports: list[tuple[int, Dataset]] = []
        self._came = threading.Event()

    def ask(self, port: int, request: Dataset, action: int = 1, instance: str = _INSTANCE) -> int:
        entity = AE(ae_title="MODALITY")
        entity.add_requested_context(COMMITMENT)
        association = entity.associate(
            "127.0.0.1",
            port,
            ae_title=AE_TITLE,
            evt_handlers=[(evt.EVT_N_EVENT_REPORT, self._heard)],
        )
        assert association.is_established
        status, _reply = association.send_n_action(request, action, COMMITMENT, instance)
        if status.Status == 0:
            self._came.wait(10)
        association.release()
        return int(status.Status)

    def _heard(self, event: evt.Event) -> tuple[int, None]:
        self.reports.append((int(event.event_type), event.event_information))  # type: ignore[arg-type]
        self._came.set()
        return 0, None


def test_all_that_was_sent_is_committed(tmp_path: Path) -> None:
    made = make_study(tmp_path / "s", key="commit", instances=5)
    with receiving(tmp_path / "spool") as listener:
        assert dcmsend(listener.port, tmp_path / "s").returncode == 0
        scu = _Scu()
        request = _references(made)
        assert scu.ask(listener.port, request) == 0
        ((event, report),) = scu.reports
        assert event == 1
        assert report.TransactionUID == request.TransactionUID
        assert "FailedSOPSequence" not in report
        assert {one.ReferencedSOPInstanceUID for one in report.ReferencedSOPSequence} == {
            one.sop_instance_uid for one in made
        }


def test_what_is_not_there_fails_with_its_reason(tmp_path: Path) -> None:
    """An unknown instance (0112), and one under another SOP class (0119); the rest is promised."""
    made = make_study(tmp_path / "s", key="partly", instances=2)
    other_class = ("1.2.840.10008.5.1.4.1.1.4", made[0].sop_instance_uid)
    with receiving(tmp_path / "spool") as listener:
        assert dcmsend(listener.port, tmp_path / "s").returncode == 0
        scu = _Scu()
        missing = ("1.2.840.10008.5.1.4.1.1.2", "1.2.3.4.5")
        assert scu.ask(listener.port, _references(made[1:], other_class, missing)) == 0
        ((event, report),) = scu.reports
        assert event == 2
        assert {
            one.ReferencedSOPInstanceUID: int(one.FailureReason) for one in report.FailedSOPSequence
        } == {"1.2.3.4.5": 0x0112, made[0].sop_instance_uid: 0x0119}
        (kept,) = report.ReferencedSOPSequence
        assert kept.ReferencedSOPInstanceUID == made[1].sop_instance_uid


def test_a_damaged_file_is_not_promised(tmp_path: Path) -> None:
    made = make_study(tmp_path / "s", key="damaged", instances=1)
    with receiving(tmp_path / "spool") as listener:
        assert dcmsend(listener.port, tmp_path / "s").returncode == 0
        listener.files[0].write_bytes(b"\0" * 300)
        scu = _Scu()
        assert scu.ask(listener.port, _references(made)) == 0
        assert scu.reports[0][0] == 2


def test_what_a_destination_holds_is_promised(tmp_path: Path) -> None:
    """What left the spool counts, where evidence says that a destination has it."""
    made = make_study(tmp_path / "s", key="elsewhere", instances=1)
    uid, sop_class = made[0].sop_instance_uid, scan(made[0].path).sop_class_uid

    def held(uids: Collection[str]) -> Mapping[str, Collection[str]]:
        return {uid: {sop_class}} if uid in uids else {}

    judge = CommitmentScp([lambda _uids: {}, held])
    with receiving(tmp_path / "spool", commitment=judge) as listener:
        scu = _Scu()
        assert scu.ask(listener.port, _references(made)) == 0
        assert scu.reports[0][0] == 1


@pytest.mark.parametrize(
    ("action", "instance", "status"), [(2, _INSTANCE, 0x0123), (1, "1.2.3", 0x0112)]
)
def test_other_requests_are_refused(
    tmp_path: Path, action: int, instance: str, status: int
) -> None:
    with receiving(tmp_path / "spool") as listener:
        made = make_study(tmp_path / "s", key="other", instances=1)
        assert _Scu().ask(listener.port, _references(made), action, instance) == status


def test_a_request_without_instances(tmp_path: Path) -> None:
    with receiving(tmp_path / "spool") as listener:
        assert _Scu().ask(listener.port, _references([])) == 0x0115


def test_orthanc_asks_and_hears_at_its_own_address(
    tmp_path: Path, start_orthanc: StartOrthanc
) -> None:
    """Orthanc releases its association and waits for ours: the report goes there."""
    made = make_study(tmp_path / "s", key="orthanc-commits", instances=3)
    port = free_port()
    orthanc = start_orthanc(DicomModalities={"us": [AE_TITLE, "127.0.0.1", port]})
    peer = Peer("127.0.0.1", orthanc.dicom_port, "ORTHANC", AE_TITLE)
    with Spool(tmp_path / "unused"), CommitmentReports({"ORTHANC": peer}) as reports:
        held: list[Spool] = []
        judge = CommitmentScp([lambda uids: held[0].sop_classes(uids)], reports.report)
        with receiving(tmp_path / "spool", commitment=judge, port=port) as listener:
            held.append(listener.spool)
            assert dcmsend(port, tmp_path / "s").returncode == 0
            names = [[scan(one.path).sop_class_uid, one.sop_instance_uid] for one in made]
            names.append([names[0][0], "1.2.3.4"])
            asked = orthanc.rest(
                "/modalities/us/storage-commitment", method="POST", body={"DicomInstances": names}
            )
            answer: dict[str, Any] = {}
            deadline = time.monotonic() + 20
            while answer.get("Status", "Pending") == "Pending" and time.monotonic() < deadline:
                answer = orthanc.rest(asked["Path"])
                time.sleep(0.1)
            assert answer["Status"] == "Failure"
            assert {one["SOPInstanceUID"] for one in answer["Success"]} == {
                one.sop_instance_uid for one in made
            }
            ((failure),) = answer["Failures"]
            assert failure["SOPInstanceUID"] == "1.2.3.4"
