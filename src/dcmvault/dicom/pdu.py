"""Protocol data units of the association requestor (PS3.8 section 9.3), to and from bytes.

Those of the acceptor are in `pdu_accepting`, made of the same parts.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from dcmvault.errors import MalformedDicomError

A_ASSOCIATE_RQ = 0x01
A_ASSOCIATE_AC = 0x02
A_ASSOCIATE_RJ = 0x03
P_DATA_TF = 0x04
A_RELEASE_RQ = 0x05
A_RELEASE_RP = 0x06
A_ABORT = 0x07

#: PDU type, reserved, length of what follows.
HEADER = struct.Struct(">BxI")
#: Length, presentation context id, message control header (PS3.8 sections 9.3.5.1 and E.2).
PDV_HEADER = struct.Struct(">IBB")
#: Bits of the message control header.
IS_COMMAND = 0x01
IS_LAST = 0x02

#: PS3.7 Annex A.2.1, the only application context there is.
APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
_ITEM = struct.Struct(">BxH")
ITEM_APPLICATION_CONTEXT = 0x10
ITEM_CONTEXT_RQ = 0x20
ITEM_CONTEXT_AC = 0x21
ITEM_ABSTRACT_SYNTAX = 0x30
ITEM_TRANSFER_SYNTAX = 0x40
ITEM_USER_INFORMATION = 0x50
ITEM_MAXIMUM_LENGTH = 0x51
ITEM_IMPLEMENTATION_CLASS = 0x52
_ITEM_OPERATIONS_WINDOW = 0x53
ITEM_IMPLEMENTATION_VERSION = 0x55
ITEM_ROLE_SELECTION = 0x54
ITEM_EXTENDED_NEGOTIATION = 0x56
_ITEM_USER_IDENTITY = 0x58
#: Version, reserved, called and calling AE title, reserved: what stands before the items.
ASSOCIATE_FIXED = struct.Struct(">H2x16s16s32x")


@dataclass(frozen=True, slots=True)
class ContextProposal:
    """One presentation context to propose: an abstract syntax and transfer syntaxes for it."""

    abstract_syntax_uid: str
    transfer_syntax_uids: tuple[str, ...]
    #: The peer is to send to us under it, not we to the peer (PS3.7 Annex D.3.3.4).
    peer_sends: bool = False
    #: Ask whether queries in this model may be relational (PS3.4 section C.5.1.1).
    relational: bool = False


@dataclass(frozen=True, slots=True)
class UserIdentity:
    """Who asks for the association, for peers that want to know (PS3.7 Annex D.3.3.7)."""

    name: str
    #: Empty: the name alone is given.
    passcode: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class ContextAnswer:
    """The acceptor's word on one context; `result` 0 accepts (PS3.8 table 9-18)."""

    context_id: int
    result: int
    transfer_syntax_uid: str


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What an A-ASSOCIATE-AC says; `maximum_length` 0 means unlimited (PS3.8 D.1)."""

    answers: tuple[ContextAnswer, ...]
    maximum_length: int
    #: Requests that we may have outstanding; 0 means unlimited (PS3.7 Annex D.3.3.3).
    operations_window: int = 1
    #: Models in which queries may be relational, by their SOP Class UIDs.
    relational: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class DataValue:
    """One presentation data value of a P-DATA-TF."""

    context_id: int
    is_command: bool
    is_last: bool
    fragment: bytes


def context_id_of(position: int) -> int:
    """Return the presentation context id of the n-th proposal: odd, 1 to 255."""
    return 2 * position + 1


def item(kind: int, body: bytes) -> bytes:
    """Encode an item of an A-ASSOCIATE (PS3.8 section 9.3.1)."""
    return _ITEM.pack(kind, len(body)) + body


def associate_request(
    called_ae_title: str,
    calling_ae_title: str,
    proposals: Sequence[ContextProposal],
    *,
    maximum_length: int,
    implementation_class_uid: str,
    implementation_version: str,
    operations_window: int = 1,
    user_identity: UserIdentity | None = None,
) -> bytes:
    """Encode an A-ASSOCIATE-RQ (PS3.8 section 9.3.2, user information by PS3.7 Annex D.3.3).

    An `operations_window` of 1 is what holds when none is proposed, so it is not.
    """
    contexts = b"".join(
        item(
            ITEM_CONTEXT_RQ,
            bytes([context_id_of(position), 0, 0, 0])
            + item(ITEM_ABSTRACT_SYNTAX, proposal.abstract_syntax_uid.encode("ascii"))
            + b"".join(
                item(ITEM_TRANSFER_SYNTAX, uid.encode("ascii"))
                for uid in proposal.transfer_syntax_uids
            ),
        )
        for position, proposal in enumerate(proposals)
    )
    user = (
        item(ITEM_MAXIMUM_LENGTH, maximum_length.to_bytes(4, "big"))
        + item(ITEM_IMPLEMENTATION_CLASS, implementation_class_uid.encode("ascii"))
        + (_operations_window(operations_window) if operations_window > 1 else b"")
        + item(ITEM_IMPLEMENTATION_VERSION, implementation_version.encode("ascii"))
        + b"".join(
            _role_of_receiver(uid)
            for uid in dict.fromkeys(one.abstract_syntax_uid for one in proposals if one.peer_sends)
        )
        + relational_queries(one.abstract_syntax_uid for one in proposals if one.relational)
        + (_user_identity(user_identity) if user_identity is not None else b"")
    )
    body = (
        ASSOCIATE_FIXED.pack(
            1, called_ae_title.encode("ascii").ljust(16), calling_ae_title.encode("ascii").ljust(16)
        )
        + item(ITEM_APPLICATION_CONTEXT, APPLICATION_CONTEXT.encode("ascii"))
        + contexts
        + item(ITEM_USER_INFORMATION, user)
    )
    return HEADER.pack(A_ASSOCIATE_RQ, len(body)) + body


def _role_of_receiver(sop_class_uid: str) -> bytes:
    """Encode that we are SCP of a SOP class, and not its SCU (PS3.7 table D.3-9)."""
    uid = sop_class_uid.encode("ascii")
    return item(ITEM_ROLE_SELECTION, len(uid).to_bytes(2, "big") + uid + bytes((0, 1)))


def relational_queries(sop_class_uids: Iterable[str]) -> bytes:
    """Encode that queries may be relational, to ask for it or to grant it (PS3.7 table D.3-11).

    The further bytes (PS3.4 table C.5-1) are left out, as they may be: nothing else is asked for.
    """
    return b"".join(
        item(
            ITEM_EXTENDED_NEGOTIATION,
            len(uid).to_bytes(2, "big") + uid.encode("ascii") + b"\x01",
        )
        for uid in sop_class_uids
    )


def relational_in(user_items: Iterable[tuple[int, bytes]]) -> frozenset[str]:
    """Return the SOP classes for which an A-ASSOCIATE says that queries may be relational."""
    found = set()
    for kind, value in user_items:
        if kind == ITEM_EXTENDED_NEGOTIATION:
            end = 2 + int.from_bytes(value[:2], "big")
            # The first byte behind the UID; without it the answer is no.
            if value[end : end + 1] == b"\x01":
                found.add(value[2:end].rstrip(b"\0 ").decode("ascii", "replace"))
    return frozenset(found)


def _operations_window(invoked: int) -> bytes:
    """Encode a window (PS3.7 table D.3-7): operations that we invoke, and perform, at once."""
    return item(_ITEM_OPERATIONS_WINDOW, struct.pack(">HH", invoked, 1))


def _user_identity(identity: UserIdentity) -> bytes:
    """Encode a user identity (PS3.7 table D.3-14): type 1 is a name, type 2 one with a passcode.

    No response is asked for: peers that do not know this item could not give it, and those that
    do reject whom they do not know.
    """
    name, passcode = identity.name.encode(), identity.passcode.encode()
    kind = 2 if passcode else 1
    body = bytes((kind, 0)) + len(name).to_bytes(2, "big") + name
    return item(_ITEM_USER_IDENTITY, body + len(passcode).to_bytes(2, "big") + passcode)


def release_request() -> bytes:
    """Encode an A-RELEASE-RQ (PS3.8 section 9.3.6)."""
    return HEADER.pack(A_RELEASE_RQ, 4) + bytes(4)


def release_response() -> bytes:
    """Encode an A-RELEASE-RP (PS3.8 section 9.3.7)."""
    return HEADER.pack(A_RELEASE_RP, 4) + bytes(4)


def abort() -> bytes:
    """Encode an A-ABORT by the service user (PS3.8 section 9.3.8)."""
    return HEADER.pack(A_ABORT, 4) + bytes(4)


def command_pdu(context_id: int, command: bytes) -> bytes:
    """Encode a P-DATA-TF with a whole command set, which must be short (a kilobyte)."""
    value = PDV_HEADER.pack(len(command) + 2, context_id, IS_COMMAND | IS_LAST) + command
    return HEADER.pack(P_DATA_TF, len(value)) + value


def items(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Take the items of an A-ASSOCIATE apart; MalformedDicomError where they do not fit."""
    offset = 0
    while offset < len(body):
        if offset + _ITEM.size > len(body):
            raise MalformedDicomError("an item of an A-ASSOCIATE is cut short")
        kind, length = _ITEM.unpack_from(body, offset)
        offset += _ITEM.size
        if offset + length > len(body):
            raise MalformedDicomError("an item of an A-ASSOCIATE is longer than its PDU")
        yield kind, body[offset : offset + length]
        offset += length


def read_acceptance(body: bytes) -> Acceptance:
    """Decode an A-ASSOCIATE-AC without its header (PS3.8 section 9.3.3)."""
    if len(body) < ASSOCIATE_FIXED.size:
        raise MalformedDicomError("an A-ASSOCIATE-AC is cut short")
    answers: list[ContextAnswer] = []
    maximum_length, operations_window = 0, 1
    relational: frozenset[str] = frozenset()
    for kind, value in items(body[ASSOCIATE_FIXED.size :]):
        if kind == ITEM_CONTEXT_AC and len(value) >= 4:
            syntaxes = [
                text.rstrip(b"\0 ").decode("ascii", "replace")
                for inner, text in items(value[4:])
                if inner == ITEM_TRANSFER_SYNTAX
            ]
            answers.append(ContextAnswer(value[0], value[2], syntaxes[0] if syntaxes else ""))
        elif kind == ITEM_USER_INFORMATION:
            inner_items = list(items(value))
            relational |= relational_in(inner_items)
            for inner, number in inner_items:
                if inner == ITEM_MAXIMUM_LENGTH and len(number) == 4:
                    maximum_length = int.from_bytes(number, "big")
                elif inner == _ITEM_OPERATIONS_WINDOW and len(number) == 4:
                    # What we may invoke; what we would perform stands behind it.
                    operations_window = int.from_bytes(number[:2], "big")
    return Acceptance(tuple(answers), maximum_length, operations_window, relational)


def read_rejection(body: bytes) -> tuple[int, int, int]:
    """Decode an A-ASSOCIATE-RJ: result, source, reason (PS3.8 section 9.3.4)."""
    if len(body) < 4:
        raise MalformedDicomError("an A-ASSOCIATE-RJ is cut short")
    return body[1], body[2], body[3]


def read_data_values(body: bytes) -> Iterator[DataValue]:
    """Decode the data values of a P-DATA-TF without its header (PS3.8 section 9.3.5)."""
    offset = 0
    while offset < len(body):
        if offset + PDV_HEADER.size > len(body):
            raise MalformedDicomError("a presentation data value is cut short")
        length, context_id, control = PDV_HEADER.unpack_from(body, offset)
        end = offset + 4 + length
        if length < 2 or end > len(body):
            raise MalformedDicomError("a presentation data value is longer than its PDU")
        yield DataValue(
            context_id,
            bool(control & IS_COMMAND),
            bool(control & IS_LAST),
            body[offset + PDV_HEADER.size : end],
        )
        offset = end


def data_pdus(context_id: int, data: bytes, fragment: int, *, is_command: bool) -> bytes:
    """Encode a whole command set or data set as P-DATA-TF PDUs of at most `fragment` bytes each."""
    control = IS_COMMAND if is_command else 0
    parts: list[bytes] = []
    for start in range(0, len(data), fragment):
        part = data[start : start + fragment]
        is_last = IS_LAST if start + fragment >= len(data) else 0
        parts += (
            HEADER.pack(P_DATA_TF, len(part) + PDV_HEADER.size),
            PDV_HEADER.pack(len(part) + 2, context_id, control | is_last),
            part,
        )
    return b"".join(parts)
