"""A port of ours to which a peer sends what a C-MOVE asked for (PS3.4 section C.4.2).

Nothing is open to the world for longer than something is being fetched: only hosts that the peer's
name means are let in, only who calls us by our name, and only UIDs that are being asked for are
taken. Data sets are streamed into files, never kept in memory.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol, Self

from dcmvault.dicom.association import (
    IMPLICIT_VR_LITTLE_ENDIAN,
    VERIFICATION,
)
from dcmvault.dicom.association_request import AssociationRequest
from dcmvault.dicom.callback_port import CallbackPort, welcome
from dcmvault.dicom.channel import Channel, Peer
from dcmvault.dicom.command import is_usable_uid
from dcmvault.dicom.inbox import Inbox
from dcmvault.dicom.intake import NamedContext
from dcmvault.dicom.taking_in import StoreSink, take_stores
from dcmvault.dicom.transfer_syntaxes import MAYBE_LOSSY
from dcmvault.errors import AssociationLostError, ConfigurationError

#: Seconds that one association may take in all; each part has a limit of its own, too.
_LONGEST_S = 2 * 3600.0


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
        self._number = port
        self._port = CallbackPort(
            ae_title, (host, port), senders, dimse_timeout_s, self._take, "C-MOVE"
        )
        self._expected: list[Expected] = []
        self._lock = threading.Lock()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._port.port

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
            self._port.__enter__()
        except OSError as error:
            raise ConfigurationError(
                f"the port {self._number} for what the PACS sends cannot be listened on:"
                f" {error.strerror or type(error).__name__}",
                hint="Choose another move_port here and at the PACS, or end who uses it.",
            ) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._port.__exit__(kind, error, traceback)

    def _take(self, peer: Peer, channel: Channel) -> None:
        named = welcome(channel, self._ae_title, _chosen)
        if named is None:
            return
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
