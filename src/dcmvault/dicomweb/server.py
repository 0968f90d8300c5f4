"""The HTTP server: how many connections, for how long, over TLS or not, and one request in each.

A thread serves each connection. What a client may cost is limited: time for the handshake and for
each request's head, silence between requests and while it takes our bytes, connections at once.
"""

from __future__ import annotations

import errno
import io
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from http.server import BaseHTTPRequestHandler
from operator import itemgetter
from socketserver import TCPServer, ThreadingMixIn
from typing import Any

from dcmvault.dicom.association_scp import Secures, subject_of
from dcmvault.dicom.tls import hang_up
from dcmvault.dicomweb.replies import Outcome, RefusedError, Reply, refusal
from dcmvault.dicomweb.service import ROOT, ArchiveService, WebAccess, read_target
from dcmvault.errors import StateError
from dcmvault.model.access import Access
from dcmvault.ports.audit import AccessJournal

_log = logging.getLogger(__name__)

#: Seconds for a TLS handshake, and for the head of a request from its first byte on.
_HEAD_S = 10.0
_STOP_S = 10.0
_POLL_S = 0.2
#: Bytes that are gathered before they are sent.
_TOGETHER = 64 * 1024
_LONGEST_HOST = 255


@dataclass(frozen=True, slots=True)
class WebRules:
    """Where to listen, and what connections may cost."""

    host: str = "127.0.0.1"
    port: int = 0
    max_connections: int = 16
    max_connections_per_peer: int = 8
    idle_timeout_s: float = 60.0
    head_timeout_s: float = _HEAD_S


@dataclass(frozen=True, slots=True)
class WebParts:
    """What a server works with."""

    service: ArchiveService
    access: WebAccess
    journal: AccessJournal
    now: Callable[[], datetime]
    tls: Secures | None = None


@dataclass(slots=True)
class _Connection:
    """One open connection; `idle_since` is 0 while a request is in hand."""

    socket: socket.socket
    address: str
    idle_since: float

    def end(self) -> None:
        """Wake up the thread that waits for it."""
        hang_up(self.socket)


class _Server(ThreadingMixIn, TCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, rules: WebRules, parts: WebParts) -> None:
        self.rules = rules
        self.parts = parts
        self._lock = threading.Lock()
        self._open: dict[socket.socket, _Connection] = {}
        if ":" in rules.host:
            self.address_family = socket.AF_INET6
        super().__init__((rules.host, rules.port), _Handler)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Say whether a connection has a place (socketserver's hook)."""
        address = str(client_address[0])
        if not self.parts.access.may_connect(address):
            self.parts.journal.record(
                Access(self.parts.now(), "HTTP", "", address, outcome="refused")
            )
            return False
        with self._lock:
            from_there = {at: one for at, one in self._open.items() if one.address == address}
            for some, most in (
                (from_there, self.rules.max_connections_per_peer),
                (self._open, self.rules.max_connections),
            ):
                if len(some) >= most and not self._make_room(some):
                    return False
            self._open[request] = _Connection(request, address, time.monotonic())
        return True

    def _make_room(self, some: Mapping[socket.socket, _Connection]) -> bool:
        """End the connection that has been without a request for longest; False if all have one.

        Browsers keep connections open for later: they must not keep others out.
        """
        idle = [(one.idle_since, at) for at, one in some.items() if one.idle_since]
        if not idle:
            return False
        _since, oldest = min(idle, key=itemgetter(0))
        self._open.pop(oldest).end()
        return True

    def note_secured(self, request: socket.socket, secured: socket.socket) -> None:
        """Note what stands for a connection from now on."""
        with self._lock:
            if request not in self._open:
                raise ConnectionAbortedError
            self._open[request].socket = secured

    def note_idle(self, request: socket.socket, since: float) -> None:
        """Note since when a connection has no request in hand; 0: it has one."""
        with self._lock:
            if request in self._open:
                self._open[request].idle_since = since

    def shutdown_request(self, request: Any) -> None:
        """Close a connection, and give its place to another."""
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Note a defect without what was asked: that may name a patient."""
        _log.error("a request ended with %s", type(sys.exc_info()[1]).__name__)

    def hang_up(self) -> None:
        """End every connection."""
        with self._lock:
            connections = list(self._open.values())
        for connection in connections:
            connection.end()


class _Head(io.RawIOBase):
    """Reads requests' heads: each within a time that begins with its first byte."""

    def __init__(
        self, connection: socket.socket, rules: WebRules, note_idle: Callable[[float], None]
    ) -> None:
        self._connection = connection
        self._rules = rules
        self._note_idle = note_idle
        self._deadline = time.monotonic() + rules.head_timeout_s

    def between(self) -> None:
        """Wait for the next request from now on."""
        self._deadline = 0.0
        self._note_idle(time.monotonic())

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._deadline:
            left_s = self._deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            self._connection.settimeout(left_s)
            return self._connection.recv_into(buffer)
        self._connection.settimeout(self._rules.idle_timeout_s)
        read = self._connection.recv_into(buffer)
        self._deadline = time.monotonic() + self._rules.head_timeout_s
        return read


class _Tail(io.BufferedIOBase):
    """Sends what it is given, all of it."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._connection.sendall(data)
        return len(data)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    server_version = "dcmvault"
    sys_version = ""

    def setup(self) -> None:
        rules, tls = self.server.rules, self.server.parts.tls
        connection: socket.socket = self.request
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            connection.settimeout(rules.head_timeout_s)
            connection = tls.secured(connection)
        self.connection = connection
        self._head = _Head(connection, rules, partial(self.server.note_idle, self.request))
        self.rfile = io.BufferedReader(self._head)
        self.wfile = _Tail(connection)

    def handle(self) -> None:
        try:
            if self.server.parts.tls is not None:
                self.server.note_secured(self.request, self.connection)
                self.connection.do_handshake()
            super().handle()
        except OSError:  # too slow, or gone
            self.close_connection = True

    def finish(self) -> None:
        with suppress(OSError):
            super().finish()
        if self.connection is not self.request:
            self.connection.close()

    # Requests

    def _respond(self) -> None:
        began = time.monotonic()
        self.server.note_idle(self.request, 0.0)
        parts = self.server.parts
        outcome = Outcome()
        who = ""
        try:
            self._check_body()
            if self.command == "OPTIONS":
                reply = self._preflight()
            elif self.command not in ("GET", "HEAD"):
                raise RefusedError(
                    405, "the archive is only read: GET", {"Allow": "GET, HEAD, OPTIONS"}
                )
            else:
                who = parts.access.who(
                    self.headers.get("Host", ""),
                    self.headers.get("Origin", ""),
                    self.headers.get("Authorization", ""),
                )
                accept = ",".join(self.headers.get_all("Accept") or ())
                request = read_target(self.path, self._root(), accept)
                reply = parts.service.answer(request, outcome)
        except RefusedError as error:
            reply = refusal(error)
        except Exception as error:  # noqa: BLE001 - the frame of a request: others go on
            _log.error("a request failed with %s", type(error).__name__)
            reply = refusal(RefusedError(500, "the request could not be carried out"))
        status = str(reply.status)
        try:
            outcome.bytes = self._send(reply)
        except OSError:
            status = f"{status} broken off"
            raise
        finally:
            reply.close()
            self._note(outcome, who, status, time.monotonic() - began)
            self._head.between()

    do_GET = do_HEAD = do_OPTIONS = do_POST = do_PUT = do_DELETE = _respond  # noqa: N815
    do_PATCH = do_TRACE = do_CONNECT = _respond  # noqa: N815

    def _check_body(self) -> None:
        """Refuse a body: it is not read, and the connection ends."""
        length = self.headers.get("Content-Length", "0")
        if self.headers.get("Transfer-Encoding") or length.strip() != "0":
            self.close_connection = True
            if self.command in ("GET", "HEAD", "OPTIONS"):
                raise RefusedError(400, "a request that only reads has no body")

    def _root(self) -> str:
        """Return our address as the client calls it."""
        host = self.headers.get("Host", "")
        usable = host and len(host) <= _LONGEST_HOST
        if not usable or not all(letter.isalnum() or letter in ".-:[]_" for letter in host):
            host = "{}:{}".format(*self.connection.getsockname()[:2])
        scheme = "http" if self.server.parts.tls is None else "https"
        return f"{scheme}://{host}{ROOT}"

    def _preflight(self) -> Reply:
        """Say to a browser what its page may do (CORS)."""
        if self.headers.get("Origin", "") not in self.server.parts.access.origins:
            raise RefusedError(403, "web pages of this origin may not ask (“web_origins”)")
        return Reply(
            204,
            headers={
                "Access-Control-Allow-Methods": "GET, HEAD",
                "Access-Control-Allow-Headers": "Authorization, Accept",
                "Access-Control-Max-Age": "600",
            },
        )

    # Answers

    def _send(self, reply: Reply) -> int:
        """Send an answer; return the bytes of its body."""
        self.connection.settimeout(self.server.rules.idle_timeout_s)
        self.send_response(reply.status)
        headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        if reply.content_type:
            headers["Content-Type"] = reply.content_type
        if (origin := self.headers.get("Origin")) in self.server.parts.access.origins:
            headers["Access-Control-Allow-Origin"] = origin or ""
            headers["Access-Control-Expose-Headers"] = "Warning"
        headers["Vary"] = "Accept, Origin"
        has_body = self.command != "HEAD" and reply.status != 204
        is_chunked = has_body and "Content-Length" not in reply.headers
        if is_chunked and self.request_version >= "HTTP/1.1":
            headers["Transfer-Encoding"] = "chunked"
            if reply.warning is not None:
                headers["Trailer"] = "Warning"
        elif is_chunked:
            is_chunked, self.close_connection = False, True
        if self.close_connection:
            headers["Connection"] = "close"
        for name, value in (headers | reply.headers).items():
            self.send_header(name, value.encode("latin-1", "replace").decode("latin-1"))
        self.end_headers()
        return self._send_body(reply, is_chunked=is_chunked) if has_body else 0

    def _send_body(self, reply: Reply, *, is_chunked: bool) -> int:
        sent = 0
        gathered = bytearray()
        try:
            for piece in reply.pieces:
                sent += len(piece)
                gathered += piece
                if len(gathered) >= _TOGETHER:
                    self._write(gathered, is_chunked=is_chunked)
                    gathered.clear()
        except OSError:  # the client is gone
            raise
        except Exception as error:  # the frame of a request: its head is sent already
            # Without its end, the client knows that the answer is not whole.
            _log.warning("an answer ended early (%s)", type(error).__name__)
            raise ConnectionAbortedError(errno.ECONNABORTED, "broken off") from error
        if gathered:
            self._write(gathered, is_chunked=is_chunked)
        if is_chunked:
            warning = reply.warning() if reply.warning is not None else ""
            trailer = f"Warning: {warning}\r\n" if warning else ""
            self.connection.sendall(f"0\r\n{trailer}\r\n".encode("ascii"))
        return sent

    def _write(self, data: bytearray, *, is_chunked: bool) -> None:
        if is_chunked:
            self.connection.sendall(b"%x\r\n" % len(data))
        self.connection.sendall(data)
        if is_chunked:
            self.connection.sendall(b"\r\n")

    def _note(self, outcome: Outcome, who: str, status: str, duration_s: float) -> None:
        parts = self.server.parts
        access = Access(
            parts.now(),
            outcome.service or "HTTP",
            who,
            str(self.client_address[0]),
            subject_of(self.connection),
            outcome=status,
            level=outcome.level,
            keys=outcome.keys,
            study_instance_uids=outcome.study_instance_uids,
            series_instance_uids=outcome.series_instance_uids,
            sop_instance_uids=outcome.sop_instance_uids,
            answers=outcome.answers,
            sent=outcome.sent,
            failed=outcome.failed,
            bytes=outcome.bytes,
            duration_s=duration_s,
        )
        parts.journal.record(access)

    def send_error(
        self,
        code: int,
        message: str | None = None,  # noqa: ARG002 - it quotes the request
        explain: str | None = None,  # noqa: ARG002
    ) -> None:
        """Answer what is no request that HTTP knows."""
        self.close_connection = True
        if not hasattr(self, "headers"):
            self.headers = self.MessageClass()
        self.request_version = getattr(self, "request_version", "") or "HTTP/1.0"
        self.command = getattr(self, "command", None) or "GET"
        status = 405 if code == 501 else int(code)
        self._send(refusal(RefusedError(status, "the request cannot be read")))

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
        """Log nothing: addresses may name patients, and the journal has what may be known."""


@contextmanager
def web_serving(rules: WebRules, parts: WebParts) -> Iterator[int]:
    """Answer over HTTP until the context is left; yields the port.

    Raises StateError where the port cannot be had.
    """
    try:
        server = _Server(rules, parts)
    except OSError as error:
        raise StateError(
            f"port {rules.port} of {rules.host} cannot be had: {error.strerror}",
            hint="Say another one: “web_port” in [serve].",
        ) from error
    thread = threading.Thread(target=server.serve_forever, args=(_POLL_S,), name="web", daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.hang_up()
        server.server_close()
        thread.join(_STOP_S)
