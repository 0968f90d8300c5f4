"""DIMSE messages on an association that a peer requested: what it sends, and what it is sent.

One thread each. A data set comes in the pieces in which the network brought it, and goes out in
PDUs as long as the peer takes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from dcmvault.dicom import command as commands
from dcmvault.dicom import pdu, pdu_accepting
from dcmvault.dicom.inbound_channel import Control, InboundChannel, Piece
from dcmvault.errors import MalformedDicomError

_LONGEST_COMMAND = 16 * 1024
#: A message may take this many seconds, and one more for each `_SLOWEST` bytes.
_MESSAGE_S = 60.0
_SLOWEST = 16 * 1024
#: What we send of answers fits in one PDU of this length, or in several.
_LONGEST_SENT = 64 * 1024
#: Data sets go out in longer ones, if the peer takes them.
_LONGEST_STREAMED = 1024 * 1024
#: Peers exist that announce nonsense; below this no command set fits.
_SHORTEST_SENT = 1024


class Command(NamedTuple):
    """A command set that came, and under which presentation context."""

    context_id: int
    elements: Mapping[int, bytes]

    @property
    def field(self) -> int:
        """What it asks for or answers (PS3.7 Annex E.1)."""
        return commands.number(self.elements, commands.COMMAND_FIELD)

    @property
    def has_data_set(self) -> bool:
        """Whether a data set follows."""
        return commands.number(self.elements, commands.DATA_SET_TYPE) != commands.NO_DATA_SET


class InboundMessages:
    """Messages over one channel, in both directions. Raises what reading from a channel raises."""

    def __init__(
        self, channel: InboundChannel, request: pdu_accepting.AssociationRequest, *, idle_s: float
    ) -> None:
        """Take a channel; `idle_s` is how long a peer may say nothing between messages."""
        self._channel = channel
        self._idle_s = idle_s
        limit = request.maximum_length or _LONGEST_STREAMED
        self._fragment = _fragment(limit, _LONGEST_SENT)
        self._long_fragment = _fragment(limit, _LONGEST_STREAMED)

    def next_command(self) -> Command | None:
        """Return the next command set; None when the peer released or aborted.

        A release is answered.
        """
        first = self._channel.next_piece(time.monotonic() + self._idle_s)
        if isinstance(first, Control):
            if first.kind == pdu.A_RELEASE_RQ:
                self._channel.send(pdu.release_response())
                return None
            if first.kind in (pdu.A_ABORT, pdu.A_RELEASE_RP):
                return None
            raise MalformedDicomError(f"PDU type {first.kind:02X} inside an association")
        context_id = first.context_id
        return Command(context_id, commands.decode_command(self._whole(first)))

    def has_input(self) -> bool:
        """Say whether the peer sent something that was not read yet."""
        return self._channel.has_input()

    def data_set(self, context_id: int, longest: int) -> bytes:
        """Read the whole data set that follows a command."""
        whole = bytearray()
        for piece in self.pieces(context_id):
            whole += piece.data
            if len(whole) > longest:
                raise MalformedDicomError("a data set without an end")
        return bytes(whole)

    def pieces(self, context_id: int, *, is_command: bool = False) -> Iterator[Piece]:
        """Yield the pieces of a data set (or what is left of a command), the last included.

        A peer that sends slower than anybody's modem is given up.
        """
        deadline = time.monotonic() + _MESSAGE_S
        while True:
            piece = self._channel.next_piece(deadline)
            if isinstance(piece, Control):
                if piece.kind == pdu.A_ABORT:
                    raise ConnectionAbortedError
                raise MalformedDicomError(f"PDU type {piece.kind:02X} inside a message")
            if piece.context_id != context_id or piece.is_command is not is_command:
                raise MalformedDicomError("a message inside another")
            deadline += len(piece.data) / _SLOWEST
            is_end = piece.is_end
            yield piece
            if is_end:
                return

    def encoded(self, context_id: int, data: bytes, *, is_command: bool) -> bytes:
        """Return the PDUs of a whole command set or data set."""
        return pdu.data_pdus(context_id, data, self._fragment, is_command=is_command)

    def send(self, pdus: bytes) -> None:
        """Send what `encoded` returned, one or several messages."""
        self._channel.send(pdus)

    def stream(
        self, context_id: int, command: bytes, chunks: Iterable[bytes | memoryview], length: int
    ) -> None:
        """Send a command with a data set of `length` bytes, as its chunks come."""
        buffers: list[bytes | memoryview] = [self.encoded(context_id, command, is_command=True)]
        for chunk in chunks:
            view = memoryview(chunk)
            for start in range(0, len(view), self._long_fragment):
                part = view[start : start + self._long_fragment]
                length -= len(part)
                control = 0 if length else pdu.IS_LAST
                buffers.append(
                    pdu.HEADER.pack(pdu.P_DATA_TF, len(part) + pdu.PDV_HEADER.size)
                    + pdu.PDV_HEADER.pack(len(part) + 2, context_id, control)
                )
                buffers.append(part)
            self._channel.send_buffers(buffers)
            buffers = []

    def _whole(self, piece: Piece) -> bytes:
        """Return the command set that begins with a piece."""
        context_id = piece.context_id
        if not piece.is_command:
            raise MalformedDicomError("a data set without a command")
        if piece.is_end:
            return bytes(piece.data)
        whole = bytearray(piece.data)
        for further in self.pieces(context_id, is_command=True):
            whole += further.data
            if len(whole) > _LONGEST_COMMAND:
                raise MalformedDicomError("a command without an end")
        return bytes(whole)


def _fragment(limit: int, longest: int) -> int:
    """Return how many bytes of a message one PDU carries: an even number (PS3.8 Annex E.1)."""
    length = max(_SHORTEST_SENT, min(limit, longest))
    return (length - pdu.PDV_HEADER.size) & ~1
