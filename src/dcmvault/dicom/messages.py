"""Requests and their answers over one channel: DIMSE messages as P-DATA (PS3.7, PS3.8 Annex E)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from dcmvault.dicom import command as commands
from dcmvault.dicom import pdu
from dcmvault.dicom.channel import Channel, Peer
from dcmvault.dicom.inbox import LONGEST_MESSAGE, Inbox
from dcmvault.dicom.taking_in import StoreSink, take_in
from dcmvault.errors import MalformedDicomError
from dcmvault.ports.pacing import Pacer

#: The longest PDU we send, also to a peer without a limit.
_LONGEST_SENT_PDU = 1024 * 1024
#: Peers exist that announce nonsense; below this no command set fits.
_SHORTEST_SENT_PDU = 1024
#: Statuses after which another answer follows (PS3.7 section 9.1.2.1.5).
_PENDING = (0xFF00, 0xFF01)
_ANSWERED_OFTEN = (commands.C_FIND_RQ, commands.C_GET_RQ, commands.C_MOVE_RQ)
#: A peer that says of a C-GET that it goes on, and sends nothing, may do so for this many times
#: `dimse_timeout_s`.
_LONGEST_QUIET = 10
#: Seconds between looks whether a report came.
_LOOK_S = 0.01


@dataclass(frozen=True, slots=True)
class Answer:
    """One response: its status, its command set and the data set that came with it."""

    status: int
    command: Mapping[int, bytes]
    data_set: bytes
    #: Of the request that it answers.
    message_id: int
    #: No other answer to that request follows.
    is_last: bool


@dataclass(frozen=True, slots=True)
class Request:
    """One request: what is asked under which context, and the data set that goes with it.

    `chunks` together have `length` bytes, and 0 means no data set. With a `pacer` all bytes wait
    for it, headers included.
    """

    context_id: int
    field: int
    sop_class_uid: str
    sop_instance_uid: str = ""
    chunks: Iterable[bytes | memoryview] = ()
    length: int = 0
    pacer: Pacer | None = None
    #: C-MOVE: the AE title of whom the peer is to send to.
    move_destination: str = ""
    #: C-STORE as part of a C-MOVE: who asked for that, and its message id.
    move_originator: tuple[str, int] | None = None


#: Takes an N-EVENT-REPORT, its command set and data set; returns the status that answers it.
EventSink = Callable[[Mapping[int, bytes], bytes], int]


@dataclass(frozen=True, slots=True)
class Action:
    """An N-ACTION: what is to be done to which instance, and the data set that says how."""

    context_id: int
    sop_class_uid: str
    sop_instance_uid: str
    action_type_id: int
    data_set: bytes


class Messages:
    """Sends requests, one or several, and assembles their answers in whatever order they come.

    Errors of sending and receiving leave it unusable.
    """

    def __init__(self, peer: Peer, channel: Channel, maximum_length: int) -> None:
        self._peer = peer
        self._channel = channel
        self._message_id = 0
        #: The presentation contexts of requests without their (last) answer, by message id.
        self._outstanding: dict[int, int] = {}
        self._inbox = Inbox(peer, channel)
        limit = maximum_length or _LONGEST_SENT_PDU
        length = max(_SHORTEST_SENT_PDU, min(limit, _LONGEST_SENT_PDU))
        #: Data bytes per PDU, even, as PS3.8 Annex E.1 wants of every fragment but the last.
        self._fragment = (length - pdu.PDV_HEADER.size) & ~1

    @property
    def outstanding(self) -> int:
        """How many requests are without their (last) answer."""
        return len(self._outstanding)

    def send(self, request: Request) -> int:
        """Send a request, its data set streamed as the chunks come; return its message id.

        When that fails the request is not outstanding, and nothing more can be sent.
        """
        self._message_id = self._message_id % 0xFFFF + 1
        encoded = commands.encode_request(
            request.field,
            self._message_id,
            request.sop_class_uid,
            sop_instance_uid=request.sop_instance_uid,
            move_destination=request.move_destination,
            move_originator=request.move_originator,
            has_data_set=request.length > 0,
        )
        context_id = request.context_id
        buffers = list(self._fragments(context_id, encoded, is_command=True, is_end=True))
        remaining = request.length
        pacer = request.pacer
        for chunk in request.chunks if pacer is None else _in_pieces(request.chunks, pacer):
            remaining -= len(chunk)
            buffers += self._fragments(context_id, chunk, is_command=False, is_end=remaining == 0)
            # The command goes with the first data, in one call.
            self._send(buffers, pacer)
            buffers = []
        if buffers:
            self._send(buffers, pacer)
        self._outstanding[self._message_id] = context_id
        return self._message_id

    def _send(self, buffers: Sequence[bytes | memoryview], pacer: Pacer | None) -> None:
        if pacer is not None:
            # Before the send, whose limits are about the peer and not about us.
            pacer.take(sum(map(len, buffers)))
        self._channel.send(buffers)

    def answer(self, field: int, goes_on: Callable[[], bool] | None = None) -> Answer:
        """Return the next answer to one of the requests outstanding, all of this command field.

        It must be complete within `dimse_timeout_s` from now; from when it begins, where
        `goes_on` says for how long to wait for that.
        """
        if goes_on is not None:
            self._inbox.await_input(goes_on)
        command: Mapping[int, bytes] | None = None
        context_id: int | None = None
        parts: dict[bool, bytearray] = {True: bytearray(), False: bytearray()}
        deadline = time.monotonic() + self._peer.dimse_timeout_s
        while True:
            value = self._inbox.next_value(deadline)
            if context_id is None:
                context_id = value.context_id
            if value.context_id != context_id:
                raise MalformedDicomError("an answer under another presentation context")
            parts[value.is_command] += value.fragment
            if len(parts[value.is_command]) > LONGEST_MESSAGE:
                raise MalformedDicomError("a message without an end")
            if not value.is_last:
                continue
            if value.is_command:
                command = commands.decode_command(bytes(parts[True]))
                self._check(command, field, context_id)
                if commands.number(command, commands.DATA_SET_TYPE) != commands.NO_DATA_SET:
                    continue
            if command is None:
                raise MalformedDicomError("a data set without a command")
            return self._answer(command, field, bytes(parts[False]))

    def _answer(self, command: Mapping[int, bytes], field: int, data_set: bytes) -> Answer:
        status = commands.number(command, commands.STATUS)
        message_id = commands.number(command, commands.MESSAGE_ID_BEING_RESPONDED_TO)
        is_last = field not in _ANSWERED_OFTEN or status not in _PENDING
        if is_last:
            del self._outstanding[message_id]
        return Answer(status, command, data_set, message_id, is_last)

    def answer_to_get(self, sink: StoreSink, longest_s: float) -> Answer:
        """Answer what the peer sends on a C-GET, and return its last word on it.

        PS3.7 section 9.3.3. Each part must come within `dimse_timeout_s`, all within `longest_s`.
        """
        ends_at = time.monotonic() + longest_s
        quiet_until = self._end_of_quiet()
        while True:
            context_id, encoded = self._inbox.whole(is_command=True, ends_at=ends_at)
            command = commands.decode_command(encoded)
            has_data = commands.number(command, commands.DATA_SET_TYPE) != commands.NO_DATA_SET
            if commands.number(command, commands.COMMAND_FIELD) == commands.C_STORE_RQ:
                if not has_data:
                    raise MalformedDicomError("a request to store nothing")
                take_in(self._inbox, context_id, command, sink, ends_at)
                quiet_until = self._end_of_quiet()
                continue
            if time.monotonic() > quiet_until:
                raise MalformedDicomError("answers without end, and no instances")
            self._check(command, commands.C_GET_RQ, context_id)
            data = self._inbox.whole(is_command=False, ends_at=ends_at)[1] if has_data else b""
            answer = self._answer(command, commands.C_GET_RQ, data)
            if answer.is_last:
                return answer

    def act(self, action: Action, sink: EventSink) -> Answer:
        """Send an N-ACTION and return its answer (PS3.7 section 10.1.4).

        An N-EVENT-REPORT that comes before it goes to the sink.
        """
        self._message_id = self._message_id % 0xFFFF + 1
        command = commands.encode_action(
            self._message_id, action.sop_class_uid, action.sop_instance_uid, action.action_type_id
        )
        context_id, fragment = action.context_id, self._fragment
        self._channel.send(
            [
                pdu.data_pdus(context_id, command, fragment, is_command=True),
                pdu.data_pdus(context_id, action.data_set, fragment, is_command=False),
            ]
        )
        self._outstanding[self._message_id] = context_id
        ends_at = time.monotonic() + self._peer.dimse_timeout_s
        while (answer := self._heard(sink, ends_at)) is None:
            pass
        return answer

    def take_reports(self, sink: EventSink, goes_on: Callable[[], bool], wait_s: float) -> None:
        """Take N-EVENT-REPORTs (PS3.7 section 10.1.1) for as long as it goes on.

        With TLS that is asked after each report only, and each may take `wait_s`. Raises
        AssociationLostError where the peer ends the association before.
        """
        while goes_on():
            if self._peer.tls is not None:
                self._inbox.await_value(time.monotonic() + wait_s)
            elif not self._inbox.has_input:
                time.sleep(_LOOK_S)
                continue
            if self._heard(sink, time.monotonic() + self._peer.dimse_timeout_s) is not None:
                raise MalformedDicomError("an answer to nothing")

    def _heard(self, sink: EventSink, ends_at: float) -> Answer | None:
        """Return the answer to an N-ACTION, or None where a report came instead."""
        context_id, encoded = self._inbox.whole(is_command=True, ends_at=ends_at)
        command = commands.decode_command(encoded)
        data = b""
        if commands.number(command, commands.DATA_SET_TYPE) != commands.NO_DATA_SET:
            of_data, data = self._inbox.whole(is_command=False, ends_at=ends_at)
            if of_data != context_id:
                raise MalformedDicomError("a data set under another presentation context")
        if commands.number(command, commands.COMMAND_FIELD) == commands.N_EVENT_REPORT_RQ:
            status = sink(command, data)
            self._inbox.reply(context_id, commands.encode_response(command, status))
            return None
        self._check(command, commands.N_ACTION_RQ, context_id)
        return self._answer(command, commands.N_ACTION_RQ, data)

    def _end_of_quiet(self) -> float:
        return time.monotonic() + _LONGEST_QUIET * self._peer.dimse_timeout_s

    def _check(self, command: Mapping[int, bytes], field: int, context_id: int) -> None:
        if commands.number(command, commands.COMMAND_FIELD) != field | commands.RESPONSE:
            raise MalformedDicomError("an answer to something else")
        answered = commands.number(command, commands.MESSAGE_ID_BEING_RESPONDED_TO)
        asked_under = self._outstanding.get(answered)
        if asked_under is None:
            raise MalformedDicomError("an answer to another message")
        if asked_under != context_id:
            raise MalformedDicomError("an answer under another presentation context")

    def _fragments(
        self, context_id: int, data: bytes | memoryview, *, is_command: bool, is_end: bool
    ) -> Iterator[bytes | memoryview]:
        view = memoryview(data)
        for start in range(0, len(view), self._fragment):
            part = view[start : start + self._fragment]
            control = pdu.IS_COMMAND if is_command else 0
            if is_end and start + len(part) == len(view):
                control |= pdu.IS_LAST
            yield pdu.HEADER.pack(
                pdu.P_DATA_TF, len(part) + pdu.PDV_HEADER.size
            ) + pdu.PDV_HEADER.pack(len(part) + 2, context_id, control)
            yield part


def _in_pieces(chunks: Iterable[bytes | memoryview], pacer: Pacer) -> Iterator[bytes | memoryview]:
    for chunk in chunks:
        piece = pacer.piece
        for start in range(0, len(chunk), piece):
            yield chunk[start : start + piece]
