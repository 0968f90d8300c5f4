"""DICOM audit messages are what PS3.15 section A.5 asks for; xmllint knows its schema."""

from __future__ import annotations

import base64
import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import pytest

from dcmvault.audit.accesses import JournalledAccesses
from dcmvault.audit.chain import check
from dcmvault.audit.dicom_message import AuditSource, dicom_message
from dcmvault.audit.journal import Journal
from dcmvault.model.access import Access
from dcmvault.model.audit import Actor, ActorKind, AuditEvent, AuditKind, AuditOutcome

AT = datetime(2026, 1, 31, 2, 0, 5, 123000, tzinfo=UTC)
SCHEMA = Path(__file__).with_name("audit-message.rng")
UID = "1.2.826.0.1.3680043.8.498.1"
SOURCE = AuditSource("backup.example", "Clínica")


def events() -> list[AuditEvent]:
    """Every kind by every door, with what XML cannot have among the details."""
    doors, outcomes = list(ActorKind), list(AuditOutcome)
    return [
        AuditEvent(
            AT,
            kind,
            Actor(door, "ana\x07 <&>", "10.0.0.7" if door is ActorKind.PEER else "mac.example"),
            outcomes[(number + row) % len(outcomes)],
            place="vault:/mnt/backup & more",
            study_instance_uids=(UID, f"{UID}.2"),
            details={"run": "20260131-020000-9f3c61d2", "odd": "\x00\ud800é\n", "count": 3},
        )
        for number, kind in enumerate(AuditKind)
        for row, door in enumerate(doors[: 2 if number else 4])
    ] + [AuditEvent(AT, AuditKind.SERVICE_STARTED, Actor(ActorKind.SERVICE, ""))]


def messages(folder: Path) -> list[bytes]:
    journal = Journal(folder)
    for event in events():
        journal.append(event)
    accesses = JournalledAccesses(journal)
    for service in ("C-FIND", "C-GET", "C-MOVE", "QIDO-RS", "WADO-RS", "A-ASSOCIATE", "C-ECHO"):
        accesses.record(
            Access(AT, service, "HOROS", "::1", "CN=horos", "0000", study_instance_uids=(UID,))
        )
    found = []
    for one in check(folder):
        assert one.record is not None
        found.append(dicom_message(one.record, SOURCE, "audit-000001.jsonl#1", one.line.sha256))
    assert found[-1] is None, "a C-ECHO is no access to data"
    return [xml for xml in found if xml is not None]


@pytest.mark.peers
def test_every_kind_of_event_is_a_valid_message(tmp_path: Path) -> None:
    paths = []
    for number, xml in enumerate(messages(tmp_path / "audit")):
        paths.append(tmp_path / f"{number}.xml")
        paths[-1].write_bytes(xml)
    checked = subprocess.run(
        ["xmllint", "--noout", "--relaxng", str(SCHEMA), *map(str, paths)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert checked.returncode == 0, checked.stderr[:2000]


@pytest.mark.peers
def test_the_schema_refuses_what_is_wrong(tmp_path: Path) -> None:
    """The oracle can say no: else the test above would say nothing."""
    xml = messages(tmp_path / "audit")[0]
    for good, bad in ((b'EventActionCode="E"', b'EventActionCode="X"'), (b"UserID", b"User")):
        assert good in xml
        (tmp_path / "bad.xml").write_bytes(xml.replace(good, bad))
        told = subprocess.run(
            ["xmllint", "--noout", "--relaxng", str(SCHEMA), str(tmp_path / "bad.xml")],
            capture_output=True,
        )
        assert told.returncode != 0


def test_a_message_names_who_what_and_its_line(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(
        AuditEvent(
            AT,
            AuditKind.FORGET,
            Actor(ActorKind.CLI, "ana", "mac.example"),
            AuditOutcome.MINOR_FAILURE,
            "vault:/backup",
            (UID,),
        )
    )
    (one,) = check(tmp_path)
    assert one.record is not None
    xml = dicom_message(one.record, SOURCE, "audit-000001.jsonl#1", one.line.sha256)
    assert xml is not None
    root = ElementTree.fromstring(xml)
    event = root.find("EventIdentification")
    assert event is not None
    assert event.get("EventOutcomeIndicator") == "4"
    assert event.find("EventID").get("csd-code") == "110105"  # type: ignore[union-attr]
    assert [who.get("UserID") for who in root.iter("ActiveParticipant")] == [
        "ana",
        "dcmvault@backup.example",
    ]
    objects = {
        one.get("ParticipantObjectID"): one for one in root.iter() if one.get("ParticipantObjectID")
    }
    assert set(objects) == {UID, "vault:/backup", "audit-000001.jsonl#1"}
    told = {
        detail.get("type"): base64.b64decode(detail.get("value", "")).decode()
        for detail in objects["audit-000001.jsonl#1"].iter("ParticipantObjectDetail")
    }
    assert told == {"seq": "1", "sha256": one.line.sha256}
    assert json.loads(one.line.raw)["place"] == "vault:/backup"


def test_a_message_fits_into_a_datagram(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    uids = tuple(f"1.2.826.0.1.3680043.8.498.{10**30 + number}" for number in range(3000))
    details = {f"name{number}": "x" * 3000 for number in range(5)}
    actor = Actor(ActorKind.CLI, "ana", "mac.example")
    journal.append(
        AuditEvent(
            AT, AuditKind.RUN_FINISHED, actor, place="p", study_instance_uids=uids, details=details
        )
    )
    (one,) = check(tmp_path)
    assert one.record is not None
    assert len(one.record["study_instance_uids"]) == 1000
    assert one.record["studies"] == 3000
    xml = dicom_message(one.record, SOURCE, "audit-000001.jsonl#1", one.line.sha256)
    assert xml is not None
    assert len(xml) < 65_000
