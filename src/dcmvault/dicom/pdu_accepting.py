"""Protocol data units of the association acceptor (PS3.8 section 9.3), to and from bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dcmvault.dicom import pdu
from dcmvault.errors import MalformedDicomError

#: Odd context ids from 1 to 255 (PS3.8 section 9.3.2.2).
_MAX_CONTEXTS = 128
#: Only this bit of the protocol version is looked at (PS3.8 table 9-11).
_VERSION_1 = 0x0001

#: Results of a presentation context (PS3.8 table 9-18).
ACCEPTED = 0
ABSTRACT_SYNTAX_NOT_SUPPORTED = 3
TRANSFER_SYNTAXES_NOT_SUPPORTED = 4

#: Who aborts, and why, in an A-ABORT (PS3.8 table 9-26).
BY_PROVIDER = 2
UNRECOGNIZED_PDU = 1
UNEXPECTED_PDU = 2
INVALID_PDU_PARAMETER = 6


@dataclass(frozen=True, slots=True)
class OfferedContext:
    """One presentation context as the requestor offers it."""

    context_id: int
    abstract_syntax_uid: str
    transfer_syntax_uids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AssociationRequest:
    """What an A-ASSOCIATE-RQ asks for; `maximum_length` 0 means unlimited (PS3.8 D.1)."""

    called_ae_title: str
    calling_ae_title: str
    is_version_1: bool
    application_context: str
    contexts: tuple[OfferedContext, ...]
    maximum_length: int
    #: Both AE titles as they came: an answer repeats them.
    titles: bytes
    #: SOP classes for which the requestor would be SCP, too (PS3.7 Annex D.3.3.4).
    receives: frozenset[str] = frozenset()
    #: Service class application information by SOP class (PS3.7 Annex D.3.3.5).
    extended: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rejection:
    """Result, source and reason of an A-ASSOCIATE-RJ (PS3.8 table 9-21)."""

    result: int
    source: int
    reason: int


VERSION_NOT_SUPPORTED = Rejection(1, 2, 2)
APPLICATION_CONTEXT_NOT_SUPPORTED = Rejection(1, 1, 2)
CALLING_AE_TITLE_NOT_RECOGNIZED = Rejection(1, 1, 3)
CALLED_AE_TITLE_NOT_RECOGNIZED = Rejection(1, 1, 7)
#: Transient: the peer may try again.
LOCAL_LIMIT_EXCEEDED = Rejection(2, 3, 2)


def read_request(body: bytes) -> AssociationRequest:
    """Decode an A-ASSOCIATE-RQ without its header (PS3.8 section 9.3.2).

    Raises MalformedDicomError also for presentation context ids that cannot be answered.
    """
    if len(body) < pdu.ASSOCIATE_FIXED.size:
        raise MalformedDicomError("an A-ASSOCIATE-RQ is cut short")
    version, called, calling = pdu.ASSOCIATE_FIXED.unpack_from(body)
    contexts: dict[int, OfferedContext] = {}
    application_context = ""
    user: list[tuple[int, bytes]] = []
    for kind, value in pdu.items(body[pdu.ASSOCIATE_FIXED.size :]):
        if kind == pdu.ITEM_APPLICATION_CONTEXT:
            application_context = _text(value)
        elif kind == pdu.ITEM_CONTEXT_RQ:
            offered = _context(value)
            if offered.context_id in contexts or len(contexts) == _MAX_CONTEXTS:
                raise MalformedDicomError("a presentation context is offered twice")
            contexts[offered.context_id] = offered
        elif kind == pdu.ITEM_USER_INFORMATION:
            user += pdu.items(value)
    lengths = [
        int.from_bytes(number, "big")
        for inner, number in user
        if inner == pdu.ITEM_MAXIMUM_LENGTH and len(number) == 4
    ]
    roles = [_named(value) for inner, value in user if inner == pdu.ITEM_ROLE_SELECTION]
    return AssociationRequest(
        _text(called),
        _text(calling),
        bool(version & _VERSION_1),
        application_context,
        tuple(contexts.values()),
        lengths[-1] if lengths else 0,
        body[4:36],
        # SCU and SCP role, one byte each (table D.3-9).
        frozenset(uid for uid, role in roles if role[1:2] == b"\x01"),
        dict(_named(value) for inner, value in user if inner == pdu.ITEM_EXTENDED_NEGOTIATION),
    )


def _named(value: bytes) -> tuple[str, bytes]:
    """Take apart what begins with a SOP class UID and its length."""
    end = 2 + int.from_bytes(value[:2], "big")
    if len(value) < max(end, 2):
        raise MalformedDicomError("an item of user information is cut short")
    return _text(value[2:end]), value[end:]


def _context(value: bytes) -> OfferedContext:
    if len(value) < 4 or value[0] % 2 == 0:
        raise MalformedDicomError("a presentation context has no usable id")
    parts = list(pdu.items(value[4:]))
    abstract = [_text(text) for kind, text in parts if kind == pdu.ITEM_ABSTRACT_SYNTAX]
    transfer = [_text(text) for kind, text in parts if kind == pdu.ITEM_TRANSFER_SYNTAX]
    return OfferedContext(value[0], abstract[0] if abstract else "", tuple(transfer))


def _text(value: bytes) -> str:
    return value.decode("ascii", "replace").strip("\0 ")


def associate_accept(
    request: AssociationRequest,
    answers: Sequence[pdu.ContextAnswer],
    *,
    maximum_length: int,
    implementation_class_uid: str,
    implementation_version: str,
    receives: Sequence[str] = (),
    extended: Mapping[str, bytes] | None = None,
) -> bytes:
    """Encode an A-ASSOCIATE-AC (PS3.8 section 9.3.3).

    The requestor is SCP, and not SCU, of the classes that it `receives`; `extended` answers its
    extended negotiation. What is not answered has its default (PS3.7 D.3.3).
    """
    contexts = b"".join(
        pdu.item(
            pdu.ITEM_CONTEXT_AC,
            bytes([answer.context_id, 0, answer.result, 0])
            + pdu.item(pdu.ITEM_TRANSFER_SYNTAX, answer.transfer_syntax_uid.encode("ascii")),
        )
        for answer in answers
    )
    user = (
        pdu.item(pdu.ITEM_MAXIMUM_LENGTH, maximum_length.to_bytes(4, "big"))
        + pdu.item(pdu.ITEM_IMPLEMENTATION_CLASS, implementation_class_uid.encode("ascii"))
        + pdu.item(pdu.ITEM_IMPLEMENTATION_VERSION, implementation_version.encode("ascii"))
        + b"".join(
            pdu.item(pdu.ITEM_ROLE_SELECTION, _naming(uid) + b"\x00\x01") for uid in receives
        )
        + b"".join(
            pdu.item(pdu.ITEM_EXTENDED_NEGOTIATION, _naming(uid) + information)
            for uid, information in (extended or {}).items()
        )
    )
    body = (
        b"\x00\x01\x00\x00"
        + request.titles
        + bytes(32)
        + pdu.item(pdu.ITEM_APPLICATION_CONTEXT, pdu.APPLICATION_CONTEXT.encode("ascii"))
        + contexts
        + pdu.item(pdu.ITEM_USER_INFORMATION, user)
    )
    return pdu.HEADER.pack(pdu.A_ASSOCIATE_AC, len(body)) + body


def _naming(uid: str) -> bytes:
    return len(uid).to_bytes(2, "big") + uid.encode("ascii")


def associate_reject(rejection: Rejection) -> bytes:
    """Encode an A-ASSOCIATE-RJ (PS3.8 section 9.3.4)."""
    return pdu.HEADER.pack(pdu.A_ASSOCIATE_RJ, 4) + bytes(
        [0, rejection.result, rejection.source, rejection.reason]
    )


def provider_abort(reason: int) -> bytes:
    """Encode an A-ABORT by the service provider (PS3.8 section 9.3.8)."""
    return pdu.HEADER.pack(pdu.A_ABORT, 4) + bytes([0, 0, BY_PROVIDER, reason])
