"""A service of ours: who may connect, how many at once, and a thread for each association.

Whoever connects costs a thread and a little memory until it has begun an association; what a
place among the associations costs is given to those only who may have one. The oldest
connection that has not begun makes room for a new one, so that nobody holds the door.
"""

from __future__ import annotations

import errno
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from types import TracebackType
from typing import Any, Protocol, Self

from dcmvault.dicom import pdu, pdu_accepting
from dcmvault.dicom.inbound_channel import InboundChannel
from dcmvault.dicom.tls import hang_up
from dcmvault.errors import MalformedDicomError, StateError

_log = logging.getLogger(__name__)

#: Connections at once that have not begun an association.
_MAX_BEGINNING = 64
#: Bytes of an association request: 128 contexts with more transfer syntaxes than there are.
_LONGEST_REQUEST = 256 * 1024
#: Connections that the system keeps for us until we take them.
_BACKLOG = 128
#: Seconds until a connection is taken again after there was no descriptor or memory for one.
_EXHAUSTED_S = 0.2
#: Seconds between looks whether to stop: not everywhere does closing wake who accepts.
_POLL_S = 0.5
#: Seconds that a connection has to end which makes room for another.
_ROOM_S = 0.2
#: Seconds that open associations have to end.
_STOP_S = 10.0


@dataclass(frozen=True, slots=True)
class AllowedPeer:
    """Who may associate: an AE title (empty: any) from a network."""

    ae_title: str
    network: IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class ScpRules:
    """What the service is called, where it listens, whom it serves, and how long it waits (s)."""

    ae_title: str
    host: str = "127.0.0.1"
    port: int = 0
    #: Empty: whoever can connect.
    peers: Sequence[AllowedPeer] = ()
    max_associations: int = 16
    max_associations_per_peer: int = 8
    idle_timeout_s: float = 60.0
    #: Until the association is requested, TLS included (the ARTIM timer of PS3.8 section 9.1.5).
    artim_timeout_s: float = 10.0
    #: The section of the configuration that says so, for hints.
    section: str = "listener"


class Secures(Protocol):
    """Makes TLS of accepted connections."""

    def secured(self, connection: socket.socket) -> ssl.SSLSocket:
        """Return what stands for a connection from now on; its handshake is still to be done."""
        ...


@dataclass(slots=True, eq=False)
class _Connection:
    """One open connection; `address` is the peer's without its port."""

    socket: socket.socket
    address: str
    is_associated: bool = False
    is_ended: bool = False

    def end(self) -> None:
        """Wake up whoever waits for it."""
        self.is_ended = True
        hang_up(self.socket)

    def secure(self, tls: Secures, timeout_s: float) -> None:
        """Do the TLS handshake, all of it within `timeout_s`."""
        self.socket = tls.secured(self.socket)
        if self.is_ended:  # of a socket that this one stands for now
            raise ConnectionAbortedError
        self.socket.settimeout(timeout_s)
        self.socket.do_handshake()


@dataclass(frozen=True, slots=True)
class Connected:
    """An association that was asked for and will be accepted, and who asks."""

    channel: InboundChannel
    request: pdu_accepting.AssociationRequest
    #: Without its port.
    address: str
    #: Subject of the peer's certificate; empty where it showed none.
    certificate: str


class Attends(Protocol):
    """One association from its acceptance to its end, in a thread of its own."""

    def accept(self) -> None:
        """Send the A-ASSOCIATE-AC."""
        ...

    def serve(self) -> None:
        """Answer requests until the peer releases or aborts; raises what reading raises."""
        ...


class AssociationScp:
    """A service that accepts associations. Used as a context.

    `refused` is told the address and AE title of who was not let in.
    """

    def __init__(
        self,
        rules: ScpRules,
        attend: Callable[[Connected], Attends],
        tls: Secures | None = None,
        refused: Callable[[str, str], None] | None = None,
    ) -> None:
        self._rules = rules
        self._attendant = attend
        self._tls = tls
        self._refused = refused
        self._lock = threading.Lock()
        #: In the order in which they came.
        self._connections: dict[_Connection, threading.Thread] = {}
        self._listening: socket.socket | None = None
        self._stopping = threading.Event()

    @property
    def port(self) -> int:
        """The port it listens on."""
        assert self._listening is not None, "not started"
        port: int = self._listening.getsockname()[1]
        return port

    def __enter__(self) -> Self:
        """Begin to listen; StateError when the address cannot be had."""
        host, port = self._rules.host, self._rules.port
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._listening = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        except OSError as error:
            raise StateError(
                f"cannot listen on port {port}: {error.strerror}",
                hint=f"Choose another `port` in [{self._rules.section}]; below 1024 it needs"
                " special rights.",
            ) from error
        self._listening.settimeout(_POLL_S)
        threading.Thread(target=self._accept, name="association-scp", daemon=True).start()
        _log.info("listening as %s on port %d", self._rules.ae_title, self.port)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End every connection; what was not answered for stays with its sender."""
        assert self._listening is not None
        self._stopping.set()
        with suppress(OSError):  # not on every system
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        with self._lock:
            threads = dict(self._connections)
        for connection in threads:
            connection.end()
        deadline = time.monotonic() + _STOP_S
        for thread in threads.values():
            thread.join(max(deadline - time.monotonic(), 0))

    def _accept(self) -> None:
        assert self._listening is not None
        while not self._stopping.is_set():
            try:
                connected, address = self._listening.accept()
            except TimeoutError:
                continue
            except OSError as error:
                if self._stopping.is_set():
                    return
                if error.errno not in (errno.ECONNABORTED, errno.EINTR):
                    time.sleep(_EXHAUSTED_S)
                continue
            self._let_in(_Connection(connected, str(address[0]).partition("%")[0]))

    def _let_in(self, connection: _Connection) -> None:
        if not any(self._peers_at(connection.address)) and self._rules.peers:
            _log.warning("refused a connection from %s: not allowed", connection.address)
            self._tell_refused(connection.address, "")
            connection.socket.close()
            return
        thread = threading.Thread(
            target=self._attend, args=(connection,), name="association", daemon=True
        )
        if not self._make_room():
            _log.warning("refused a connection from %s: too many begin", connection.address)
            connection.socket.close()
            return
        with self._lock:
            if self._stopping.is_set():  # nobody would end it
                connection.socket.close()
                return
            try:
                # While it is looked for by nobody: whoever finds it may wait for it.
                thread.start()
            except RuntimeError:  # no more threads
                connection.socket.close()
                return
            self._connections[connection] = thread

    def _make_room(self) -> bool:
        """End the connection that has begun nothing for longest, if they are too many.

        False when there are too many all the same: one that was ended counts until it is gone.
        """
        with self._lock:
            beginning = {c: t for c, t in self._connections.items() if not c.is_associated}
            if len(beginning) < _MAX_BEGINNING:
                return True
            oldest = next((one for one in beginning if not one.is_ended), None)
            if oldest is not None:
                oldest.end()
        if oldest is None:
            return False
        beginning[oldest].join(_ROOM_S)
        return not beginning[oldest].is_alive()

    def _peers_at(self, address: str) -> list[AllowedPeer]:
        place = ip_address(address)
        mapped = getattr(place, "ipv4_mapped", None)
        return [peer for peer in self._rules.peers if (mapped or place) in peer.network]

    def _attend(self, connection: _Connection) -> None:
        """Serve a connection to its end; nothing that a peer sends gets further than this."""
        try:
            self._associate(connection)
        except MalformedDicomError as error:
            _log.warning("ended a connection from %s: %s", connection.address, error.message)
            with suppress(OSError):
                connection.socket.settimeout(1)
                connection.socket.sendall(
                    pdu_accepting.provider_abort(pdu_accepting.INVALID_PDU_PARAMETER)
                )
        except TimeoutError:
            _log.warning("ended a connection from %s: it was silent or slow", connection.address)
            with suppress(OSError):
                connection.socket.settimeout(1)
                connection.socket.sendall(pdu.abort())
        except OSError as error:
            _log.info("a connection from %s ended (%s)", connection.address, type(error).__name__)
        except Exception:  # noqa: BLE001 - the frame of its thread: the next peer is served
            _log.exception("a defect ended a connection from %s", connection.address)
        finally:
            self._forget(connection)

    def _forget(self, connection: _Connection) -> None:
        with self._lock:
            self._connections.pop(connection, None)
        connection.socket.close()

    def _associate(self, connection: _Connection) -> None:
        deadline = time.monotonic() + self._rules.artim_timeout_s
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if self._tls is not None:
            connection.secure(self._tls, self._rules.artim_timeout_s)
        channel = InboundChannel(connection.socket, wait_s=self._rules.artim_timeout_s)
        kind, body = channel.read_pdu(_LONGEST_REQUEST, deadline)
        if kind != pdu.A_ASSOCIATE_RQ:
            raise MalformedDicomError(f"PDU type {kind:02X} instead of an association request")
        request = pdu_accepting.read_request(body)
        rejection = self._refusal(request, connection)
        if rejection is not None:
            _log.warning(
                "rejected an association from %s (%d, %d, %d)",
                connection.address,
                rejection.result,
                rejection.source,
                rejection.reason,
            )
            self._tell_refused(connection.address, request.calling_ae_title)
            channel.send(pdu_accepting.associate_reject(rejection))
            return
        certificate = subject_of(connection.socket)
        association = self._attendant(Connected(channel, request, connection.address, certificate))
        association.accept()
        connection.socket.settimeout(self._rules.idle_timeout_s)
        association.serve()

    def _tell_refused(self, address: str, ae_title: str) -> None:
        if self._refused is not None:
            self._refused(address, ae_title)

    def _refusal(
        self, request: pdu_accepting.AssociationRequest, connection: _Connection
    ) -> pdu_accepting.Rejection | None:
        """Say why an association is rejected; with None it has its place."""
        if not request.is_version_1:
            return pdu_accepting.VERSION_NOT_SUPPORTED
        if request.application_context != pdu.APPLICATION_CONTEXT:
            return pdu_accepting.APPLICATION_CONTEXT_NOT_SUPPORTED
        if request.called_ae_title != self._rules.ae_title:
            return pdu_accepting.CALLED_AE_TITLE_NOT_RECOGNIZED
        titles = {peer.ae_title for peer in self._peers_at(connection.address)}
        if self._rules.peers and not {"", request.calling_ae_title} & titles:
            return pdu_accepting.CALLING_AE_TITLE_NOT_RECOGNIZED
        with self._lock:
            if connection.is_ended:  # it made room for another
                raise ConnectionAbortedError
            associated = [one for one in self._connections if one.is_associated]
            from_there = [one for one in associated if one.address == connection.address]
            if (
                len(associated) >= self._rules.max_associations
                or len(from_there) >= self._rules.max_associations_per_peer
            ):
                return pdu_accepting.LOCAL_LIMIT_EXCEEDED
            connection.is_associated = True
        return None


def subject_of(connection: socket.socket) -> str:
    """Return the subject of the certificate that a peer showed over TLS; empty for none."""
    if not isinstance(connection, ssl.SSLSocket):
        return ""
    shown = connection.getpeercert()
    names: Any = shown.get("subject", ()) if shown else ()
    return ", ".join(f"{name}={value}" for part in names for name, value in part)
