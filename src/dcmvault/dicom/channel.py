"""One connection to a peer: its name, its address, and PDUs with a limit to every wait.

Facts about peers that shape it: many send a response as two small segments and wait for our
delayed acknowledgement (hence quick acknowledgements, TCP_NODELAY, and several buffers in one
call); a half-open peer takes nothing and says nothing (hence a limit to every send, too).
"""

from __future__ import annotations

import selectors
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from dcmvault.dicom import pdu
from dcmvault.dicom.quick_ack import acknowledge_at_once
from dcmvault.dicom.status import explain_abort
from dcmvault.dicom.tls import (
    TlsClient,
    hang_up,
    has_data,
    last_word,
    say_goodbye,
    send_joined,
)
from dcmvault.dicom.tls_failures import words_of
from dcmvault.errors import (
    AssociationLostError,
    DestinationUnreachableError,
    MalformedDicomError,
)

#: Nothing that a peer answers is longer; more is an attack or a defect.
_LONGEST_PDU = 1024 * 1024
#: Buffers in one system call; IOV_MAX is 1024 on Linux and macOS.
_MAX_BUFFERS = 512
#: One `send` (a mebibyte at most) may take this many times its `timeout_s` in all: a peer that
#: takes a byte now and then keeps every single call within its limit.
_LONGEST_SEND = 10
_Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)


@dataclass(frozen=True, slots=True)
class Peer:
    """Where a peer is, what we call each other, and how long we wait for it (seconds)."""

    host: str
    port: int
    called_ae_title: str
    calling_ae_title: str
    connect_timeout_s: float = 10.0
    association_timeout_s: float = 30.0
    dimse_timeout_s: float = 60.0
    #: Makes TLS of a connection (`secure`); None: the peer is spoken to without.
    tls: TlsClient | None = None
    user_identity: pdu.UserIdentity | None = None
    #: Requests to have outstanding at once, where the peer agrees; 1: it is not asked.
    async_window: int = 1

    @property
    def name(self) -> str:
        """How messages call it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.called_ae_title} at {host}:{self.port}"


class Reachable(Protocol):
    """Where something is that can be connected to, and how long we wait for it (seconds)."""

    @property
    def host(self) -> str:
        """Its name or address."""
        ...

    @property
    def port(self) -> int:
        """Its TCP port."""
        ...

    @property
    def name(self) -> str:
        """How messages call it."""
        ...

    @property
    def connect_timeout_s(self) -> float:
        """Seconds until each of its addresses must answer, and again as many until TLS must."""
        ...

    @property
    def tls(self) -> TlsClient | None:
        """Makes TLS of a connection (`secure`); None: it is spoken to without."""
        ...


#: Address family and socket address of a peer.
SocketAddress = tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int]]


def resolve(peer: Reachable) -> Sequence[SocketAddress]:
    """Look up the peer's name; DestinationUnreachableError when nobody knows it."""
    try:
        found = socket.getaddrinfo(peer.host, peer.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise DestinationUnreachableError(
            f"there is no host named {peer.host}",
            hint="Check the spelling of the host and this machine's name service.",
        ) from error
    # The first place is for IPv4: many peers listen there only, and a host name has both.
    ordered = sorted(found, key=lambda row: row[0] != socket.AF_INET)
    return [(row[0], row[4]) for row in ordered]  # type: ignore[misc]  # int only without IPv6


def connect(peer: Reachable, addresses: Iterable[SocketAddress]) -> socket.socket:
    """Connect to the first address that answers, each within `connect_timeout_s`.

    Raises DestinationUnreachableError with the cause of the last failure in words.
    """
    failure: OSError = OSError("no address")
    for family, address in addresses:
        try:
            # Fails where the machine has no IPv6, or no descriptors left.
            connection = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            failure = error
            continue
        try:
            connection.settimeout(peer.connect_timeout_s)
            connection.connect(address)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        except OSError as error:
            connection.close()
            failure = error
        else:
            return connection
    cause, hint = _explain_connect(peer, failure)
    raise DestinationUnreachableError(f"{peer.name}: {cause}", hint=hint) from failure


def secure(peer: Reachable, connection: socket.socket) -> socket.socket:
    """Make TLS of a connection where the peer is spoken to so, within `connect_timeout_s`.

    Raises TlsRefusedError or DestinationUnreachableError; the connection is closed then.
    """
    if peer.tls is None:
        return connection
    return peer.tls.handshake(connection, peer.host, peer.name, peer.connect_timeout_s)


def _explain_connect(peer: Reachable, failure: OSError) -> tuple[str, str]:
    if isinstance(failure, ConnectionRefusedError):
        return (
            f"nothing listens on port {peer.port}",
            "Check the port, and that the peer's service is running.",
        )
    if isinstance(failure, TimeoutError):
        return (
            f"no connection within {peer.connect_timeout_s:g} s",
            "Check host and port, and whether a firewall lies between.",
        )
    return (
        f"no connection ({failure.strerror or type(failure).__name__})",
        "Check the network between this machine and the peer.",
    )


class Channel:
    """PDUs over one socket, with a limit to every wait."""

    def __init__(self, connection: socket.socket, peer: Peer) -> None:
        self._socket = connection
        self._secured = connection if isinstance(connection, ssl.SSLSocket) else None
        #: Takes what it can of several buffers, and says how many bytes.
        self._write: Callable[[Sequence[memoryview]], int] = (
            connection.sendmsg if self._secured is None else partial(send_joined, self._secured)
        )
        self._peer = peer
        #: Nothing more can be sent: the connection is gone, or a PDU is half sent.
        self.is_broken = False

    def send(self, buffers: Sequence[bytes | memoryview], timeout_s: float | None = None) -> None:
        """Send buffers in as few calls as they take; each call may wait `timeout_s`.

        The default is the peer's `dimse_timeout_s`; all calls together may take ten times that.
        """
        timeout_s = self._peer.dimse_timeout_s if timeout_s is None else timeout_s
        deadline = time.monotonic() + _LONGEST_SEND * timeout_s
        pending = [memoryview(buffer) for buffer in buffers]
        first = 0
        try:
            self._socket.settimeout(timeout_s)
            while first < len(pending):
                if time.monotonic() > deadline:
                    raise self._too_slow()
                sent = self._write(pending[first : first + _MAX_BUFFERS])
                while first < len(pending) and sent >= len(pending[first]):
                    sent -= len(pending[first])
                    first += 1
                if sent:
                    pending[first] = pending[first][sent:]
        except TimeoutError as error:
            self.is_broken = True
            raise AssociationLostError(
                f"{self._peer.name} took no data for {timeout_s:g} s",
                hint="The peer or the network between is stuck.",
            ) from error
        except OSError as error:
            cause = error if self._secured is None else last_word(self._secured, error)
            raise self._lost(cause) from error

    def receive(self, timeout_s: float, deadline: float | None = None) -> tuple[int, bytes]:
        """Return the type and body of the next PDU; it must be complete in `timeout_s`.

        `deadline` (monotonic) stands for a wait that began earlier. An A-ABORT is raised as
        AssociationLostError.
        """
        deadline = time.monotonic() + timeout_s if deadline is None else deadline
        kind, length = pdu.HEADER.unpack(self._read(pdu.HEADER.size, deadline, timeout_s))
        if length > _LONGEST_PDU:
            raise MalformedDicomError(f"a PDU of {length} bytes")
        body = self._read(length, deadline, timeout_s)
        if kind == pdu.A_ABORT:
            self.is_broken = True
            # One that is cut short is an abort all the same.
            words = explain_abort(*(body + bytes(4))[2:4])
            raise AssociationLostError(
                f"{self._peer.name} aborted the association: {words.reason}", hint=words.remedy
            )
        return kind, body

    def has_input(self) -> bool:
        """Say whether something (also the end of the connection) waits to be received.

        With TLS a part of it is lost by that: an association where it was not expected is over.
        """
        if self._secured is not None:
            return has_data(self._secured)
        # Asked before every instance: whatever needs a descriptor of its own costs as much as the
        # rest of a small one.
        with _Selector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            return bool(selector.select(0))

    def close(self) -> None:
        """Close the connection, also for a thread that waits for it; harmless when it is closed."""
        if self._secured is not None and not self.is_broken:
            say_goodbye(self._secured)
        hang_up(self._socket)
        self._socket.close()

    def _read(self, length: int, deadline: float, timeout_s: float) -> bytes:
        data = bytearray(length)
        view = memoryview(data)
        try:
            while view:
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    # Also a peer that talks all the time must come to an end.
                    raise TimeoutError
                self._socket.settimeout(left_s)
                acknowledge_at_once(self._socket)
                read = self._socket.recv_into(view)
                if read == 0:
                    self.is_broken = True
                    raise AssociationLostError(
                        f"{self._peer.name} closed the connection",
                        hint="Look at the peer's log for the reason.",
                    )
                view = view[read:]
        except TimeoutError as error:
            raise AssociationLostError(
                f"{self._peer.name} gave no answer within {timeout_s:g} s",
                hint="The peer or the network between is stuck.",
            ) from error
        except OSError as error:
            raise self._lost(error) from error
        return bytes(data)

    def _too_slow(self) -> AssociationLostError:
        self.is_broken = True
        return AssociationLostError(
            f"{self._peer.name} takes data too slowly",
            hint="The peer or the network between is overloaded or stuck.",
        )

    def _lost(self, error: OSError) -> DestinationUnreachableError:
        self.is_broken = True
        if self._peer.tls is not None and (
            refusal := self._peer.tls.refusal(self._peer.name, error)
        ):
            return refusal
        return AssociationLostError(
            f"the connection to {self._peer.name} broke ({words_of(error)})",
            hint="Look at the peer's log and at the network between.",
        )
