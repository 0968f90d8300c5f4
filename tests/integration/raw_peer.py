"""A peer made of bytes: accepts every association, then answers what a test wants it to."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from dcmvault.dicom import command as commands
from dcmvault.dicom import pdu

C_STORE_RSP = commands.C_STORE_RQ | commands.RESPONSE
C_FIND_RSP = commands.C_FIND_RQ | commands.RESPONSE


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    connection: socket.socket
    context_id: int
    message_id: int
    sop_instance_uid: str
    data_set: bytes = b""


def read_pdu(connection: socket.socket) -> tuple[int, bytes]:
    """Read one PDU; EOFError when the other side is gone."""
    kind, length = pdu.HEADER.unpack(_read(connection, pdu.HEADER.size))
    return kind, _read(connection, length)


def _read(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        part = connection.recv(length - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def data_pdu(context_id: int, data: bytes, *, is_command: bool, is_last: bool = True) -> bytes:
    """Encode one P-DATA-TF with one value."""
    control = (pdu.IS_COMMAND if is_command else 0) | (pdu.IS_LAST if is_last else 0)
    value = pdu.PDV_HEADER.pack(len(data) + 2, context_id, control) + data
    return pdu.HEADER.pack(pdu.P_DATA_TF, len(value)) + value


def response(field: int, message_id: int, status: int, *, has_data_set: bool = False) -> bytes:
    """Encode the command set of an answer."""
    body = b"".join(
        commands.encode_element(0, element, number.to_bytes(2, "little"))
        for element, number in (
            (commands.COMMAND_FIELD, field),
            (commands.MESSAGE_ID_BEING_RESPONDED_TO, message_id),
            (commands.DATA_SET_TYPE, 1 if has_data_set else commands.NO_DATA_SET),
            (commands.STATUS, status),
        )
    )
    return commands.encode_element(0, 0, struct.pack("<I", len(body))) + body


def acceptance(request: bytes, window: int | None = None) -> bytes:
    """Accept every context of an A-ASSOCIATE-RQ with the first transfer syntax proposed.

    With a `window` so many asynchronous operations are granted, asked for or not.
    """
    items, offset = b"", 68
    while offset < len(request):
        kind, length = struct.unpack_from(">BxH", request, offset)
        body = request[offset + 4 : offset + 4 + length]
        offset += 4 + length
        if kind == 0x20:
            start = 4
            while body[start] != 0x40:
                start += 4 + int.from_bytes(body[start + 2 : start + 4], "big")
            end = start + 4 + int.from_bytes(body[start + 2 : start + 4], "big")
            answer = bytes([body[0], 0, 0, 0]) + body[start:end]
            items += struct.pack(">BxH", 0x21, len(answer)) + answer
    user = struct.pack(">BxHI", 0x51, 4, 16384)
    if window is not None:
        user += struct.pack(">BxHHH", 0x53, 4, window, 1)
    whole = request[:68] + items + struct.pack(">BxH", 0x50, len(user)) + user
    return pdu.HEADER.pack(pdu.A_ASSOCIATE_AC, len(whole)) + whole


def read_request(connection: socket.socket) -> Asked:
    """Read a whole C-STORE, C-FIND or C-GET request, data set and all."""
    command = data_set = b""
    while True:
        kind, body = read_pdu(connection)
        if kind != pdu.P_DATA_TF:
            raise EOFError
        for value in pdu.read_data_values(body):
            if value.is_command:
                command += value.fragment
                continue
            data_set += value.fragment
            if value.is_last:
                elements = commands.decode_command(command)
                message_id = commands.number(elements, commands.MESSAGE_ID)
                uid = elements.get(commands.AFFECTED_SOP_INSTANCE_UID, b"").decode().rstrip("\0")
                return Asked(connection, value.context_id, message_id, uid, data_set)


@contextmanager
def raw_peer(
    answer: Callable[[Asked], None],
    tls: ssl.SSLContext | None = None,
    *,
    window: int | None = None,
    at_once: int = 100,
) -> Iterator[int]:
    """Run the peer and yield its port; `answer` is called for each request of any association.

    More associations than `at_once` wait for the end of another.
    """
    places = threading.BoundedSemaphore(at_once)

    def serve(plain: socket.socket) -> None:
        with ExitStack() as stack:
            stack.enter_context(plain)
            stack.enter_context(suppress(OSError, EOFError))
            stack.enter_context(places)
            plain.settimeout(20)
            connection = plain
            if tls is not None:
                connection = stack.enter_context(tls.wrap_socket(plain, server_side=True))
            _kind, request = read_pdu(connection)
            connection.sendall(acceptance(request, window))
            while True:
                answer(read_request(connection))

    def accept() -> None:
        while True:
            try:
                connection, _address = listening.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=serve, args=(connection,)))
            threads[-1].start()

    threads: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        acceptor = threading.Thread(target=accept)
        acceptor.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            acceptor.join(20)
            for thread in threads:
                thread.join(25)
