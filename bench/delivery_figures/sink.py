"""A peer that accepts everything and keeps nothing: `python -m bench.delivery_figures.sink`.

Writes its port to stdout and serves until its standard input ends. Speaks just enough of PS3.8 to
be told from a real SCP by nobody who stores: it walks over PDUs without looking into data sets.
With `--raw` it reads a connection to its end and answers with one byte. With `--log` it adds the
SOP Instance UID of all that it took to a file, a line each, before it says so. `--everywhere` has
it listen on all addresses: for a network namespace of its own.
"""

from __future__ import annotations

import argparse
import os
import socket
import struct
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_BUFFER = 1 << 20
_PDU = struct.Struct(">BxI")
_ITEM = struct.Struct(">BxH")
_PDV = struct.Struct(">IBB")


class _Reader:
    """Bytes of a connection; what is skipped is read into one buffer over and over."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = memoryview(bytearray(_BUFFER))
        self._start = self._end = 0

    def take(self, length: int) -> bytes:
        """Return the next `length` bytes; EOFError at the end."""
        taken = bytearray()
        while len(taken) < length:
            taken += self._some(length - len(taken))
        return bytes(taken)

    def skip(self, length: int) -> None:
        while length:
            length -= len(self._some(length))

    def _some(self, most: int) -> memoryview:
        if self._start == self._end:
            self._start, self._end = 0, self._connection.recv_into(self._buffer)
            if not self._end:
                raise EOFError
        some = self._buffer[self._start : min(self._start + most, self._end)]
        self._start += len(some)
        return some


def _items(data: bytes) -> list[tuple[int, bytes]]:
    items, at = [], 0
    while at < len(data):
        kind, length = _ITEM.unpack_from(data, at)
        items.append((kind, data[at + 4 : at + 4 + length]))
        at += 4 + length
    return items


def _item(kind: int, data: bytes) -> bytes:
    return _ITEM.pack(kind, len(data)) + data


def _acceptance(request: bytes) -> bytes:
    """Accept the first transfer syntax of every presentation context (PS3.8 section 9.3.3).

    A window of asynchronous operations is granted as it is proposed (PS3.7 Annex D.3.3.3).
    """
    window = b""
    answer = request[:68] + _item(0x10, b"1.2.840.10008.3.1.1.1")
    for kind, item in _items(request[68:]):
        if kind == 0x20:
            syntaxes = [data for sub, data in _items(item[4:]) if sub == 0x40]
            answer += _item(0x21, item[:1] + b"\0\0\0" + _item(0x40, syntaxes[0]))
        elif kind == 0x50:
            window = b"".join(_item(sub, data) for sub, data in _items(item) if sub == 0x53)
    user = _item(0x51, struct.pack(">I", 131_072)) + _item(0x52, b"1.2.826.0.1.3680043.8.498.7")
    return answer + _item(0x50, user + window)


def _element(number: int, value: bytes) -> bytes:
    return struct.pack("<HHI", 0, number, len(value)) + value


def _elements(command: bytes) -> dict[int, bytes]:
    values, at = {}, 0
    while at < len(command):
        _group, element, length = struct.unpack_from("<HHI", command, at)
        values[element] = command[at + 8 : at + 8 + length]
        at += 8 + length
    return values


def _response(context_id: int, values: dict[int, bytes]) -> bytes:
    """Answer a C-STORE or C-ECHO with 0000 (PS3.7 sections 9.3.1.2 and 9.3.5.2)."""
    (field,) = struct.unpack("<H", values[0x0100])
    elements = (
        _element(0x0002, values[0x0002])
        + _element(0x0100, struct.pack("<H", field | 0x8000))
        + _element(0x0120, values[0x0110])
        + _element(0x0800, struct.pack("<H", 0x0101))
        + _element(0x0900, struct.pack("<H", 0))
    )
    if 0x1000 in values:
        elements += _element(0x1000, values[0x1000])
    body = _element(0x0000, struct.pack("<I", len(elements))) + elements
    return _PDU.pack(4, len(body) + 6) + _PDV.pack(len(body) + 2, context_id, 3) + body


def _serve_dicom(connection: socket.socket, took: Callable[[bytes], None]) -> None:
    reader = _Reader(connection)
    command, has_data = b"", False
    while True:
        kind, length = _PDU.unpack(reader.take(6))
        if kind == 1:
            body = _acceptance(reader.take(length))
            connection.sendall(_PDU.pack(2, len(body)) + body)
        elif kind == 4:
            while length:
                size, context_id, control = _PDV.unpack(reader.take(6))
                length -= size + 4
                if control & 1:
                    command += reader.take(size - 2)
                    # (0000,0800) with 0101 stands where no data set follows.
                    has_data = b"\0\0\0\x08\x02\0\0\0\x01\x01" not in command
                else:
                    reader.skip(size - 2)
                if control & 2 and (not control & 1 or not has_data):
                    values = _elements(command)
                    if has_data:
                        took(values[0x1000])
                    connection.sendall(_response(context_id, values))
                    command = b""
        else:
            if kind == 5:
                connection.sendall(_PDU.pack(6, 4) + bytes(4))
            return


def _serve_raw(connection: socket.socket) -> None:
    buffer = bytearray(_BUFFER)
    while connection.recv_into(buffer):
        pass
    connection.sendall(b"\0")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--raw", action="store_true")
    parser.add_argument("--log", type=Path)
    parser.add_argument("--everywhere", action="store_true")
    options = parser.parse_args()
    log = os.open(options.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND) if options.log else None

    def took(uid: bytes) -> None:
        if log is not None:
            os.write(log, uid.rstrip(b"\0") + b"\n")

    def serve(connection: socket.socket) -> None:
        if options.raw:
            _serve_raw(connection)
        else:
            _serve_dicom(connection, took)

    def run(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection, suppress(EOFError, OSError):
            serve(connection)

    def accept() -> None:
        while True:
            connection, _address = listener.accept()
            threading.Thread(target=run, args=(connection,), daemon=True).start()

    with socket.create_server(
        ("" if options.everywhere else "127.0.0.1", 0), backlog=64
    ) as listener:
        threading.Thread(target=accept, daemon=True).start()
        print(listener.getsockname()[1], flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
