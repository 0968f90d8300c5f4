"""Reading back by C-GET in the Study Root model: what a peer really has under UIDs (PS3.4 Annex C).

The peer sends on the association that asks (PS3.4 section C.4.3), so that it needs to know no
address of ours, and TLS and user identity are those of every other association. Every wait has an
end; what is taken of what comes is said in `dicom/returning.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from dcmvault.dicom import command as commands
from dcmvault.dicom.association import (
    IMPLICIT_VR_LITTLE_ENDIAN,
    PeerAssociation,
)
from dcmvault.dicom.contexts import plan_contexts
from dcmvault.dicom.messages import Answer
from dcmvault.dicom.pdu import ContextProposal
from dcmvault.dicom.returning import Returning
from dcmvault.errors import RetrievalNotOfferedError
from dcmvault.model.instance import InstanceKind

STUDY_ROOT_GET = "1.2.840.10008.5.1.4.1.2.2.3"
GET_PROPOSAL = ContextProposal(STUDY_ROOT_GET, (IMPLICIT_VR_LITTLE_ENDIAN,))

#: Instances asked for at once. Each may need three presentation contexts, of 128 in all.
MAX_ASKED = 40
#: Seconds that one request may take in all; each part has a limit of its own, too.
_LONGEST_S = 2 * 3600.0

#: Elements of group 0000: sub-operations completed and failed.
_COMPLETED, _FAILED = 0x1021, 0x1022


@dataclass(frozen=True, slots=True)
class Retrieved:
    """The peer's last word on one request.

    `status` is four hexadecimal digits (DIMSE) or three others (HTTP); `failed` and `completed` are
    its own counts.
    """

    status: str
    #: Why the peer refused, or ended early; empty where it did its best.
    refusal: str
    completed: int
    failed: int
    #: Why single instances did not come, by UID, where the peer said so.
    refused: Mapping[str, str] = field(default_factory=dict)
    #: UIDs of those that the peer says not to have.
    gone: frozenset[str] = frozenset()


def retrieval_proposals(kinds: Collection[InstanceKind]) -> tuple[ContextProposal, ...]:
    """Return what to propose so that the peer sends instances of these kinds (at most MAX_ASKED).

    Each is proposed in its own transfer syntax, so that nothing needs to be transcoded, and in
    what it may have been transcoded to.
    """
    return (GET_PROPOSAL, *_storage(kinds))


def require_retrieval(association: PeerAssociation) -> None:
    """Raise DestinationError where the peer offers no C-GET."""
    if association.contexts.id_of(STUDY_ROOT_GET, IMPLICIT_VR_LITTLE_ENDIAN) is None:
        name = association.peer.name
        raise RetrievalNotOfferedError(
            f"{name} offers no retrieval (C-GET, Study Root), so nothing can be proven there",
            hint="Allow our AE title to retrieve by C-GET at the peer, set move_port for C-MOVE, "
            "or ask for `complete`.",
        )


def was_proposed(association: PeerAssociation, kinds: Collection[InstanceKind]) -> bool:
    """Say whether instances of all these kinds may come on an association."""
    return association.contexts.proposed.issuperset(_storage(kinds))


def _storage(kinds: Collection[InstanceKind]) -> list[ContextProposal]:
    return [
        ContextProposal(one.abstract_syntax_uid, one.transfer_syntax_uids, peer_sends=True)
        for one in plan_contexts(sorted(kinds), transcodes=True)
    ]


def retrieve(
    association: PeerAssociation,
    study_instance_uid: str,
    series_instance_uid: str,
    returning: Returning,
) -> Retrieved:
    """Ask for instances of one series (at most MAX_ASKED), and hand on every copy that comes.

    Raises AssociationLostError when the peer ends or does not answer in time; what came before has
    been handed on. DestinationError when there is no room for it.
    """
    context_id = association.contexts.id_of(STUDY_ROOT_GET, IMPLICIT_VR_LITTLE_ENDIAN)
    assert context_id is not None
    assert 0 < len(returning.wanted) <= MAX_ASKED
    identifier = retrieval_identifier(
        study_instance_uid,
        series_instance_uid,
        [one.sop_instance_uid for one in returning.wanted],
    )
    sink = returning.sink(association.contexts.named_by)
    try:
        answer = association.get(context_id, STUDY_ROOT_GET, identifier, sink, _LONGEST_S)
    finally:
        sink.drop()
    return retrieved(answer)


def retrieval_identifier(
    study_instance_uid: str, series_instance_uid: str, sop_instance_uids: Sequence[str]
) -> bytes:
    """Encode what asks for instances of one series (PS3.4 section C.4.2.1.4)."""
    uids = {
        (0x0008, 0x0018): "\\".join(sop_instance_uids),
        (0x0020, 0x000D): study_instance_uid,
        (0x0020, 0x000E): series_instance_uid,
    }
    return commands.encode_identifier(
        [
            (0x0008, 0x0052, b"IMAGE "),
            *((*tag, commands.encode_uid(value)) for tag, value in uids.items()),
        ]
    )


def retrieved(answer: Answer) -> Retrieved:
    """Say what a final answer to a C-GET or C-MOVE means."""
    return Retrieved(
        f"{answer.status:04X}",
        refusal_of_retrieval(answer.status),
        _count(answer.command, _COMPLETED),
        _count(answer.command, _FAILED),
    )


def refusal_of_retrieval(status: int) -> str:
    """Explain a final status of C-GET or C-MOVE, if it must be (PS3.4 tables C.4-2, C.4-3)."""
    if status in (0x0000, 0xB000):
        return ""
    if 0xA700 <= status <= 0xA7FF:
        return "it is out of resources"
    if 0xA900 <= status <= 0xA9FF:
        return "it does not support this request"
    if status == 0xFE00:
        return "it cancelled the request"
    return "it could not process the request"


def _count(command: Mapping[int, bytes], element: int) -> int:
    """Return a count of sub-operations, which the peer may leave out."""
    return int.from_bytes(command.get(element, b"")[:2], "little")
