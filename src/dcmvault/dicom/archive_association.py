"""An association with our archive: what is agreed on, and its requests until it ends.

One thread each. C-ECHO, C-FIND, C-GET and C-MOVE; nothing is ever stored (PS3.4 Annexes A and C).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from dcmvault.dicom import command as commands
from dcmvault.dicom import pdu, pdu_accepting
from dcmvault.dicom.accepted_association import AgreedContext, is_storage
from dcmvault.dicom.association import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    IMPLICIT_VR_LITTLE_ENDIAN,
    VERIFICATION,
)
from dcmvault.dicom.association_scp import Connected
from dcmvault.dicom.channel import Peer
from dcmvault.dicom.conversation import Conversation
from dcmvault.dicom.find_scp import FindRequest, Found
from dcmvault.dicom.inbound_channel import MAXIMUM_LENGTH
from dcmvault.dicom.inbound_messages import Command, InboundMessages
from dcmvault.dicom.query_identifiers import IDENTIFIER_SYNTAXES
from dcmvault.dicom.query_models import (
    FIND_CLASSES,
    GET_CLASSES,
    MOVE_CLASSES,
    QUERY_RETRIEVE_CLASSES,
    QueryModel,
)
from dcmvault.dicom.retrieve_scp import GetPlace, Retrieved, RetrieveRequest
from dcmvault.dicom.transfer_syntaxes import NATIVE_TARGETS
from dcmvault.errors import MalformedDicomError
from dcmvault.model.access import Access
from dcmvault.ports.archive import Archive
from dcmvault.ports.audit import AccessJournal

_SUCCESS = 0x0000
#: PS3.7 Annex C.
_SOP_CLASS_NOT_SUPPORTED = 0x0122
_UNRECOGNIZED_OPERATION = 0x0211
#: Service class application information, whose first byte asks for relational queries (C.5).
_RELATIONAL = b"\x01"
#: Outcome of an access in the middle of which the peer went, or had to.
_BROKEN_OFF = "broken off"


@dataclass(frozen=True, slots=True)
class ArchiveService:
    """What an archive's associations share."""

    ae_title: str
    archive: Archive
    journal: AccessJournal
    #: Where C-MOVE may send to, by AE title.
    destinations: Mapping[str, Peer]
    now: Callable[[], datetime]
    idle_s: float


class ArchiveAssociation:
    """One association from its acceptance to its end."""

    def __init__(self, service: ArchiveService, connected: Connected) -> None:
        self._service = service
        self._connected = connected
        self._request = connected.request
        self._messages = InboundMessages(
            connected.channel, connected.request, idle_s=service.idle_s
        )
        self._conversation = Conversation(self._messages)
        self._contexts: dict[int, AgreedContext] = {}

    def accept(self) -> None:
        """Send the A-ASSOCIATE-AC."""
        request = self._request
        answers = [self._answer_to(offered) for offered in request.contexts]
        offered = {context.context_id: context for context in request.contexts}
        for answer in answers:
            if answer.result == pdu_accepting.ACCEPTED:
                abstract = offered[answer.context_id].abstract_syntax_uid
                agreed = AgreedContext(abstract, answer.transfer_syntax_uid)
                self._contexts[answer.context_id] = agreed
        accepted = {one.abstract_syntax_uid for one in self._contexts.values()}
        channel = self._connected.channel
        channel.begin_messages()
        channel.send(
            pdu_accepting.associate_accept(
                request,
                answers,
                maximum_length=MAXIMUM_LENGTH,
                implementation_class_uid=IMPLEMENTATION_CLASS_UID,
                implementation_version=IMPLEMENTATION_VERSION_NAME,
                receives=sorted(accepted & request.receives),
                extended={
                    uid: _RELATIONAL + bytes(len(asked) - 1)
                    for uid, asked in request.extended.items()
                    if uid in accepted & QUERY_RETRIEVE_CLASSES and asked[:1] == _RELATIONAL
                },
            )
        )

    def serve(self) -> None:
        """Answer requests until the peer releases or aborts.

        Raises what reading from the channel raises.
        """
        while (command := self._messages.next_command()) is not None:
            self._perform(command)

    # What is agreed on

    def _answer_to(self, offered: pdu_accepting.OfferedContext) -> pdu.ContextAnswer:
        abstract = offered.abstract_syntax_uid
        usable = [uid for uid in offered.transfer_syntax_uids if commands.is_usable_uid(uid)]
        if abstract == VERIFICATION or abstract in QUERY_RETRIEVE_CLASSES:
            usable = [uid for uid in usable if uid in IDENTIFIER_SYNTAXES]
        elif not (is_storage(abstract) and abstract in self._request.receives):
            return pdu.ContextAnswer(
                offered.context_id,
                pdu_accepting.ABSTRACT_SYNTAX_NOT_SUPPORTED,
                IMPLICIT_VR_LITTLE_ENDIAN,
            )
        else:
            usable = list(self._preferred(abstract, usable))
        if not usable:
            result = pdu_accepting.TRANSFER_SYNTAXES_NOT_SUPPORTED
            return pdu.ContextAnswer(offered.context_id, result, IMPLICIT_VR_LITTLE_ENDIAN)
        return pdu.ContextAnswer(offered.context_id, pdu_accepting.ACCEPTED, usable[0])

    def _preferred(self, sop_class_uid: str, usable: Sequence[str]) -> Sequence[str]:
        """Put first what instances can be sent in as they stand, and all of them in any case."""
        held = self._service.archive.syntaxes(sop_class_uid)
        native = [uid for uid in NATIVE_TARGETS if uid in usable]
        if len(held) == 1 and held[0] in usable:
            return held
        return [uid for uid in held if uid in native] or native or usable

    def _model(self, context: AgreedContext) -> QueryModel:
        asked = self._request.extended.get(context.abstract_syntax_uid, b"")
        return QueryModel.of(context.abstract_syntax_uid, is_relational=asked[:1] == _RELATIONAL)

    # Requests

    def _perform(self, command: Command) -> None:
        context = self._contexts.get(command.context_id)
        if context is None:
            raise MalformedDicomError("a message under a presentation context not agreed on")
        field = command.field
        abstract = context.abstract_syntax_uid
        began = time.monotonic()
        if field == commands.C_ECHO_RQ and abstract == VERIFICATION:
            self._conversation.drop(command)
            self._conversation.answer(command, _SUCCESS)
            self._note(self._access("C-ECHO", began, _SUCCESS))
        elif field == commands.C_FIND_RQ and abstract in FIND_CLASSES and command.has_data_set:
            self._find(command, context, began)
        elif field == commands.C_GET_RQ and abstract in GET_CLASSES and command.has_data_set:
            self._get(command, context, began)
        elif field == commands.C_MOVE_RQ and abstract in MOVE_CLASSES and command.has_data_set:
            self._move(command, context, began)
        else:
            self._conversation.drop(command)
            # A C-CANCEL that comes too late is not answered, nor is an answer.
            if not field & commands.RESPONSE and field != commands.C_CANCEL_RQ:
                is_store = field == commands.C_STORE_RQ
                status = _SOP_CLASS_NOT_SUPPORTED if is_store else _UNRECOGNIZED_OPERATION
                self._conversation.answer(command, status)
                name = "C-STORE" if is_store else f"{field:04X}"
                self._note(self._access(name, began, status))

    def _find(self, command: Command, context: AgreedContext, began: float) -> None:
        data_set = self._conversation.begin(command)
        request = FindRequest(
            self._messages,
            command,
            context.transfer_syntax_uid,
            self._model(context),
            self._service.ae_title,
            self._conversation.is_cancelled,
        )
        with _told(lambda ended: self._note_found(began, request.found, ended)):
            request.answer(data_set, self._service.archive)

    def _get(self, command: Command, context: AgreedContext, began: float) -> None:
        data_set = self._conversation.begin(command)
        contexts = {
            (one.abstract_syntax_uid, one.transfer_syntax_uid): context_id
            for context_id, one in self._contexts.items()
            if one.abstract_syntax_uid in self._request.receives
        }
        place = GetPlace(self._messages, contexts, self._conversation.stored)
        request = self._retrieval(command, context)
        with _told(
            lambda ended: self._note_retrieved("C-GET", began, request.retrieved, "", ended)
        ):
            request.get(data_set, self._service.archive, place)

    def _move(self, command: Command, context: AgreedContext, began: float) -> None:
        data_set = self._conversation.begin(command)
        request = self._retrieval(command, context)
        title = commands.uid(command.elements, commands.MOVE_DESTINATION)
        with _told(
            lambda ended: self._note_retrieved("C-MOVE", began, request.retrieved, title, ended)
        ):
            request.move(
                data_set,
                self._service.archive,
                self._service.destinations,
                self._request.calling_ae_title,
            )

    def _retrieval(self, command: Command, context: AgreedContext) -> RetrieveRequest:
        return RetrieveRequest(
            self._messages,
            command,
            context.transfer_syntax_uid,
            self._model(context),
            self._conversation.is_cancelled,
        )

    # What is written down

    def _note_found(self, began: float, found: Found, ended: str) -> None:
        studies, series, instances = found.uids
        self._note(
            self._access("C-FIND", began, found.status, ended),
            level=found.level,
            keys=found.keys,
            study_instance_uids=studies,
            series_instance_uids=series,
            sop_instance_uids=instances,
            answers=found.answers,
        )

    def _note_retrieved(
        self, service: str, began: float, retrieved: Retrieved, destination: str, ended: str
    ) -> None:
        counts = retrieved.counts
        self._note(
            self._access(service, began, retrieved.status, ended),
            level=retrieved.level,
            study_instance_uids=retrieved.study_instance_uids,
            series_instance_uids=usable(retrieved.selection.series_instance_uids),
            sop_instance_uids=usable(retrieved.selection.sop_instance_uids),
            destination=destination,
            sent=counts.completed + counts.warned,
            failed=len(counts.failed),
            bytes=counts.bytes,
        )

    def _note(self, access: Access, **told: Any) -> None:
        self._service.journal.record(replace(access, **told))

    def _access(self, service: str, began: float, status: int, ended: str = "") -> Access:
        return Access(
            self._service.now(),
            service,
            self._request.calling_ae_title,
            self._connected.address,
            self._connected.certificate,
            outcome=ended or f"{status:04X}",
            duration_s=time.monotonic() - began,
        )


def usable(uids: Iterable[str]) -> tuple[str, ...]:
    """Return what may be written down as UIDs: nothing else that a peer put in their place."""
    return tuple(filter(commands.is_usable_uid, uids))


@contextmanager
def _told(note: Callable[[str], None]) -> Iterator[None]:
    """Write an access down whatever becomes of it: who hangs up has seen what came before."""
    try:
        yield
    except BaseException:
        note(_BROKEN_OFF)
        raise
    note("")
