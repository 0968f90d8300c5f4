"""A port of ours to which a peer sends what a C-MOVE asked for (PS3.4 section C.4.2).

Nothing is open to the world for longer than something is being fetched: only hosts that the peer's
name means are let in, only who calls us by our name, and only UIDs that are being asked for are
taken. Data sets are streamed into files, never kept in memory.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Protocol, Self

from dcmvault.dicom import pdu
from dcmvault.dicom.association import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    IMPLICIT_VR_LITTLE_ENDIAN,
    VERIFICATION,
)
from dcmvault.dicom.association_request import (
    AssociationRequest,
    acceptance,
    read_request,
    rejection,
)
from dcmvault.dicom.channel import Channel, Peer
from dcmvault.dicom.command import is_usable_uid
from dcmvault.dicom.inbox import Inbox
from dcmvault.dicom.intake import NamedContext
from dcmvault.dicom.taking_in import StoreSink, take_stores
from dcmvault.dicom.transfer_syntaxes import MAYBE_LOSSY
from dcmvault.errors import (
    AssociationLostError,
    ConfigurationError,
    DcmvaultError,
    DestinationUnreachableError,
)

_log = logging.getLogger(__name__)

#: Associations with us at once; one more is closed at once.
_MAX_ASSOCIATIONS = 8
_MAXIMUM_LENGTH = 128 * 1024
#: Seconds until an association must be asked for (PS3.8 calls it the ARTIM timer).
_BEGIN_S = 10.0
#: Seconds that one association may take in all; each part has a limit of its own, too.
_LONGEST_S = 2 * 3600.0
_JOIN_S = 5.0
#: Seconds until the next try where this machine could not accept a connection.
_PAUSE_S = 0.2
#: Reasons of a rejection (PS3.8 table 9-21): called AE title not recognised.
_NOT_OUR_NAME = 7


class DroppingSink(StoreSink, Protocol):
    """A StoreSink that can be ended in the midst of an instance."""

    def drop(self) -> None:
        """Give up what was begun and does not end; harmless otherwise."""
        ...


class Expected(Protocol):
    """Instances that somebody asked a peer to send; safe for threads."""

    @property
    def uids(self) -> Collection[str]:
        """The UIDs that were asked for."""
        ...

    def sink(self, named: NamedContext) -> DroppingSink:
        """Make what takes the next instance of an association."""
        ...


class MoveReceiver:
    """Listens as `ae_title` while it is used as a context.

    `senders` are the addresses that may connect. `dimse_timeout_s` is how long each part of a
    message may take. Raises ConfigurationError when the port cannot be had.
    """

    def __init__(
        self, ae_title: str, host: str, port: int, senders: Collection[str], dimse_timeout_s: float
    ) -> None:
        self._ae_title = ae_title
        self._address = (host, port)
        self._senders = frozenset(senders)
        self._timeout_s = dimse_timeout_s
        self._listening: socket.socket | None = None
        self._acceptor: threading.Thread | None = None
        self._is_closing = threading.Event()
        self._open: dict[threading.Thread, socket.socket] = {}
        self._expected: list[Expected] = []
        self._lock = threading.Lock()

    @property
    def port(self) -> int:
        """The port it listens on."""
        assert self._listening is not None
        return int(self._listening.getsockname()[1])

    @contextmanager
    def expecting(self, wanted: Expected) -> Iterator[None]:
        """Take these instances, from whichever association they come."""
        with self._lock:
            self._expected.append(wanted)
        try:
            yield
        finally:
            with self._lock:
                self._expected.remove(wanted)

    def __enter__(self) -> Self:
        try:
            both = not self._address[0] and socket.has_dualstack_ipv6()
            self._listening = socket.create_server(
                self._address,
                family=socket.AF_INET6 if both or ":" in self._address[0] else socket.AF_INET,
                dualstack_ipv6=both,
            )
        except OSError as error:
            raise ConfigurationError(
                f"the port {self._address[1]} for what the PACS sends cannot be listened on:"
                f" {error.strerror or type(error).__name__}",
                hint="Choose another move_port here and at the PACS, or end who uses it.",
            ) from error
        self._acceptor = threading.Thread(target=self._accept, name="move-receiver", daemon=True)
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
            with self._lock:
                is_welcome = host in self._senders and len(self._open) < _MAX_ASSOCIATIONS
                if is_welcome:
                    thread = threading.Thread(
                        target=self._serve, args=(connection, host), daemon=True
                    )
                    self._open[thread] = connection
            if not is_welcome:
                _log.warning("a connection of %s for what a C-MOVE brings was refused", host)
                connection.close()
                continue
            try:
                thread.start()
            except RuntimeError as error:  # this machine has no more threads
                with self._lock:
                    del self._open[thread]
                connection.close()
                self._pause(str(error))

    def _pause(self, reason: str) -> None:
        """Wait before the next try, after what lacks on this machine for the moment."""
        if not self._is_closing.is_set():
            _log.warning("a connection for what a C-MOVE brings cannot be accepted: %s", reason)
            self._is_closing.wait(_PAUSE_S)

    def _serve(self, connection: socket.socket, host: str) -> None:
        peer = Peer(host, 0, "?", self._ae_title, dimse_timeout_s=self._timeout_s)
        channel = Channel(connection, peer)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._take(peer, channel)
        except AssociationLostError:
            pass  # released, or gone: whoever asked sees what came
        except DcmvaultError as error:
            _log.warning("what a C-MOVE brought was refused: %s", error.message)
            with suppress(DestinationUnreachableError):
                channel.send([pdu.abort()])
        except OSError as error:
            _log.error("what a C-MOVE brought cannot be kept: %s", error.strerror)
        finally:
            channel.close()
            with self._lock:
                del self._open[threading.current_thread()]

    def _take(self, peer: Peer, channel: Channel) -> None:
        kind, body = channel.receive(_BEGIN_S)
        if kind != pdu.A_ASSOCIATE_RQ:
            return
        request = read_request(body)
        if request.called_ae_title != self._ae_title:
            channel.send([rejection(_NOT_OUR_NAME)])
            return
        chosen = _chosen(request)
        channel.send(
            [
                acceptance(
                    request,
                    chosen,
                    maximum_length=_MAXIMUM_LENGTH,
                    implementation_class_uid=IMPLEMENTATION_CLASS_UID,
                    implementation_version=IMPLEMENTATION_VERSION_NAME,
                )
            ]
        )
        named = {
            one.context_id: (one.abstract_syntax_uid, chosen[one.context_id])
            for one in request.contexts
            if one.context_id in chosen
        }
        intake = _SharedIntake(named.get, self._wanted_for)
        try:
            take_stores(Inbox(peer, channel), intake, _LONGEST_S)
        finally:
            intake.drop()

    def _wanted_for(self, uid: str) -> Expected | None:
        """Return who waits for a UID, else anybody who waits, else nobody."""
        with self._lock:
            for wanted in self._expected:
                if uid in wanted.uids:
                    return wanted
            return self._expected[0] if self._expected else None


class _SharedIntake:
    """A StoreSink that gives each instance to whoever waits for it."""

    def __init__(self, named: NamedContext, wanted_for: Callable[[str], Expected | None]) -> None:
        self._named = named
        self._wanted_for = wanted_for
        self._intake: DroppingSink | None = None

    def begin(self, context_id: int, sop_class_uid: str, sop_instance_uid: str) -> None:
        """Begin an instance."""
        wanted = self._wanted_for(sop_instance_uid)
        if wanted is None:
            raise AssociationLostError("nothing is being fetched any more")
        self._intake = wanted.sink(self._named)
        self._intake.begin(context_id, sop_class_uid, sop_instance_uid)

    def write(self, data: bytes) -> None:
        """Go on with it."""
        assert self._intake is not None
        self._intake.write(data)

    def end(self) -> int:
        """Hand it on."""
        assert self._intake is not None
        intake, self._intake = self._intake, None
        return intake.end()

    def drop(self) -> None:
        """Remove what was begun and does not end."""
        if self._intake is not None:
            self._intake.drop()


def _chosen(request: AssociationRequest) -> Mapping[int, str]:
    """Choose transfer syntaxes: what the sender prefers, never compression with loss if not alone.

    Verification is accepted, and everything else as storage.
    """
    chosen = {}
    for one in request.contexts:
        usable = [uid for uid in one.transfer_syntax_uids if is_usable_uid(uid)]
        if one.abstract_syntax_uid == VERIFICATION:
            usable = [uid for uid in usable if uid == IMPLICIT_VR_LITTLE_ENDIAN]
        if usable:
            lossless = [uid for uid in usable if uid not in MAYBE_LOSSY]
            chosen[one.context_id] = (lossless or usable)[0]
    return chosen
