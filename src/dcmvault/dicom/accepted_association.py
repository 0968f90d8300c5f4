"""An association that a peer requested: what is agreed on, and its requests until it ends.

One thread each. Taken are C-ECHO, C-STORE of any storage SOP class, and N-ACTION for storage
commitment; data sets go into the spool as they come, never decoded (PS3.4 Annexes A, B and J).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dcmvault.dicom import command as commands
from dcmvault.dicom import pdu, pdu_accepting
from dcmvault.dicom.association import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    IMPLICIT_VR_LITTLE_ENDIAN,
    VERIFICATION,
)
from dcmvault.dicom.commitment_coding import COMMITMENT, Outcome, encode_report
from dcmvault.dicom.commitment_scp import CommitmentScp
from dcmvault.dicom.inbound_channel import MAXIMUM_LENGTH, InboundChannel
from dcmvault.dicom.inbound_messages import Command, InboundMessages
from dcmvault.dicom.spool import Spool
from dcmvault.errors import MalformedDicomError

_STANDARD = "1.2.840.10008."
#: Composite storage (PS3.4 section B.5), and RT Beams Delivery Instruction Storage.
_STORAGE = ("1.2.840.10008.5.1.4.1.1.", "1.2.840.10008.5.1.4.34.7")

_SUCCESS = 0x0000
#: PS3.7 Annex C.
_SOP_CLASS_NOT_SUPPORTED = 0x0122
_INVALID_SOP_INSTANCE = 0x0117
_UNRECOGNIZED_OPERATION = 0x0211

#: About 30,000 instances in one request for commitment.
_LONGEST_ACTION = 4 * 1024 * 1024


def is_storage(sop_class_uid: str) -> bool:
    """Say whether instances of a SOP class are taken: of every storage class, private ones too."""
    if not commands.is_usable_uid(sop_class_uid):
        return False
    return sop_class_uid.startswith(_STORAGE) or not sop_class_uid.startswith(_STANDARD)


@dataclass(frozen=True, slots=True)
class AgreedContext:
    """An accepted presentation context."""

    abstract_syntax_uid: str
    transfer_syntax_uid: str


def agree(request: pdu_accepting.AssociationRequest) -> list[pdu.ContextAnswer]:
    """Answer each offered context: the first of its transfer syntaxes, which the sender prefers."""
    return [_answer_to(offered) for offered in request.contexts]


def _answer_to(offered: pdu_accepting.OfferedContext) -> pdu.ContextAnswer:
    abstract = offered.abstract_syntax_uid
    usable = [uid for uid in offered.transfer_syntax_uids if commands.is_usable_uid(uid)]
    if abstract in (VERIFICATION, COMMITMENT):
        usable = [uid for uid in usable if uid == IMPLICIT_VR_LITTLE_ENDIAN]
    elif not is_storage(abstract):
        return pdu.ContextAnswer(
            offered.context_id,
            pdu_accepting.ABSTRACT_SYNTAX_NOT_SUPPORTED,
            IMPLICIT_VR_LITTLE_ENDIAN,
        )
    if not usable:
        result = pdu_accepting.TRANSFER_SYNTAXES_NOT_SUPPORTED
        return pdu.ContextAnswer(offered.context_id, result, IMPLICIT_VR_LITTLE_ENDIAN)
    return pdu.ContextAnswer(offered.context_id, pdu_accepting.ACCEPTED, usable[0])


class AcceptedAssociation:
    """One association from its acceptance to its end."""

    def __init__(
        self,
        channel: InboundChannel,
        request: pdu_accepting.AssociationRequest,
        spool: Spool,
        commitment: CommitmentScp,
        *,
        idle_s: float,
    ) -> None:
        self._channel = channel
        self._request = request
        self._spool = spool
        self._commitment = commitment
        self._messages = InboundMessages(channel, request, idle_s=idle_s)
        self._contexts: dict[int, AgreedContext] = {}
        self._message_id = 0

    def accept(self) -> None:
        """Send the A-ASSOCIATE-AC."""
        answers = agree(self._request)
        offered = {context.context_id: context for context in self._request.contexts}
        for answer in answers:
            if answer.result == pdu_accepting.ACCEPTED:
                abstract = offered[answer.context_id].abstract_syntax_uid
                agreed = AgreedContext(abstract, answer.transfer_syntax_uid)
                self._contexts[answer.context_id] = agreed
        self._channel.begin_messages()
        self._channel.send(
            pdu_accepting.associate_accept(
                self._request,
                answers,
                maximum_length=MAXIMUM_LENGTH,
                implementation_class_uid=IMPLEMENTATION_CLASS_UID,
                implementation_version=IMPLEMENTATION_VERSION_NAME,
            )
        )

    def serve(self) -> None:
        """Answer requests until the peer releases or aborts.

        Raises what reading from the channel raises.
        """
        while (command := self._messages.next_command()) is not None:
            self._perform(command)

    def _perform(self, came: Command) -> None:
        context_id, command = came
        field = came.field
        has_data = came.has_data_set
        context = self._contexts.get(context_id)
        if context is None:
            raise MalformedDicomError("a message under a presentation context not agreed on")
        if field == commands.C_STORE_RQ and has_data:
            self._store(context_id, context, command)
        elif field == commands.N_ACTION_RQ and context.abstract_syntax_uid == COMMITMENT:
            data = self._messages.data_set(context_id, _LONGEST_ACTION) if has_data else b""
            self._commit(context_id, command, data)
        else:
            if has_data:
                self._messages.data_set(context_id, _LONGEST_ACTION)
            # An answer (to our N-EVENT-REPORT) and a C-CANCEL are not answered.
            if field == commands.C_ECHO_RQ:
                self._answer(context_id, command, _SUCCESS)
            elif not field & commands.RESPONSE and field != commands.C_CANCEL_RQ:
                self._answer(context_id, command, _UNRECOGNIZED_OPERATION)

    def _store(self, context_id: int, context: AgreedContext, command: Mapping[int, bytes]) -> None:
        sop_class = commands.uid(command, commands.AFFECTED_SOP_CLASS_UID)
        sop_instance = commands.uid(command, commands.AFFECTED_SOP_INSTANCE_UID)
        refusal = 0
        if sop_class != context.abstract_syntax_uid or not is_storage(sop_class):
            refusal = _SOP_CLASS_NOT_SUPPORTED
        elif not commands.is_usable_uid(sop_instance):
            refusal = _INVALID_SOP_INSTANCE
        if refusal:
            for _piece in self._messages.pieces(context_id):
                pass
            self._answer(context_id, command, refusal)
            return
        arriving = self._spool.begin(sop_class, sop_instance, context.transfer_syntax_uid)
        try:
            for piece in self._messages.pieces(context_id):
                arriving.write(piece.data)
            status = arriving.finish()
        finally:
            arriving.drop()
        self._answer(context_id, command, status)

    def _commit(self, context_id: int, command: Mapping[int, bytes], data: bytes) -> None:
        asked = self._commitment.judge(command, data)
        self._answer(context_id, command, asked.status)
        if asked.outcome is None:
            return
        if not self._commitment.report_elsewhere(self._request.calling_ae_title, asked.outcome):
            self._report(context_id, asked.outcome)

    def _report(self, context_id: int, outcome: Outcome) -> None:
        """Send the N-EVENT-REPORT on this association; its answer comes as a message of its own."""
        self._message_id = self._message_id % 0xFFFF + 1
        command, data = encode_report(self._message_id, outcome)
        self._send(context_id, command, is_command=True)
        self._send(context_id, data, is_command=False)

    def _answer(self, context_id: int, command: Mapping[int, bytes], status: int) -> None:
        self._send(context_id, commands.encode_response(command, status), is_command=True)

    def _send(self, context_id: int, data: bytes, *, is_command: bool) -> None:
        self._messages.send(self._messages.encoded(context_id, data, is_command=is_command))
