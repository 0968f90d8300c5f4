"""Lines of the journal as DICOM audit messages (PS3.15 section A.5). No patient data is in them."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from xml.etree import ElementTree

from dcmvault.model.audit import ActorKind, AuditKind, AuditOutcome

#: Code value and meaning, of the DICOM Controlled Terminology (PS3.16 annex D), by value.
_MEANINGS = {
    "110100": "Application Activity",
    "110101": "Audit Log Used",
    "110102": "Begin Transferring DICOM Instances",
    "110103": "DICOM Instances Accessed",
    "110104": "DICOM Instances Transferred",
    "110105": "DICOM Study Deleted",
    "110106": "Export",
    "110112": "Query",
    "110113": "Security Alert",
    "110114": "User Authentication",
    "110120": "Application Start",
    "110121": "Application Stop",
    "110122": "Login",
    "110123": "Logout",
    "110126": "Node Authentication",
    "110129": "Security Configuration",
    "110131": "Software Configuration",
    "110132": "Use of Restricted Function",
    "110135": "Object Security Attributes Changed",
    "110137": "User Security Attributes Changed",
    "110141": "Local Service Operation Started",
    "110150": "Application",
    "110152": "Destination Role ID",
    "110153": "Source Role ID",
    "110180": "Study Instance UID",
    "110182": "Node ID",
}


@dataclass(frozen=True, slots=True)
class _Row:
    """How one kind of event is told: EventID, EventActionCode, EventTypeCode."""

    event_id: str
    action: str
    event_type: str = ""


_EVENTS: Mapping[AuditKind, _Row] = {
    AuditKind.RUN_ASKED: _Row("110113", "E", "110141"),
    AuditKind.RUN_STARTED: _Row("110102", "E"),
    AuditKind.RUN_FINISHED: _Row("110104", "C"),
    AuditKind.RESTORE: _Row("110106", "R"),
    AuditKind.VERIFY: _Row("110103", "R"),
    AuditKind.SAFE_TO_DELETE: _Row("110112", "E"),
    AuditKind.FORGET: _Row("110105", "D"),
    AuditKind.PRUNE: _Row("110113", "E", "110132"),
    AuditKind.REPAIR: _Row("110113", "E", "110132"),
    AuditKind.UNCOVER: _Row("110113", "E", "110132"),
    AuditKind.VAULT_MADE: _Row("110113", "E", "110129"),
    AuditKind.COPY: _Row("110106", "R"),
    AuditKind.HOLD: _Row("110113", "E", "110135"),
    AuditKind.KEYS: _Row("110113", "E", "110129"),
    AuditKind.CONFIGURATION: _Row("110113", "E", "110131"),
    AuditKind.STATE_MOVED: _Row("110106", "R"),
    AuditKind.WORK_STEERED: _Row("110113", "E", "110132"),
    AuditKind.SERVICE_STARTED: _Row("110100", "E", "110120"),
    AuditKind.SERVICE_STOPPED: _Row("110100", "E", "110121"),
    AuditKind.ACCESS: _Row("110104", "R"),
    AuditKind.LOGIN: _Row("110114", "E", "110122"),
    AuditKind.LOGIN_FAILED: _Row("110114", "E", "110122"),
    AuditKind.LOGOUT: _Row("110114", "E", "110123"),
    AuditKind.REVEALED: _Row("110113", "E", "110132"),
    AuditKind.ACCOUNTS: _Row("110113", "E", "110137"),
    AuditKind.EXPORT: _Row("110106", "R"),
    AuditKind.JOURNAL_USED: _Row("110101", "R"),
    AuditKind.JOURNAL_ROTATED: _Row("110101", "U"),
    AuditKind.JOURNAL_MENDED: _Row("110101", "U"),
}
#: Accesses by service; whatever is not here transfers instances.
_ACCESSES: Mapping[str, _Row] = {
    "C-FIND": _Row("110112", "E"),
    "QIDO-RS": _Row("110112", "E"),
    "A-ASSOCIATE": _Row("110113", "E", "110126"),
}
_NO_MESSAGE = frozenset({"C-ECHO"})
#: EventOutcomeIndicator.
_INDICATORS: Mapping[AuditOutcome, str] = {
    AuditOutcome.BEGUN: "0",
    AuditOutcome.SUCCESS: "0",
    AuditOutcome.MINOR_FAILURE: "4",
    AuditOutcome.SERIOUS_FAILURE: "8",
}
#: Characters that XML 1.0 cannot have, and ends of lines.
_NO_XML = re.compile("[^\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
#: A message fits into a datagram.
_MOST_STUDIES = 50


@dataclass(frozen=True, slots=True)
class AuditSource:
    """Who reports: this host, and the site where one is configured."""

    host: str
    site: str = ""


def dicom_message(
    record: Mapping[str, Any], source: AuditSource, line: str, sha256: str
) -> bytes | None:
    """Return the message of a line of the journal, UTF-8; None for what none is sent of.

    The last participant object is the line itself, with its hash: so who collects messages is a
    witness of the journal.
    """
    kind = AuditKind(record["event"])
    details = record.get("details", {})
    if kind is AuditKind.ACCESS and details.get("service") in _NO_MESSAGE:
        return None
    row = _EVENTS[kind]
    if kind is AuditKind.ACCESS:
        row = _ACCESSES.get(str(details.get("service")), row)
    outcome = AuditOutcome(record["outcome"])
    root = ElementTree.Element("AuditMessage")
    event = ElementTree.SubElement(
        root,
        "EventIdentification",
        EventActionCode=row.action,
        EventDateTime=record["at"],
        EventOutcomeIndicator=_INDICATORS[outcome],
    )
    _code(event, "EventID", row.event_id)
    if row.event_type:
        _code(event, "EventTypeCode", row.event_type)
    ElementTree.SubElement(event, "EventOutcomeDescription").text = f"{kind} {outcome}"
    _participants(root, record, kind, source, details)
    reporter = ElementTree.SubElement(
        root, "AuditSourceIdentification", AuditSourceID=_text(source.host)
    )
    if source.site:
        reporter.set("AuditEnterpriseSiteID", _text(source.site))
    ElementTree.SubElement(reporter, "AuditSourceTypeCode", {"csd-code": "4"})
    for uid in record.get("study_instance_uids", [])[:_MOST_STUDIES]:
        _object(root, uid, "110180", role="3", name=uid)
    if place := record.get("place"):
        _object(root, place, "110182", role="17", name=place, details=details.items())
    elif details:
        _object(root, "dcmvault", "110182", role="26", name="dcmvault", details=details.items())
    witness = [("seq", record["seq"]), ("sha256", sha256)]
    _object(root, line, "110182", role="13", name="dcmvault audit journal", details=witness)
    # One line: collectors take a message's end for a line's.
    told: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=False)
    return b'<?xml version="1.0" encoding="UTF-8"?>' + told


def _participants(
    root: ElementTree.Element,
    record: Mapping[str, Any],
    kind: AuditKind,
    source: AuditSource,
    details: Mapping[str, Any],
) -> None:
    """Tell who asked, and us; and where instances went to, if that is somebody else."""
    actor = record["actor"]
    is_peer = actor["kind"] == ActorKind.PEER
    asks = {"UserID": actor.get("certificate") or actor.get("name") or actor.get("address") or "-"}
    if actor.get("name"):
        asks["UserName"] = actor["name"]
    peer = _participant(root, asks, requests=True, address=actor.get("address", ""))
    if is_peer and kind is AuditKind.ACCESS and not details.get("destination"):
        _code(peer, "RoleIDCode", "110152")
    us = _participant(
        root,
        {"UserID": f"dcmvault@{source.host}", "UserName": "dcmvault"},
        requests=False,
        address=source.host,
    )
    role = {AuditKind.SERVICE_STARTED: "110150", AuditKind.SERVICE_STOPPED: "110150"}
    _code(us, "RoleIDCode", role.get(kind, "110153"))
    if destination := details.get("destination"):
        other = _participant(root, {"UserID": str(destination)}, requests=False, address="")
        _code(other, "RoleIDCode", "110152")


def _participant(
    root: ElementTree.Element, named: Mapping[str, str], *, requests: bool, address: str
) -> ElementTree.Element:
    one = ElementTree.SubElement(
        root,
        "ActiveParticipant",
        {name: _text(value) for name, value in named.items()},
        UserIsRequestor="true" if requests else "false",
    )
    if address:
        one.set("NetworkAccessPointID", _text(address))
        one.set("NetworkAccessPointTypeCode", "2" if _is_address(address) else "1")
    return one


def _object(
    root: ElementTree.Element,
    identifier: str,
    type_code: str,
    *,
    role: str,
    name: str,
    details: Iterable[tuple[str, Any]] = (),
) -> None:
    """Add a system object, as PS3.15 orders its parts."""
    one = ElementTree.SubElement(
        root,
        "ParticipantObjectIdentification",
        ParticipantObjectID=_text(identifier),
        ParticipantObjectTypeCode="2",
        ParticipantObjectTypeCodeRole=role,
    )
    _code(one, "ParticipantObjectIDTypeCode", type_code)
    ElementTree.SubElement(one, "ParticipantObjectName").text = _text(name)
    for key, value in details:
        encoded = base64.b64encode(str(value).encode("utf-8", "replace")).decode("ascii")
        ElementTree.SubElement(one, "ParticipantObjectDetail", type=_text(key), value=encoded)
    if type_code == "110180":
        said = ElementTree.SubElement(one, "ParticipantObjectDescription")
        contains = ElementTree.SubElement(said, "ParticipantObjectContainsStudy")
        ElementTree.SubElement(contains, "StudyIDs", UID=_text(identifier))


def _code(parent: ElementTree.Element, name: str, code: str) -> None:
    ElementTree.SubElement(
        parent,
        name,
        {
            "csd-code": code,
            "codeSystemName": "DCM",
            "displayName": _MEANINGS[code],
            "originalText": _MEANINGS[code],
        },
    )


def _text(value: str) -> str:
    return _NO_XML.sub("?", value)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def codes() -> Iterator[tuple[AuditKind, str, str, str]]:
    """List kinds with EventID, its meaning and EventTypeCode, for the documentation."""
    for kind, row in _EVENTS.items():
        yield kind, row.event_id, _MEANINGS[row.event_id], row.event_type
