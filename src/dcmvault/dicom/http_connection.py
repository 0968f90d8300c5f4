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
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, cast

from dcmvault.dicom.channel import connect, resolve, secure
from dcmvault.dicom.quick_ack import acknowledge_at_once
from dcmvault.dicom.tls import TlsClient, hang_up, has_data, say_goodbye
from dcmvault.errors import (
    AssociationLostError,
    DestinationError,
)
from dcmvault.ports.pacing import Pacer

#: Seconds within which a peer that stopped taking a request can say why.
_LAST_WORDS_S = 2.0
_DEFAULT_PORTS = {True: 443, False: 80}

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
    body: bytes
    #: Values of all `Warning` headers (RFC 7234 section 5.5).
    warnings: tuple[str, ...] = ()
    #: When to come back, as the peer wrote it (RFC 9110 section 10.2.3); empty if it did not.
    retry_after: str = ""


class HttpConnection:
    """Requests to one peer, one after the other; connects when needed. Used by one thread."""

    def __init__(self, peer: HttpPeer, connection: socket.socket | None = None) -> None:
        self._peer = peer
        self._socket = connection
        #: The connection has carried an exchange before.
        self._is_kept = False
        #: Bytes of the answer in hand that came so far.
        self._heard = 0
        self._is_abandoned = False

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
        if not self._is_abandoned:
            self._socket = secure(self._peer, connect(self._peer, resolve(self._peer)))
        if self._is_abandoned:
            self.close()
            raise AssociationLostError(f"nobody waits for {self._peer.name} any more")

    def exchange(self, request: HttpRequest, *, longest_answer: int) -> HttpAnswer:
        """Send a request and read the answer, of so many bytes at most, to its end.

        Raises DestinationError for an answer that is too long, and as `answering`.
        """
        with self.answering(request) as answer:
            body = answer.read(longest_answer)
            return HttpAnswer(answer.status, body, answer.warnings, answer.header("Retry-After"))

    @contextmanager
    def answering(self, request: HttpRequest) -> Iterator[HttpStream]:
        """Send a request and hand out the answer, whose body is read within this context.

        A kept connection may be closed by the peer just when it is used again: such a request,
        to which no byte was answered, is made once more. Raises AssociationLostError when the
        connection or a wait ends or no HTTP comes, also while the body is read, and as `open`.
        What the request's body raises passes through; the peer then never had all of it. What is
        not read to its end ends the connection.
        """
        wire, response, all_sent = self._begin(request)
        must_close = True
        try:
            stream = HttpStream(self._peer, wire, response)
            yield stream
            must_close = not (all_sent and stream.may_go_on)
            self._is_kept = True
        finally:
            if must_close:
                self.close()

    def _begin(self, request: HttpRequest) -> tuple[_Wire, http.client.HTTPResponse, bool]:
        self.open()
        try:
            return self._ask(request)
        except AssociationLostError as error:
            is_stale = (
                self._is_kept and not self._heard and not isinstance(error.__cause__, TimeoutError)
            )
            if not is_stale:
                raise
        self.open()
        return self._ask(request)

    def close(self) -> None:
        """Close the connection; harmless when it is closed."""
        if self._socket is not None:
            if isinstance(self._socket, ssl.SSLSocket):
                say_goodbye(self._socket)
            self._socket.close()
            self._socket = None

    def abandon(self) -> None:
        """Let whoever waits for the peer in another thread wait no longer: that fails, for good."""
        self._is_abandoned = True
        connection = self._socket
        if connection is not None:
            hang_up(connection)

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

    def _ask(self, request: HttpRequest) -> tuple[_Wire, http.client.HTTPResponse, bool]:
        """Send a request and wait for the head of its answer; say whether all of it was sent."""
        assert self._socket is not None
        wire = _Wire(self._socket, self._peer.response_timeout_s, request.pacer)
        self._heard = 0
        try:
            with _explaining(self._peer):
                all_sent, sent = self._send(wire, request)
                return wire, sent.getresponse(), all_sent
        except BaseException:
            self.close()
            raise
        finally:
            self._heard = wire.heard

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


class HttpStream:
    """An answer whose body is still to come."""

    def __init__(self, peer: HttpPeer, wire: _Wire, response: http.client.HTTPResponse) -> None:
        self._peer = peer
        self._wire = wire
        self._response = response

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self._response.status

    @property
    def warnings(self) -> tuple[str, ...]:
        """Values of all `Warning` headers (RFC 7234 section 5.5)."""
        return tuple(self._response.headers.get_all("Warning", []))

    @property
    def may_go_on(self) -> bool:
        """Whether the connection can be used again after what was read."""
        # A chunked body has a trailer behind it, which was read only if reading came to its end.
        return self._response.isclosed() and not self._response.will_close

    def header(self, name: str) -> str:
        """Return the first value of a header; empty where there is none."""
        return str(self._response.headers.get(name, ""))

    def read(self, longest: int) -> bytes:
        """Read the whole body, which must have come by a deadline.

        Raises DestinationError when it has more than `longest` bytes.
        """
        self._wire.answer_by(self._peer.response_timeout_s)
        with _explaining(self._peer):
            body = self._response.read(longest + 1)
            if len(body) <= longest:
                self._require_whole(body)
                return body
        raise DestinationError(
            f"{self._peer.name} answers with more than {longest} bytes",
            hint="Look for a defect of the peer.",
        )

    def read_into(self, buffer: memoryview) -> int:
        """Fill a buffer as far as the body goes, each time by a deadline; 0 at its end."""
        self._wire.answer_by(self._peer.response_timeout_s)
        with _explaining(self._peer):
            read = self._response.readinto(buffer)
            if not read:
                self._require_whole(b"")
        return read

    def _require_whole(self, body: bytes) -> None:
        if self._response.length:  # nobody else says that an answer was cut off
            raise http.client.IncompleteRead(body, self._response.length)


@contextmanager
def _explaining(peer: HttpPeer) -> Iterator[None]:
    """Say as AssociationLostError (or as TLS has it) what goes wrong on the way."""
    try:
        yield
    except TimeoutError as error:
        raise AssociationLostError(
            f"{peer.name} gave no answer within {peer.response_timeout_s:g} s",
            hint="The peer or the network between is stuck.",
        ) from error
    except (OSError, http.client.IncompleteRead) as error:
        if isinstance(error, OSError) and peer.tls is not None:
            refusal = peer.tls.refusal(peer.name, error)
            if refusal is not None:
                raise refusal from error
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise AssociationLostError(
            f"the connection to {peer.name} broke ({reason})",
            hint="Look at the peer's log and at the network between.",
        ) from error
    except (http.client.HTTPException, ValueError) as error:
        raise AssociationLostError(
            f"{peer.name} answers with what is not HTTP",
            hint="Check that host and port are those of the service.",
        ) from error


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
        acknowledge_at_once(self._socket)
        read = self._socket.recv_into(buffer)
        self.heard += read
        return read
