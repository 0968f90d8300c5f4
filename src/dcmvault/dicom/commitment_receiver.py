"""A port of ours to which a peer brings reports of storage commitment (PS3.4 section J.3.3).

The peer associates as SCP of the service (role selection, PS3.7 Annex D.3.3.4), as most do.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from dcmvault.dicom import command as commands
from dcmvault.dicom.association import IMPLICIT_VR_LITTLE_ENDIAN, VERIFICATION
from dcmvault.dicom.association_request import AssociationRequest
from dcmvault.dicom.callback_port import CallbackPort, welcome
from dcmvault.dicom.channel import Channel, Peer
from dcmvault.dicom.commitment_coding import COMMITMENT
from dcmvault.dicom.inbox import Inbox
from dcmvault.dicom.messages import EventSink
from dcmvault.errors import DestinationError, MalformedDicomError

#: Seconds that one association may take in all; each part has a limit of its own, too.
_LONGEST_S = 600.0
#: Seconds between tries for a port that somebody else has.
_PORT_PAUSE_S = 0.1
#: Seconds that peers have to end their associations when nothing is awaited any more.
_COURTESY_S = 1.0
_SUCCESS = 0x0000


class CommitmentReceiver:
    """Listens while at least one request waits. Safe for threads.

    A port that is taken (another destination of ours waits at it, too) is waited for.
    """

    def __init__(
        self,
        ae_title: str,
        address: tuple[str, int],
        dimse_timeout_s: float,
        sink: EventSink,
    ) -> None:
        self._ae_title = ae_title
        self._address = address
        self._timeout_s = dimse_timeout_s
        self._sink = sink
        self._waiting = 0
        self._port: CallbackPort | None = None
        self._lock = threading.Lock()

    @contextmanager
    def listening(self, senders: Callable[[], Collection[str]], timeout_s: float) -> Iterator[None]:
        """Listen meanwhile; DestinationError where the port is not free within `timeout_s`."""
        with self._lock:
            if not self._waiting:
                self._listen(senders(), time.monotonic() + timeout_s)
            self._waiting += 1
        try:
            yield
        finally:
            with self._lock:
                self._waiting -= 1
                if not self._waiting:
                    self._close()

    def _listen(self, senders: Collection[str], deadline: float) -> None:
        while True:
            port = CallbackPort(
                self._ae_title,
                self._address,
                senders,
                self._timeout_s,
                self._serve,
                "commitment",
            )
            try:
                port.__enter__()
            except OSError as error:
                if time.monotonic() > deadline:
                    raise DestinationError(
                        f"the port {self._address[1]} for reports of storage commitment cannot be"
                        f" listened on: {error.strerror or type(error).__name__}",
                        hint="Choose another commitment_port here and at the PACS, or end who"
                        " uses it.",
                    ) from error
                time.sleep(_PORT_PAUSE_S)
            else:
                self._port = port
                return

    def _close(self) -> None:
        """Stop listening; who brought a report may hear that it was taken, and release."""
        assert self._port is not None
        port, self._port = self._port, None
        port.await_ends(_COURTESY_S)
        port.__exit__(None, None, None)

    def _serve(self, peer: Peer, channel: Channel) -> None:
        named = welcome(channel, self._ae_title, _chosen, {COMMITMENT})
        if named is None:
            return
        inbox = Inbox(peer, channel)
        ends_at = time.monotonic() + _LONGEST_S
        while True:
            context_id, encoded = inbox.whole(is_command=True, ends_at=ends_at)
            abstract_syntax_uid, _syntax = named.get(context_id, ("", ""))
            command = commands.decode_command(encoded)
            answer = partial(_reply, inbox, context_id, command)
            field = commands.number(command, commands.COMMAND_FIELD)
            has_data = commands.number(command, commands.DATA_SET_TYPE) != commands.NO_DATA_SET
            if field == commands.C_ECHO_RQ and abstract_syntax_uid == VERIFICATION and not has_data:
                answer(_SUCCESS)
            elif field == commands.N_EVENT_REPORT_RQ and abstract_syntax_uid == COMMITMENT:
                data = b""
                if has_data:
                    of_data, data = inbox.whole(is_command=False, ends_at=ends_at)
                    if of_data != context_id:
                        raise MalformedDicomError("a data set under another presentation context")
                answer(self._sink(command, data))
            else:
                raise MalformedDicomError(f"a request {field:04X} that nobody offered to serve")


def _reply(inbox: Inbox, context_id: int, command: Mapping[int, bytes], status: int) -> None:
    inbox.reply(context_id, commands.encode_response(command, status))


def _chosen(request: AssociationRequest) -> Mapping[int, str]:
    return {
        one.context_id: IMPLICIT_VR_LITTLE_ENDIAN
        for one in request.contexts
        if one.abstract_syntax_uid in (COMMITMENT, VERIFICATION)
        and IMPLICIT_VR_LITTLE_ENDIAN in one.transfer_syntax_uids
    }
