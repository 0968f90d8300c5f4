"""C-GET and C-MOVE as their provider: every instance a sub-operation (PS3.4 section C.4.2, C.4.3).

A data set goes out byte for byte as it is stored. Where the peer does not take its transfer
syntax it is decompressed without loss; where that cannot be, its sub-operation fails and is named.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Protocol

from dcmvault.dicom import attributes as tags
from dcmvault.dicom import command as commands
from dcmvault.dicom.channel import Peer
from dcmvault.dicom.find_scp import CANCELLED, IDENTIFIER_DOES_NOT_MATCH, SUCCESS
from dcmvault.dicom.inbound_messages import Command, InboundMessages
from dcmvault.dicom.move_deliveries import MoveDelivery
from dcmvault.dicom.query_identifiers import decode_identifier, encode_uids
from dcmvault.dicom.query_models import IdentifierError, QueryModel
from dcmvault.dicom.sub_operations import Counts, sendable
from dcmvault.errors import (
    AssociationLostError,
    DcmvaultError,
    InstanceRefusedError,
    MalformedDicomError,
    VaultDamagedError,
)
from dcmvault.model.query import ArchivedInstance, InstanceBytes, Selection, UnreadableInstance
from dcmvault.ports.archive import Archive

#: PS3.4 tables C.4-2 and C.4-3.
_PENDING = 0xFF00
_SOME_FAILED = 0xB000
_NO_MATCHES_CALCULATED = 0xA701
_NOTHING_PERFORMED = 0xA702
_DESTINATION_UNKNOWN = 0xA801
#: Seconds between two words on how it stands.
_TELL_S = 0.2
#: Associations that may be lost in a C-MOVE; each costs the instance that was on its way.
_LOSSES = 3


class Stores(Protocol):
    """Where instances of a retrieval go."""

    def store(self, whole: InstanceBytes) -> tuple[int, int]:
        """Store one; return status and bytes. Raises InstanceUnsendableError."""
        ...


@dataclass(slots=True)
class Retrieved:
    """How a retrieval ended, and what may be written down of it."""

    status: int = SUCCESS
    comment: str = ""
    level: str = ""
    selection: Selection = field(default_factory=lambda: Selection(()))
    counts: Counts = field(default_factory=lambda: Counts(0))
    #: Of what was selected.
    study_instance_uids: tuple[str, ...] = ()
    #: Whether that is all: damage may hide instances that nobody can name.
    is_whole: bool = True


@dataclass(slots=True)
class RetrieveRequest:
    """One C-GET or C-MOVE."""

    messages: InboundMessages
    command: Command
    transfer_syntax_uid: str
    model: QueryModel
    #: Says whether the peer cancelled this request.
    is_cancelled: Callable[[], bool]
    #: How it stands, or ended; true also when the peer is gone in the middle.
    retrieved: Retrieved = field(default_factory=Retrieved)
    _told_at: float = 0.0

    def get(self, data_set: bytes, archive: Archive, place: GetPlace) -> None:
        """Answer a C-GET: instances go to `place`, on the same association.

        OSError where the peer is gone.
        """
        retrieved = self.retrieved
        instances = self._select(data_set, archive)
        if retrieved.status == SUCCESS:
            self._carry_out(archive, instances, place, retrieved)
        self._end(retrieved)

    def move(
        self,
        data_set: bytes,
        archive: Archive,
        destinations: Mapping[str, Peer],
        calling_ae_title: str,
    ) -> None:
        """Answer a C-MOVE: instances go to the peer of its Move Destination.

        OSError where who asked is gone.
        """
        retrieved = self.retrieved
        title = commands.uid(self.command.elements, commands.MOVE_DESTINATION)
        peer = destinations.get(title)
        if peer is None:
            retrieved.status = _DESTINATION_UNKNOWN
            retrieved.comment = "Move Destination is not configured"
            self._end(retrieved)
            return
        instances = self._select(data_set, archive)
        if retrieved.status == SUCCESS:
            message_id = commands.number(self.command.elements, commands.MESSAGE_ID)
            originator = (calling_ae_title, message_id)
            # Who asks and receives at once may listen for one of both at a time, as DCMTK's
            # movescu does for a second: a word from us makes it look at its port, too.
            with MoveDelivery(peer, instances, originator, self._tell_pending) as delivery:
                self._carry_out(archive, instances, delivery, retrieved)
        self._end(retrieved)

    def _select(self, data_set: bytes, archive: Archive) -> Sequence[ArchivedInstance]:
        retrieved = self.retrieved
        try:
            identifier = decode_identifier(data_set, self.transfer_syntax_uid)
            retrieved.level = identifier.level
            level = self.model.level(identifier.level)
            retrieved.selection = self.model.selection(level, identifier.keys)
            instances = archive.instances(retrieved.selection)
        except MalformedDicomError as error:
            retrieved.status, retrieved.comment = IDENTIFIER_DOES_NOT_MATCH, error.message
        except IdentifierError as error:
            retrieved.status, retrieved.comment = IDENTIFIER_DOES_NOT_MATCH, str(error)
        except DcmvaultError as error:
            retrieved.status, retrieved.comment = _NO_MATCHES_CALCULATED, error.code
        else:
            retrieved.counts = Counts(len(instances))
            studies = dict.fromkeys(one.study_instance_uid for one in instances)
            retrieved.study_instance_uids = tuple(studies)
            retrieved.is_whole = archive.is_whole(retrieved.selection, instances)
            return instances
        return ()

    def _carry_out(
        self,
        archive: Archive,
        instances: Sequence[ArchivedInstance],
        place: Stores,
        retrieved: Retrieved,
    ) -> None:
        counts = retrieved.counts
        losses = 0
        try:
            with closing(archive.read(instances)) as reading:
                for read in reading:
                    losses += not self._store(read, place, counts, last=losses + 1 >= _LOSSES)
                    if self.is_cancelled():
                        retrieved.status = CANCELLED
                        return
                    self._tell(counts)
        except DcmvaultError as error:
            # Neither a peer nor a vault that is gone gives anything more.
            retrieved.comment = error.code
        done = counts.completed + counts.warned + len(counts.failed)
        for one in instances[done:]:
            counts.fail(one.sop_instance_uid)
        if counts.failed:
            retrieved.status = _SOME_FAILED if counts.stored_any else _NOTHING_PERFORMED
        elif not retrieved.is_whole:
            retrieved.status, retrieved.comment = _SOME_FAILED, VaultDamagedError.code

    def _store(
        self,
        read: InstanceBytes | UnreadableInstance,
        place: Stores,
        counts: Counts,
        *,
        last: bool,
    ) -> bool:
        """Store one instance and count it; False where that cost the association.

        AssociationLostError is raised when that was the `last` one to try.
        """
        uid = read.instance.sop_instance_uid
        if isinstance(read, UnreadableInstance):
            counts.fail(uid)
            return True
        try:
            counts.stored(uid, *place.store(read))
        except InstanceRefusedError:
            counts.fail(uid)
        except AssociationLostError:
            if last:
                raise
            counts.fail(uid)
            return False
        return True

    def _tell(self, counts: Counts) -> None:
        """Say how it stands, now and then."""
        if counts.remaining and time.monotonic() - self._told_at >= _TELL_S:
            self._tell_pending()

    def _tell_pending(self) -> None:
        self._told_at = time.monotonic()
        counts = _numbers(self.retrieved.counts, is_pending=True)
        command = commands.encode_response(self.command.elements, _PENDING, counts=counts)
        self._send(command, is_command=True)

    def _end(self, retrieved: Retrieved) -> None:
        counts = retrieved.counts
        data = b""
        if counts.failed:
            data = encode_uids(
                tags.FAILED_SOP_INSTANCE_UIDS, counts.failed, self.transfer_syntax_uid
            )
        is_pending = retrieved.status == CANCELLED
        command = commands.encode_response(
            self.command.elements,
            retrieved.status,
            has_data_set=bool(data),
            counts=_numbers(counts, is_pending=is_pending),
            comment=retrieved.comment,
        )
        self._send(command, is_command=True)
        if data:
            self._send(data, is_command=False)

    def _send(self, data: bytes, *, is_command: bool) -> None:
        encoded = self.messages.encoded(self.command.context_id, data, is_command=is_command)
        self.messages.send(encoded)


def _numbers(counts: Counts, *, is_pending: bool) -> Mapping[int, int]:
    numbers = {
        commands.COMPLETED: counts.completed,
        commands.FAILED: len(counts.failed),
        commands.WARNED: counts.warned,
    }
    # Only while something remains (PS3.7 table 9.1-4).
    return {commands.REMAINING: counts.remaining} | numbers if is_pending else numbers


@dataclass(slots=True)
class GetPlace:
    """Whoever asked by C-GET: a C-STORE for each instance, on the association of the request.

    `contexts` are those under which the peer is the SCP, by (SOP class, transfer syntax).
    `answer` waits for the answer to a C-STORE and returns its status.
    """

    messages: InboundMessages
    contexts: Mapping[tuple[str, str], int]
    answer: Callable[[int, int], int]
    _message_id: int = 0

    def store(self, whole: InstanceBytes) -> tuple[int, int]:
        """Store one instance; return the peer's status and the bytes that went to it."""

        def takes(sop_class_uid: str, transfer_syntax_uid: str) -> bool:
            return (sop_class_uid, transfer_syntax_uid) in self.contexts

        with sendable(whole, takes, self._accepted) as data_set:
            self._message_id = self._message_id % 0xFFFF + 1
            context_id = self.contexts[data_set.sop_class_uid, data_set.transfer_syntax_uid]
            command = commands.encode_request(
                commands.C_STORE_RQ,
                self._message_id,
                data_set.sop_class_uid,
                sop_instance_uid=data_set.sop_instance_uid,
                has_data_set=True,
            )
            self.messages.stream(context_id, command, data_set.chunks, data_set.length)
            return self.answer(context_id, self._message_id), data_set.length

    def _accepted(self, sop_class_uid: str) -> Sequence[str]:
        return [syntax for uid, syntax in self.contexts if uid == sop_class_uid]
