"""A-ASSOCIATE as its acceptor sees it: the request from bytes, our answers to bytes (PS3.8 9.3)."""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from dcmvault.dicom import pdu
from dcmvault.errors import MalformedDicomError

#: Results of a presentation context (PS3.8 table 9-18).
_ACCEPTED, _NO_SUCH_SERVICE = 0, 3
#: Where AE titles stand in a request, and where its items begin.
_CALLED, _CALLING, _ITEMS = slice(4, 20), slice(20, 36), 68
_ITEM = struct.Struct(">BxH")
_CONTEXT_RQ, _CONTEXT_AC, _ABSTRACT, _TRANSFER = 0x20, 0x21, 0x30, 0x40
_USER_INFORMATION, _MAXIMUM_LENGTH, _CLASS, _VERSION = 0x50, 0x51, 0x52, 0x55
_ROLE_SELECTION = 0x54


@dataclass(frozen=True, slots=True)
class ProposedContext:
    """One presentation context as it was proposed."""

    context_id: int
    abstract_syntax_uid: str
    transfer_syntax_uids: Sequence[str]


@dataclass(frozen=True, slots=True)
class AssociationRequest:
    """What an A-ASSOCIATE-RQ asks for; `maximum_length` 0 means unlimited."""

    called_ae_title: str
    calling_ae_title: str
    contexts: Sequence[ProposedContext]
    maximum_length: int
    #: Models for which relational queries are asked for.
    relational: frozenset[str]
    #: The fixed part, of which the answer repeats most.
    head: bytes
    #: SOP classes whose SCP the requestor proposes to be (PS3.7 Annex D.3.3.4).
    served: frozenset[str] = frozenset()


def read_request(body: bytes) -> AssociationRequest:
    """Decode an A-ASSOCIATE-RQ without its header (PS3.8 section 9.3.2)."""
    if len(body) < _ITEMS:
        raise MalformedDicomError("an A-ASSOCIATE-RQ is cut short")
    contexts: list[ProposedContext] = []
    maximum_length = 0
    served: set[str] = set()
    relational: frozenset[str] = frozenset()
    for kind, value in pdu.items(body[_ITEMS:]):
        if kind == _CONTEXT_RQ and len(value) >= 4:
            inner = [(item, text.rstrip(b"\0 ")) for item, text in pdu.items(value[4:])]
            abstract = [text for item, text in inner if item == _ABSTRACT]
            syntaxes = [
                text.decode("ascii", "replace") for item, text in inner if item == _TRANSFER
            ]
            if abstract:
                contexts.append(
                    ProposedContext(value[0], abstract[0].decode("ascii", "replace"), syntaxes)
                )
        elif kind == _USER_INFORMATION:
            user_items = list(pdu.items(value))
            relational |= pdu.relational_in(user_items)
            for inner_kind, number in user_items:
                if inner_kind == _MAXIMUM_LENGTH and len(number) == 4:
                    maximum_length = int.from_bytes(number, "big")
                elif inner_kind == _ROLE_SELECTION and len(number) > 4 and number[-1]:
                    served.add(number[2:-2].rstrip(b"\0 ").decode("ascii", "replace"))
    return AssociationRequest(
        body[_CALLED].decode("ascii", "replace").strip("\0 "),
        body[_CALLING].decode("ascii", "replace").strip("\0 "),
        contexts,
        maximum_length,
        relational,
        body[:_ITEMS],
        frozenset(served),
    )


def acceptance(
    request: AssociationRequest,
    chosen: Mapping[int, str],
    *,
    maximum_length: int,
    implementation_class_uid: str,
    implementation_version: str,
    scp_of: Collection[str] = (),
    relational: Collection[str] = (),
) -> bytes:
    """Encode an A-ASSOCIATE-AC (PS3.8 section 9.3.3).

    `chosen` are the transfer syntaxes of accepted contexts by their id; the others are refused.
    Of the SOP classes in `scp_of` the requestor may be SCP, and not SCU, where it proposed so.
    `relational` are the models in which queries may be relational.
    """
    contexts = b"".join(_answer(one, chosen.get(one.context_id)) for one in request.contexts)
    user = (
        _item(_MAXIMUM_LENGTH, maximum_length.to_bytes(4, "big"))
        + _item(_CLASS, implementation_class_uid.encode("ascii"))
        + _item(_VERSION, implementation_version.encode("ascii"))
        + b"".join(map(_role_of_sender, sorted(request.served.intersection(scp_of))))
        + pdu.relational_queries(relational)
    )
    application = _item(0x10, b"1.2.840.10008.3.1.1.1")
    body = request.head + application + contexts + _item(_USER_INFORMATION, user)
    return pdu.HEADER.pack(pdu.A_ASSOCIATE_AC, len(body)) + body


def _role_of_sender(sop_class_uid: str) -> bytes:
    uid = sop_class_uid.encode("ascii")
    return _item(_ROLE_SELECTION, len(uid).to_bytes(2, "big") + uid + bytes((0, 1)))


def _answer(context: ProposedContext, syntax: str | None) -> bytes:
    """Encode the answer to one context; a refused one carries a syntax that nobody looks at."""
    result = _NO_SUCH_SERVICE if syntax is None else _ACCEPTED
    named = (syntax or next(iter(context.transfer_syntax_uids), "")).encode("ascii", "replace")
    return _item(_CONTEXT_AC, bytes([context.context_id, 0, result, 0]) + _item(_TRANSFER, named))


def rejection(reason: int) -> bytes:
    """Encode an A-ASSOCIATE-RJ for good by the service user (PS3.8 section 9.3.4)."""
    return pdu.HEADER.pack(pdu.A_ASSOCIATE_RJ, 4) + bytes((0, 1, 1, reason))


def _item(kind: int, body: bytes) -> bytes:
    return _ITEM.pack(kind, len(body)) + body
