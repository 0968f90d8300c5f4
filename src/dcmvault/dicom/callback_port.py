"""A port of ours on which a peer calls us back: who is let in, how many at once, and for how long.

Nothing is open to the world for longer than something is awaited. Only hosts that the peer's name
means are let in; each association has a thread.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Self

from dcmvault.dicom import pdu
from dcmvault.dicom.association import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dcmvault.dicom.association_request import (
    AssociationRequest,
    acceptance,
    read_request,
    rejection,
)
from dcmvault.dicom.channel import Channel, Peer
from dcmvault.errors import AssociationLostError, DcmvaultError, DestinationUnreachableError

_log = logging.getLogger(__name__)

#: Associations with us at once; one more is closed at once.
_MAX_ASSOCIATIONS = 8
_MAXIMUM_LENGTH = 128 * 1024
#: Seconds until an association must be asked for (PS3.8 calls it the ARTIM timer).
_BEGIN_S = 10.0
_JOIN_S = 5.0
#: Seconds until the next try where this machine could not accept a connection.
_PAUSE_S = 0.2
#: Reasons of a rejection (PS3.8 table 9-21): called AE title not recognised.
_NOT_OUR_NAME = 7


class CallbackPort:
    """Listens as `ae_title` while it is used as a context.

    `senders` are the addresses that may connect; `serve` talks with each until it raises or is
    done. `awaited` names what is awaited, in the log. `dimse_timeout_s` is how long each part of a
    message may take. Entering raises OSError when the port cannot be had.
    """

    def __init__(
        self,
        ae_title: str,
        address: tuple[str, int],
        senders: Collection[str],
        dimse_timeout_s: float,
        serve: Callable[[Peer, Channel], None],
        awaited: str,
    ) -> None:
        self._ae_title = ae_title
        self._address = address
        self._senders = frozenset(senders)
        self._timeout_s = dimse_timeout_s
        self._talk = serve
        self._awaited = awaited
        self._listening: socket.socket | None = None
        self._acceptor: threading.Thread | None = None
        self._is_closing = threading.Event()
        self._open: dict[threading.Thread, socket.socket] = {}
        self._lock = threading.Lock()

    @property
    def port(self) -> int:
        """The port it listens on."""
        assert self._listening is not None
        return int(self._listening.getsockname()[1])

    def await_ends(self, timeout_s: float) -> None:
        """Wait until every association that stands has ended, at most for so long."""
        deadline = time.monotonic() + timeout_s
        with self._lock:
            standing = list(self._open)
        for thread in standing:
            thread.join(max(deadline - time.monotonic(), 0))

    def __enter__(self) -> Self:
        both = not self._address[0] and socket.has_dualstack_ipv6()
        self._listening = socket.create_server(
            self._address,
            family=socket.AF_INET6 if both or ":" in self._address[0] else socket.AF_INET,
            dualstack_ipv6=both,
        )
        self._acceptor = threading.Thread(target=self._accept, name="callback-port", daemon=True)
        self._acceptor.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._listening is not None
        assert self._acceptor is not None
        self._is_closing.set()
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._acceptor.join(_JOIN_S)
        with self._lock:
            still = dict(self._open)
        for connection in still.values():
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in still:
            thread.join(_JOIN_S)

    def _accept(self) -> None:
        assert self._listening is not None
        while not self._is_closing.is_set():
            try:
                connection, address = self._listening.accept()
            except OSError as error:
                self._pause(error.strerror or type(error).__name__)
                continue
            host = str(address[0]).removeprefix("::ffff:")
            try:
                is_welcome = self._attend(connection, host)
            except RuntimeError as error:  # this machine has no more threads
                connection.close()
                self._pause(str(error))
                continue
            if not is_welcome:
                _log.warning("a connection of %s for %s was refused", host, self._awaited)
                connection.close()

    def _attend(self, connection: socket.socket, host: str) -> bool:
        """Serve a connection in a thread of its own; False for who is not let in.

        Whoever finds the thread among those that stand may wait for it: it runs by then.
        """
        with self._lock:
            if host not in self._senders or len(self._open) >= _MAX_ASSOCIATIONS:
                return False
            thread = threading.Thread(target=self._serve, args=(connection, host), daemon=True)
            thread.start()
            self._open[thread] = connection
        return True

    def _pause(self, reason: str) -> None:
        """Wait before the next try, after what lacks on this machine for the moment."""
        if not self._is_closing.is_set():
            _log.warning("a connection for %s cannot be accepted: %s", self._awaited, reason)
            self._is_closing.wait(_PAUSE_S)

    def _serve(self, connection: socket.socket, host: str) -> None:
        peer = Peer(host, 0, "?", self._ae_title, dimse_timeout_s=self._timeout_s)
        channel = Channel(connection, peer)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._talk(peer, channel)
        except AssociationLostError:
            pass  # released, or gone: whoever asked sees what came
        except DcmvaultError as error:
            _log.warning("%s: refused: %s", self._awaited, error.message)
            with suppress(DestinationUnreachableError):
                channel.send([pdu.abort()])
        except OSError as error:
            _log.error("%s: cannot be kept: %s", self._awaited, error.strerror)
        finally:
            channel.close()
            with self._lock:
                del self._open[threading.current_thread()]


def welcome(
    channel: Channel,
    ae_title: str,
    choose: Callable[[AssociationRequest], Mapping[int, str]],
    scp_of: Collection[str] = (),
) -> Mapping[int, tuple[str, str]] | None:
    """Answer an association request; return abstract and transfer syntax of each context by id.

    `choose` gives the transfer syntaxes of those that are accepted; of the SOP classes in `scp_of`
    the peer may be SCP. None for who does not begin an association, or not with us.
    """
    kind, body = channel.receive(_BEGIN_S)
    if kind != pdu.A_ASSOCIATE_RQ:
        return None
    request = read_request(body)
    if request.called_ae_title != ae_title:
        channel.send([rejection(_NOT_OUR_NAME)])
        return None
    chosen = choose(request)
    channel.send(
        [
            acceptance(
                request,
                chosen,
                maximum_length=_MAXIMUM_LENGTH,
                implementation_class_uid=IMPLEMENTATION_CLASS_UID,
                implementation_version=IMPLEMENTATION_VERSION_NAME,
                scp_of=scp_of,
            )
        ]
    )
    return {
        one.context_id: (one.abstract_syntax_uid, chosen[one.context_id])
        for one in request.contexts
        if one.context_id in chosen
    }
