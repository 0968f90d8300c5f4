"""The door of our services: who waits, for how long, and how much one read may take.

pynetdicom gives a thread or two and a place among the associations to whoever connects, reads
as many bytes as a PDU announces, waits for them without a limit, loses its thread at a message
that it cannot decode, and forgets to close a connection that the peer has reset. Hence this door
in front of it.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from socketserver import BaseServer
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.events import EventHandlerType
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.transport import ThreadedAssociationServer

from dcmvault.dicom import pdu

_log = logging.getLogger(__name__)

#: Connections at once, associations included; one more is closed at once.
_MAX_CONNECTIONS = 128
#: Seconds within which a connection must begin an association (PS3.8 calls it the ARTIM timer).
_BEGIN_S = 10.0
#: Seconds that a PDU that has begun may take, and that a peer may take to accept our bytes.
_PDU_S = 60.0
#: The longest PDU that is read; we announce less, and no association request is longer.
_LONGEST_PDU = 1024 * 1024
#: What is looked at of an association request before it is let in.
_PEEKED = 64 * 1024
_PEEK_PAUSE_S = 0.02
#: "Unrecognized or invalid PDU received" (PS3.8 table 9-10): answered with an A-ABORT.
_INVALID_PDU = "Evt19"
_STOP_S = 10.0
#: Seconds between looks whether to stop.
_POLL_S = 0.1


class GuardedAcceptor(ThreadedAssociationServer):
    """The acceptor of pynetdicom, with limits to what a connection may cost, and a prompt end."""

    daemon_threads = True
    #: Connections that the system may keep for us until we take them.
    request_queue_size = _MAX_CONNECTIONS

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._places = threading.BoundedSemaphore(_MAX_CONNECTIONS)
        self._lock = threading.Lock()
        #: Every open connection, and its association once there is one.
        self._connections: dict[socket.socket, Association | None] = {}
        super().__init__(*arguments, **options)
        self.bind(evt.EVT_CONN_OPEN, self._guard)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self.server_address[1]

    def serve_in_background(self) -> None:
        """Begin to accept connections in a thread of its own."""
        accept = partial(self.serve_forever, _POLL_S)
        threading.Thread(target=accept, name="dicom-acceptor", daemon=True).start()

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002
        """Say whether there is a place for one more connection (socketserver's hook)."""
        return self._places.acquire(blocking=False)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Let in what begins an association; stay to its end, and close the connection."""
        with self._lock:
            self._connections[request] = None
        try:
            if _begins_association(request):
                request.settimeout(_PDU_S)
                super().process_request_thread(request, client_address)
                association = self._connections[request]
                if association is not None:
                    association.join()
        finally:
            with self._lock:
                del self._connections[request]
            request.close()
            self._places.release()

    def shutdown(self) -> None:
        """Stop accepting, and end every connection."""
        BaseServer.shutdown(self)
        self.server_close()
        with self._lock:
            connections = dict(self._connections)
        for connection in connections:
            _end(connection)
        for association in filter(None, connections.values()):
            association.abort()
            # Wakes up one that still waits for its request.
            association.dul.to_user_queue.put(None)
            association.join(_STOP_S)

    def _guard(self, event: evt.Event) -> None:
        """Note the association of a connection, and put our reading in place of the library's."""
        wrapped = event.assoc.dul.socket
        if wrapped is None or wrapped.socket is None:
            return
        # A response goes out in two small segments.
        wrapped.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wrapped.recv = partial(_receive, wrapped.socket)  # type: ignore[method-assign]
        dimse = event.assoc.dimse
        dimse.receive_primitive = partial(  # type: ignore[method-assign]
            _take_in, event.assoc, dimse.receive_primitive
        )
        with self._lock:
            self._connections[wrapped.socket] = event.assoc


def serve(
    entity: AE, address: tuple[str, int], handlers: Sequence[EventHandlerType]
) -> GuardedAcceptor:
    """Listen on an address as this application entity; OSError when it cannot be had."""
    acceptor = entity.make_server(
        address, evt_handlers=list(handlers), server_class=GuardedAcceptor
    )
    assert isinstance(acceptor, GuardedAcceptor)
    acceptor.serve_in_background()
    return acceptor


def _begins_association(connection: socket.socket) -> bool:
    """Wait until an A-ASSOCIATE-RQ lies ready, as far as we look; False when none comes."""
    deadline = time.monotonic() + _BEGIN_S
    wanted = pdu.HEADER.size
    try:
        while (left_s := deadline - time.monotonic()) > 0:
            connection.settimeout(left_s)
            seen = connection.recv(wanted, socket.MSG_PEEK)
            if not seen:
                return False
            if len(seen) < wanted:
                time.sleep(_PEEK_PAUSE_S)
            elif wanted > pdu.HEADER.size:
                return True
            else:
                kind, length = pdu.HEADER.unpack(seen)
                if kind != pdu.A_ASSOCIATE_RQ or length > _LONGEST_PDU:
                    return False
                wanted = min(pdu.HEADER.size + length, _PEEKED)
    except OSError:  # too late, or gone
        return False
    return False


def _receive(connection: socket.socket, length: int) -> bytearray:
    """Read exactly `length` bytes, fewer at the end of the connection (as pynetdicom's own).

    Raises OSError for more than a PDU may have, and when they do not come in time.
    """
    if length > _LONGEST_PDU:
        raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
    deadline = time.monotonic() + _PDU_S
    data = bytearray(length)
    filled = 0
    while filled < length:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        connection.settimeout(left_s)
        read = connection.recv_into(memoryview(data)[filled:])
        if read == 0:
            break
        filled += read
    connection.settimeout(_PDU_S)
    return data[:filled]


def _take_in(
    association: Association, receive_primitive: Callable[[P_DATA], None], data: P_DATA
) -> None:
    """Let pynetdicom decode a part of a message, and end the association when it cannot."""
    try:
        receive_primitive(data)
    except Exception as error:  # noqa: BLE001 - the frame of its thread: else the thread dies
        _log.warning("a peer sent what is no message (%s)", type(error).__name__)
        association.dul.event_queue.put(_INVALID_PDU)


def _end(connection: socket.socket) -> None:
    """Wake up whoever reads from a connection."""
    try:
        connection.shutdown(socket.SHUT_RD)
    except OSError:  # it ended by itself
        return
