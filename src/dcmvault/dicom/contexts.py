"""Presentation contexts for storage: which to propose, and what a peer's answers leave open.

PS3.8 section 9.3.2.2: at most 128 in an association. Each kind of file gets a context of its own
with its transfer syntax only, so that the peer's answer is a clear one. For what it refuses,
each SOP class has one context of native transfer syntaxes, and one of lossless compression.
"""

from __future__ import annotations

from collections.abc import Iterable

from dcmvault.dicom.association import MAX_CONTEXTS, PeerAssociation
from dcmvault.dicom.command import is_usable_uid
from dcmvault.dicom.pdu import ContextProposal
from dcmvault.dicom.transcode import target_for
from dcmvault.dicom.transfer_syntaxes import (
    COMPRESSED_TARGETS,
    NATIVE_TARGETS,
    is_transcodable,
    uid_words,
)
from dcmvault.errors import InstanceUnsendableError
from dcmvault.model.instance import InstanceKind

#: Two are for Verification and for queries.
_ROOM = MAX_CONTEXTS - 2


def plan_contexts(
    kinds: Iterable[InstanceKind], *, transcodes: bool
) -> tuple[ContextProposal, ...]:
    """Propose the first kinds, as many as fit in one association with what they share.

    Kinds that no peer can be told (an empty or broken UID) are left out.
    """
    proposals: list[ContextProposal] = []
    classes: set[str] = set()
    for kind in kinds:
        sop_class, syntax = kind.sop_class_uid, kind.transfer_syntax_uid
        if not (is_usable_uid(sop_class) and is_usable_uid(syntax)):
            continue
        wanted = [ContextProposal(sop_class, (syntax,))]
        if transcodes and is_transcodable(syntax) and sop_class not in classes:
            classes.add(sop_class)
            wanted += [
                ContextProposal(sop_class, others)
                for others in (NATIVE_TARGETS, COMPRESSED_TARGETS)
            ]
        if len(proposals) + len(wanted) > _ROOM:
            break
        proposals += wanted
    return tuple(proposals)


def other_syntax(association: PeerAssociation, kind: InstanceKind, *, transcodes: bool) -> str:
    """Return the transfer syntax to send files of a refused kind in.

    Raises InstanceUnsendableError, which says what the peer accepts, when there is none.
    """
    accepted = association.contexts.accepted_syntaxes(kind.sop_class_uid)
    target = target_for(kind.transfer_syntax_uid, accepted) if transcodes else ""
    if target:
        return target
    reason = association.contexts.refusal(kind.sop_class_uid, kind.transfer_syntax_uid)
    message = (
        f"{association.peer.name} does not take {uid_words(kind.sop_class_uid)}"
        f" as {uid_words(kind.transfer_syntax_uid)}: {reason or 'it was not proposed'}"
    )
    if accepted:
        message = f"{message}; it takes it as {', '.join(map(uid_words, accepted))}"
    if transcodes or not is_transcodable(kind.transfer_syntax_uid):
        hint = "Enable it at the peer, or keep these instances in a vault or folder."
    else:
        hint = 'Set transcode = "lossless" for this destination, or enable it at the peer.'
    raise InstanceUnsendableError(message, hint=hint)
