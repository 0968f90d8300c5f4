"""One HTTP/1.1 connection over our own socket: every wait ends, and no answer is too long.

The standard library's `http.client` writes and reads HTTP. Connecting, TLS and all waits are ours:
a request is streamed from the file, an answer must be complete by a deadline (not merely show some
byte now and then), and its size is bounded. Redirects are never followed: secrets would go along.
"""

from __future__ import annotations

import http.client
import io
import selectors
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, cast

from dcmvault.dicom.channel import connect, resolve, secure
from dcmvault.dicom.tls import TlsClient, has_data, say_goodbye
from dcmvault.errors import (
    AssociationLostError,
    DestinationError,
)
from dcmvault.ports.pacing import Pacer

#: Seconds within which a peer that stopped taking a request can say why.
_LAST_WORDS_S = 2.0
_QUICK_ACK: int | None = getattr(socket, "TCP_QUICKACK", None)
_DEFAULT_PORTS = {True: 443, False: 80}

#: Handed over at once of an answer that is taken piece by piece; as much must come in each wait.
_PIECE = 64 << 10

#: Takes a piece of an answer's body.
Take = Callable[[bytes], None]
#: Gives the chunks of a request's body; called again when the request has to be made again.
MakeBody = Callable[[], Iterable[bytes | memoryview]]


@dataclass(frozen=True, slots=True)
class HttpPeer:
    """Where an HTTP service is, how it is to prove itself, and how long we wait (seconds)."""

    host: str
    port: int
    #: None: HTTP without TLS.
    tls: TlsClient | None = None
    connect_timeout_s: float = 10.0
    #: Without progress in sending, and until an answer begins; then once more until its end.
    response_timeout_s: float = 60.0

    @property
    def name(self) -> str:
        """How messages call it."""
        return f"{self._bracketed}:{self.port}"

    @property
    def host_header(self) -> str:
        """The value of `Host`, without the port that goes without saying (RFC 9110 4.2)."""
        is_default = self.port == _DEFAULT_PORTS[self.tls is not None]
        return self._bracketed if is_default else self.name

    @property
    def _bracketed(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What is asked; the body has exactly `length` bytes.

    With a `pacer` all bytes wait for it, headers included.
    """

    method: str
    target: str
    #: Not shown: one of them says who we are.
    headers: Mapping[str, str] = field(repr=False)
    make_body: MakeBody | None = None
    length: int = 0
    pacer: Pacer | None = None


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An answer that was read to its end."""

    status: int
    #: Empty where it was taken piece by piece.
    body: bytes
    #: Values of all `Warning` headers (RFC 7234 section 5.5).
    warnings: tuple[str, ...] = ()
    #: The value of the `ETag` header (RFC 9110 section 8.8.3).
    etag: str = ""


class HttpConnection:
    """Requests to one peer, one after the other; connects when needed. Used by one thread."""

    def __init__(self, peer: HttpPeer, connection: socket.socket | None = None) -> None:
        self._peer = peer
        self._socket = connection
        #: The connection has carried an exchange before.
        self._is_kept = False
        #: Bytes of the answer in hand that came so far.
        self._heard = 0

    @property
    def peer(self) -> HttpPeer:
        """Who is spoken to."""
        return self._peer

    @property
    def stands(self) -> bool:
        """Whether it was not closed by us."""
        return self._socket is not None

    def open(self) -> None:
        """Connect, unless the connection stands and is idle.

        Raises DestinationUnreachableError with its subclasses.
        """
        if self._socket is not None and self._is_idle(self._socket):
            return
        self.close()
        self._is_kept = False
        self._socket = secure(self._peer, connect(self._peer, resolve(self._peer)))

    def exchange(
        self, request: HttpRequest, *, longest_answer: int, take: Take | None = None
    ) -> HttpAnswer:
        """Send a request and read the answer, of so many bytes at most, to its end.

        With `take` the body of an answer 200 is handed over piece by piece as it comes; then the
        limit of a wait is that of a piece (64 KiB), so that a long body may take longer.
        A kept connection may be closed by the peer just when it is used again: such a request,
        to which no byte was answered, is made once more. Raises AssociationLostError when the
        connection or a wait ends or no HTTP comes, DestinationError for an answer that is too
        long, and as `open`. What the body raises passes through; the peer then never had all of it.
        So does what `take` raises; the connection is closed then.
        """
        self.open()
        try:
            return self._try(request, longest_answer, take)
        except AssociationLostError as error:
            is_stale = (
                self._is_kept and not self._heard and not isinstance(error.__cause__, TimeoutError)
            )
            if not is_stale:
                raise
        self.open()
        return self._try(request, longest_answer, take)

    def close(self) -> None:
        """Close the connection; harmless when it is closed."""
        if self._socket is not None:
            if isinstance(self._socket, ssl.SSLSocket):
                say_goodbye(self._socket)
            self._socket.close()
            self._socket = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _is_idle(self, connection: socket.socket) -> bool:
        """Say whether neither the connection's end nor what nobody asked for waits to be read."""
        with selectors.DefaultSelector() as selector:
            selector.register(connection, selectors.EVENT_READ)
            if not selector.select(0):
                return True
        return isinstance(connection, ssl.SSLSocket) and not has_data(connection)

    def _try(self, request: HttpRequest, longest_answer: int, take: Take | None) -> HttpAnswer:
        assert self._socket is not None
        wire = _Wire(self._socket, self._peer.response_timeout_s, request.pacer)
        self._heard = 0
        must_close = True
        try:
            all_sent, sent = self._send(wire, request)
            answer, must_close = self._receive(wire, sent, longest_answer, take)
            must_close = must_close or not all_sent
            self._is_kept = True
        except TimeoutError as error:
            raise AssociationLostError(
                f"{self._peer.name} gave no answer within {self._peer.response_timeout_s:g} s",
                hint="The peer or the network between is stuck.",
            ) from error
        except (OSError, http.client.IncompleteRead) as error:
            tls = self._peer.tls
            if isinstance(error, OSError) and tls is not None:
                refusal = tls.refusal(self._peer.name, error)
                if refusal is not None:
                    raise refusal from error
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise AssociationLostError(
                f"the connection to {self._peer.name} broke ({reason})",
                hint="Look at the peer's log and at the network between.",
            ) from error
        except (http.client.HTTPException, ValueError) as error:
            raise AssociationLostError(
                f"{self._peer.name} answers with what is not HTTP",
                hint="Check that host and port are those of the service.",
            ) from error
        finally:
            self._heard = wire.heard
            if must_close:
                self.close()
        return answer

    def _send(self, wire: _Wire, request: HttpRequest) -> tuple[bool, http.client.HTTPConnection]:
        """Send the request; say whether all of it went out before the peer stopped taking it."""
        sent = http.client.HTTPConnection(self._peer.host, self._peer.port)
        sent.sock = cast(Any, wire)
        sent.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
        sent.putheader("Host", self._peer.host_header)
        for name, value in request.headers.items():
            sent.putheader(name, value)
        if request.make_body is not None:
            sent.putheader("Content-Length", str(request.length))
        try:
            sent.endheaders(request.make_body() if request.make_body is not None else None)
        except _NotTakenError as failure:
            # Perhaps it said why: too large, not allowed, no certificate.
            wire.answer_by(_LAST_WORDS_S)
            try:
                has_said_why = bool(wire.peek())
            except ssl.SSLError as error:
                raise (error if "ALERT" in (error.reason or "") else failure.error) from None
            except OSError:
                has_said_why = False
            if not has_said_why:
                raise failure.error from None
            return False, sent
        wire.answer_by(self._peer.response_timeout_s)
        return True, sent

    def _receive(
        self, wire: _Wire, sent: http.client.HTTPConnection, longest: int, take: Take | None
    ) -> tuple[HttpAnswer, bool]:
        """Read an answer; say whether the connection is over after it."""
        response = sent.getresponse()
        wire.answer_by(self._peer.response_timeout_s)
        body = b""
        if take is not None and response.status == 200:
            taken = 0
            while piece := response.read(_PIECE):
                taken += len(piece)
                self._check_length(taken, longest)
                take(piece)
                wire.answer_by(self._peer.response_timeout_s)
        else:
            body = response.read(longest + 1)
            self._check_length(len(body), longest)
        if response.length:  # `read` is silent about an answer that is cut off
            raise http.client.IncompleteRead(body, response.length)
        warnings = tuple(response.headers.get_all("Warning", []))
        etag = response.headers.get("ETag", "")
        # A chunked body has a trailer behind it, which was read only if `read` came to its end.
        is_over = response.will_close or not response.isclosed()
        return HttpAnswer(response.status, body, warnings, etag), is_over

    def _check_length(self, length: int, longest: int) -> None:
        if length > longest:
            raise DestinationError(
                f"{self._peer.name} answers with more than {longest} bytes",
                hint="Look for a defect of the peer.",
            )


class _NotTakenError(Exception):
    """The peer stopped taking a request."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error


class _Wire:
    """What `http.client` takes for a socket: a limit for every wait, whoever waits."""

    def __init__(
        self, connection: socket.socket, send_timeout_s: float, pacer: Pacer | None
    ) -> None:
        self._socket = connection
        self._send_timeout_s = send_timeout_s
        self._pacer = pacer
        self._reader = _WireReader(connection)
        self._buffered = io.BufferedReader(self._reader)

    @property
    def heard(self) -> int:
        """Bytes that came from the peer."""
        return self._reader.heard

    def answer_by(self, seconds: float) -> None:
        """Set the deadline of all further reading to so many seconds from now."""
        self._reader.deadline = time.monotonic() + seconds

    def peek(self) -> bytes:
        """Wait for the first bytes of an answer; none at the end of the connection."""
        return self._buffered.peek(1)

    def sendall(self, data: bytes | memoryview) -> None:
        """Send all, as fast as it may go; the peer must take each piece within the time-out."""
        if self._pacer is None:
            self._send(data)
            return
        piece = self._pacer.piece
        for start in range(0, len(data), piece):
            part = data[start : start + piece]
            self._pacer.take(len(part))
            self._send(part)

    def _send(self, data: bytes | memoryview) -> None:
        try:
            self._socket.settimeout(self._send_timeout_s)
            self._socket.sendall(data)
        except OSError as error:
            raise _NotTakenError(error) from error

    def makefile(self, _mode: str) -> io.BufferedIOBase:
        """Return the stream of what the peer answers."""
        return self._buffered

    def close(self) -> None:
        """Do nothing: the connection is closed by who opened it."""


class _WireReader(io.RawIOBase):
    """Reads from a socket until a deadline."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__()
        self._socket = connection
        self.deadline = 0.0
        self.heard = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left_s = self.deadline - time.monotonic()
        if left_s <= 0:
            # Also a peer that talks all the time must come to an end.
            raise TimeoutError
        self._socket.settimeout(left_s)
        if _QUICK_ACK is not None:
            # Does not stick: it must be asked for before every receive.
            self._socket.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK, 1)
        read = self._socket.recv_into(buffer)
        self.heard += read
        return read
