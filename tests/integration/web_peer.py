"""A DICOMweb service made of a test's answers: a real HTTP service on loopback, also with TLS."""

from __future__ import annotations

import hashlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

_KEPT = 4 << 20


@dataclass(frozen=True)
class Seen:
    """A request as it came."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    #: The file inside a STOW-RS request, or the whole body of another one; empty where it is long.
    content: bytes
    length: int
    #: SHA-256 of the whole body.
    body_sha256: str


@dataclass(frozen=True)
class Reply:
    """What is answered."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


#: Answers a request; None: nothing more is said, and the connection ends.
Answering = Callable[[Seen], Reply | None]


def store_json(
    stored: Mapping[str, int] | None = None, failed: Mapping[str, int] | None = None
) -> bytes:
    """Build a Store Instances Response Module in JSON: SOP Instance UIDs with their reasons."""

    def items(reasons: Mapping[str, int], tag: str) -> dict[str, object]:
        rows = []
        for uid, reason in reasons.items():
            row: dict[str, object] = {
                "00081150": {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.2"]},
                "00081155": {"vr": "UI", "Value": [uid]},
            }
            if reason:
                row[tag] = {"vr": "US", "Value": [reason]}
            rows.append(row)
        return {"vr": "SQ", "Value": rows}

    module: dict[str, object] = {}
    if failed:
        module["00081198"] = items(failed, "00081197")
    if stored:
        module["00081199"] = items(stored, "00081196")
    return json.dumps(module).encode()


def store_xml(stored: Mapping[str, int], failed: Mapping[str, int]) -> bytes:
    """Build the same in the Native DICOM Model (PS3.19 Annex A.1)."""

    def items(name: str, reasons: Mapping[str, int], tag: str) -> str:
        rows = "".join(
            f'<Item number="{number}"><DicomAttribute tag="00081155" vr="UI">'
            f'<Value number="1">{uid}</Value></DicomAttribute>'
            f'<DicomAttribute tag="{tag}" vr="US"><Value number="1">{reason}</Value>'
            "</DicomAttribute></Item>"
            for number, (uid, reason) in enumerate(reasons.items(), start=1)
        )
        return f'<DicomAttribute tag="{name}" vr="SQ">{rows}</DicomAttribute>'

    failures = items("00081198", failed, "00081197")
    stored_ones = items("00081199", stored, "00081196")
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<NativeDicomModel xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM">'
        f"{failures}{stored_ones}</NativeDicomModel>"
    ).encode()


@dataclass
class WebPeer:
    """A running service: what it saw, and how it answers from now on."""

    url: str
    answering: Answering
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0
    #: The connection ends after so many bytes of a body; 0: it does not.
    cut_after: int = 0

    @property
    def port(self) -> int:
        """Its TCP port."""
        return urlsplit(self.url).port or 0

    def posted(self) -> list[Seen]:
        """Return the requests to store."""
        return [request for request in self.seen if request.method == "POST"]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 20
    #: Set for each service.
    peer: WebPeer

    def setup(self) -> None:
        super().setup()
        self.peer.connections += 1

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self._body()
        if body is None:
            self.close_connection = True
            return
        content, sha256, length = body
        parts = urlsplit(self.path)
        seen = Seen(
            self.command,
            parts.path,
            parse_qs(parts.query, keep_blank_values=True),
            dict(self.headers.items()),
            content,
            length,
            sha256,
        )
        self.peer.seen.append(seen)
        reply = self.peer.answering(seen)
        if reply is None:
            self.close_connection = True
            return
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body)

    def _body(self) -> tuple[bytes, str, int] | None:
        """Read content, SHA-256 and length of the body; None where it is to be cut off."""
        length = int(self.headers.get("Content-Length") or 0)
        digest, kept, left = hashlib.sha256(), bytearray(), length
        while left:
            part = self.rfile.read(min(left, 1 << 16))
            left -= len(part)
            if not part or 0 < self.peer.cut_after <= length - left:
                return None
            digest.update(part)
            if length <= _KEPT:
                kept += part
        content = bytes(kept)
        if "multipart" in self.headers.get("Content-Type", ""):
            boundary = self.headers["Content-Type"].partition("boundary=")[2].encode()
            content = content.partition(b"\r\n\r\n")[2].removesuffix(
                b"\r\n--" + boundary + b"--\r\n"
            )
        return content, digest.hexdigest(), length

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


class _Service(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    tls: ssl.SSLContext | None = None

    def get_request(self) -> tuple[Any, Any]:
        connection, address = super().get_request()
        if self.tls is not None:
            connection.settimeout(10)
            connection = self.tls.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        return connection, address

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: the other side went away, as some tests want it."""


@contextmanager
def web_peer(answering: Answering, tls: ssl.SSLContext | None = None) -> Iterator[WebPeer]:
    """Run a service until the context ends."""
    peer = WebPeer("", answering)
    handler = type("Handler", (_Handler,), {"peer": peer})
    with _Service(("127.0.0.1", 0), handler) as service:
        service.tls = tls
        where = "https://localhost" if tls is not None else "http://127.0.0.1"
        peer.url = f"{where}:{service.server_address[1]}/dicom-web"
        thread = threading.Thread(target=service.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield peer
        finally:
            service.shutdown()
            thread.join()


@contextmanager
def raw_peer(behave: Callable[[socket.socket], object]) -> Iterator[int]:
    """Run one connection after the other: the first bytes are read, then `behave` is asked."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with suppress(OSError):  # the end of the context
                while True:
                    connection, _address = listening.accept()
                    with connection, suppress(OSError):
                        connection.settimeout(10)
                        if connection.recv(1 << 16):
                            behave(connection)
                            # Closed now, what was not read would reset it.
                            over.wait(10)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            over.set()
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()
