"""What both sides of storage commitment say, to and from bytes (PS3.4 Annex J, Push Model).

Data sets are implicit VR little endian, the only transfer syntax that is agreed on for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dcmvault.dicom import command as commands
from dcmvault.dicom.association import IMPLICIT_VR_LITTLE_ENDIAN
from dcmvault.dicom.pdu import ContextProposal
from dcmvault.errors import MalformedDicomError

#: Storage Commitment Push Model, and its well-known instance (PS3.4 section J.3).
COMMITMENT = "1.2.840.10008.1.20.1"
COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1"
REQUEST_COMMITMENT = 1
COMMITMENT_PROPOSAL = ContextProposal(COMMITMENT, (IMPLICIT_VR_LITTLE_ENDIAN,))

#: Event types of a report (PS3.4 table J.3-3).
ALL_COMMITTED = 1
FAILURES_EXIST = 2

#: Failure Reasons (PS3.3 section C.14.1.1).
NO_SUCH_OBJECT_INSTANCE = 0x0112
CLASS_INSTANCE_CONFLICT = 0x0119
_FAILURE_REASONS = {
    0x0110: "the peer does not commit to it: processing failure (0110)",
    NO_SUCH_OBJECT_INSTANCE: "the peer does not commit to it: no such object instance (0112)",
    0x0213: "the peer does not commit to it: resource limitation (0213)",
    0x0122: "the peer does not commit to it: its SOP class is not supported (0122)",
    CLASS_INSTANCE_CONFLICT: "the peer does not commit to it: it has another SOP class (0119)",
    0x0131: "the peer does not commit to it: duplicate transaction UID (0131)",
}

_TRANSACTION_UID = (0x0008, 0x1195)
_REFERENCED_SOP_CLASS_UID = (0x0008, 0x1150)
_REFERENCED_SOP_INSTANCE_UID = (0x0008, 0x1155)
_FAILURE_REASON = (0x0008, 0x1197)
_FAILED_SOP_SEQUENCE = (0x0008, 0x1198)
_REFERENCED_SOP_SEQUENCE = (0x0008, 0x1199)
#: Instances that are named in one message; more is an attack or a defect.
_MOST_INSTANCES = 100_000

_Elements = Mapping[tuple[int, int], bytes]


@dataclass(frozen=True, slots=True)
class Reference:
    """One instance as a message names it."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is said of one request: what is committed to, and what not, each with its reason."""

    transaction_uid: str
    committed: tuple[Reference, ...]
    failed: tuple[tuple[Reference, int], ...]


def explain_failure(reason: int) -> str:
    """Say a Failure Reason in words, with its number as the Standard writes it."""
    return _FAILURE_REASONS.get(
        reason, f"the peer does not commit to it, for a reason of its own ({reason:04X})"
    )


def encode_references(transaction_uid: str, references: Iterable[Reference]) -> bytes:
    """Encode what an N-ACTION asks commitment for (PS3.4 table J.3-2)."""
    return commands.encode_element(
        *_TRANSACTION_UID, commands.encode_uid(transaction_uid)
    ) + commands.encode_sequence(*_REFERENCED_SOP_SEQUENCE, map(_reference, references))


def read_references(data: bytes) -> tuple[str, list[Reference]]:
    """Decode what an N-ACTION asks commitment for; MalformedDicomError where it is broken."""
    elements = dict(commands.decode_whole(data))
    transaction_uid = _uid(elements, _TRANSACTION_UID)
    references = [_reference_of(item) for item in _items(elements, _REFERENCED_SOP_SEQUENCE)]
    if not references:
        raise MalformedDicomError("it names no instance")
    return transaction_uid, references


def encode_report(message_id: int, outcome: Outcome) -> tuple[bytes, bytes]:
    """Encode the command set and data set of the N-EVENT-REPORT (PS3.4 table J.3-3)."""
    event = FAILURES_EXIST if outcome.failed else ALL_COMMITTED
    command = commands.encode_event_report(message_id, COMMITMENT, COMMITMENT_INSTANCE, event)
    data = commands.encode_element(*_TRANSACTION_UID, commands.encode_uid(outcome.transaction_uid))
    if outcome.failed:
        data += commands.encode_sequence(
            *_FAILED_SOP_SEQUENCE,
            (
                _reference(one)
                + commands.encode_element(*_FAILURE_REASON, reason.to_bytes(2, "little"))
                for one, reason in outcome.failed
            ),
        )
    if outcome.committed:
        data += commands.encode_sequence(
            *_REFERENCED_SOP_SEQUENCE, map(_reference, outcome.committed)
        )
    return command, data


def read_report(data: bytes) -> Outcome:
    """Decode the data set of an N-EVENT-REPORT; MalformedDicomError where it is broken.

    A failure without a readable reason is one for the reason 0000.
    """
    elements = dict(commands.decode_whole(data))
    committed = tuple(map(_reference_of, _items(elements, _REFERENCED_SOP_SEQUENCE)))
    failed = tuple(
        (_reference_of(item), int.from_bytes(item.get(_FAILURE_REASON, b"")[:2], "little"))
        for item in _items(elements, _FAILED_SOP_SEQUENCE)
    )
    return Outcome(_uid(elements, _TRANSACTION_UID), committed, failed)


def _items(elements: _Elements, tag: tuple[int, int]) -> Sequence[_Elements]:
    found: list[_Elements] = []
    for one in commands.items_of(elements.get(tag, b"")):
        if len(found) == _MOST_INSTANCES:
            raise MalformedDicomError("it names too many instances")
        found.append(dict(commands.decode_whole(one)))
    return found


def _reference_of(item: _Elements) -> Reference:
    return Reference(
        _uid(item, _REFERENCED_SOP_CLASS_UID), _uid(item, _REFERENCED_SOP_INSTANCE_UID)
    )


def _uid(elements: _Elements, tag: tuple[int, int]) -> str:
    text = elements.get(tag, b"").decode("ascii", "replace").strip("\0 ")
    if not commands.is_usable_uid(text):
        raise MalformedDicomError("a UID is missing or broken")
    return text


def _reference(one: Reference) -> bytes:
    return commands.encode_element(
        *_REFERENCED_SOP_CLASS_UID, commands.encode_uid(one.sop_class_uid)
    ) + commands.encode_element(
        *_REFERENCED_SOP_INSTANCE_UID, commands.encode_uid(one.sop_instance_uid)
    )
