"""What a peer that connected to us sends: PDUs with limits, and messages in pieces as they come.

A data set is handed on in the pieces in which the network brought it, so that what a peer
announces costs nothing: memory is one buffer for each association.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass

from dcmvault.dicom import pdu
from dcmvault.dicom.quick_ack import QUICK_ACK, acknowledge_at_once
from dcmvault.dicom.tls import send_joined
from dcmvault.errors import MalformedDicomError

#: What we announce (PS3.8 D.1). The longest PDU that DCMTK sends is as long.
MAXIMUM_LENGTH = 128 * 1024
#: Peers exist that count the length otherwise; what is longer than this is an attack or a defect.
_LONGEST_PDU = 1024 * 1024
#: Nothing that is no data is longer, once there is an association.
_LONGEST_CONTROL = 1024
_BUFFER = 256 * 1024
#: Buffers in one system call; IOV_MAX is 1024 on Linux and macOS.
_MAX_BUFFERS = 512
#: Read at once, of a PDU of which only the announced length is known.
_STEP = 16 * 1024
_SHORTEST_WAIT_S = 0.001


@dataclass(slots=True)
class Piece:
    """Consecutive bytes of one message; `data` is valid until the next piece is asked for."""

    context_id: int
    is_command: bool
    data: memoryview
    #: The command set or the data set ends with this piece.
    is_end: bool


@dataclass(frozen=True, slots=True)
class Control:
    """A PDU that is no data: its type, and its body."""

    kind: int
    body: bytes


class InboundChannel:
    """One connection that a peer opened, read by one thread.

    Reading raises MalformedDicomError for what is no DICOM, TimeoutError after a deadline
    (monotonic seconds), and another OSError when the connection ended.
    """

    def __init__(self, connection: socket.socket, *, wait_s: float) -> None:
        """Take a connection; no single call waits longer than `wait_s` seconds."""
        self._socket = connection
        self._socket.settimeout(wait_s)
        self._wait_s = wait_s
        self._acknowledges = QUICK_ACK is not None and not isinstance(connection, ssl.SSLSocket)
        self._buffer = memoryview(b"")
        self._start = self._end = 0
        #: Bytes that are left of the P-DATA-TF PDU, and of the presentation data value in it.
        self._pdu_left = 0
        self._value_left = 0
        self._context_id = 0
        self._control = 0

    def read_pdu(self, longest: int, deadline: float) -> tuple[int, bytes]:
        """Read a whole PDU, before there is an association."""
        kind, length = pdu.HEADER.unpack(self._exactly(pdu.HEADER.size, deadline))
        if length > longest:
            raise MalformedDicomError(f"a PDU of {length} bytes")
        body = self._exactly(length, deadline)
        self._socket.settimeout(self._wait_s)
        return kind, body

    def begin_messages(self) -> None:
        """Get ready for what comes after the association was accepted."""
        self._buffer = memoryview(bytearray(_BUFFER))

    def next_piece(self, deadline: float) -> Piece | Control:
        """Return what comes next of a message, or a PDU that is no data."""
        while not self._value_left:
            if self._pdu_left:
                if (piece := self._begin_value(deadline)) is not None:
                    return piece
            elif (control := self._begin_pdu(deadline)) is not None:
                return control
        if self._start == self._end:
            self._fill(deadline)
        length = min(self._end - self._start, self._value_left)
        data = self._buffer[self._start : self._start + length]
        self._start += length
        self._value_left -= length
        return self._piece(data)

    def send(self, data: bytes) -> None:
        """Send all bytes within the channel's wait; OSError when that is not possible."""
        self._socket.sendall(data)

    def send_buffers(self, buffers: Sequence[bytes | memoryview]) -> None:
        """Send buffers one behind the other, in few calls, all of it within the channel's wait."""
        pending = [memoryview(buffer) for buffer in buffers]
        deadline = time.monotonic() + (self._socket.gettimeout() or self._wait_s)
        first = 0
        while first < len(pending):
            if time.monotonic() > deadline:
                raise TimeoutError
            some = pending[first : first + _MAX_BUFFERS]
            if isinstance(self._socket, ssl.SSLSocket):
                sent = send_joined(self._socket, some)
            else:
                sent = self._socket.sendmsg(some)
            while first < len(pending) and sent >= len(pending[first]):
                sent -= len(pending[first])
                first += 1
            if sent:
                pending[first] = pending[first][sent:]

    def has_input(self) -> bool:
        """Say whether bytes came that were not taken yet; OSError when the connection ended."""
        if self._start != self._end:
            return True
        wait_s = self._socket.gettimeout()
        self._socket.settimeout(0)
        try:
            read = self._socket.recv_into(self._buffer)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        finally:
            self._socket.settimeout(wait_s)
        if not read:
            raise ConnectionResetError
        self._start, self._end = 0, read
        return True

    def _piece(self, data: memoryview) -> Piece:
        return Piece(
            self._context_id,
            bool(self._control & pdu.IS_COMMAND),
            data,
            not self._value_left and bool(self._control & pdu.IS_LAST),
        )

    def _begin_pdu(self, deadline: float) -> Control | None:
        kind, length = pdu.HEADER.unpack(self._taken(pdu.HEADER.size, deadline))
        if kind != pdu.P_DATA_TF:
            if length > _LONGEST_CONTROL:
                raise MalformedDicomError(f"a PDU of type {kind:02X} and {length} bytes")
            return Control(kind, bytes(self._taken(length, deadline)))
        if length > _LONGEST_PDU:
            raise MalformedDicomError(f"a PDU of {length} bytes")
        self._pdu_left = length
        return None

    def _begin_value(self, deadline: float) -> Piece | None:
        """Begin a presentation data value; one without any bytes is a piece at once."""
        if self._pdu_left < pdu.PDV_HEADER.size:
            raise MalformedDicomError("a presentation data value is cut short")
        length, self._context_id, self._control = pdu.PDV_HEADER.unpack(
            self._taken(pdu.PDV_HEADER.size, deadline)
        )
        if not 2 <= length <= self._pdu_left - 4:
            raise MalformedDicomError("a presentation data value is longer than its PDU")
        self._pdu_left -= 4 + length
        self._value_left = length - 2
        return None if self._value_left else self._piece(memoryview(b""))

    def _taken(self, length: int, deadline: float) -> memoryview:
        """Take bytes that must be whole, from the buffer."""
        while self._end - self._start < length:
            self._fill(deadline)
        taken = self._buffer[self._start : self._start + length]
        self._start += length
        return taken

    def _fill(self, deadline: float) -> None:
        held = self._end - self._start
        if self._start:
            self._buffer[:held] = self._buffer[self._start : self._end]
            self._start, self._end = 0, held
        self._end += self._received(self._buffer[held:], deadline)

    def _received(self, into: memoryview, deadline: float) -> int:
        if time.monotonic() > deadline:
            raise TimeoutError
        if self._acknowledges:
            # Many peers wait for it before they send the last, small segment of a message.
            acknowledge_at_once(self._socket)
        read = self._socket.recv_into(into)
        if not read:
            raise ConnectionResetError
        return read

    def _exactly(self, length: int, deadline: float) -> bytes:
        """Read so many bytes, taking memory only as they come."""
        data = bytearray()
        while len(data) < length:
            step = memoryview(bytearray(min(length - len(data), _STEP)))
            # No single wait goes beyond the deadline, nor is it none at all.
            left_s = max(deadline - time.monotonic(), _SHORTEST_WAIT_S)
            self._socket.settimeout(min(left_s, self._wait_s))
            data += step[: self._received(step, deadline)]
        return bytes(data)
