"""What comes over a channel: DIMSE messages whole, or piece by piece (PS3.8 Annex E)."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator

from dcmvault.dicom import pdu
from dcmvault.dicom.channel import Channel, Peer
from dcmvault.errors import AssociationLostError, MalformedDicomError

#: Bytes of a command set, or of an identifier.
LONGEST_MESSAGE = 4 * 1024 * 1024
#: Seconds between looks whether something of which nothing is heard still makes sense.
_LOOK_S = 0.02


class Inbox:
    """Presentation data values of one association in the order of their coming, for one thread.

    Raises AssociationLostError when the peer ends the association, or lets us wait too long, and
    MalformedDicomError for what cannot be there. Both leave it unusable.
    """

    def __init__(self, peer: Peer, channel: Channel) -> None:
        self._peer = peer
        self._channel = channel
        #: Received and not used yet: one PDU may end one message and begin the next.
        self._values: deque[pdu.DataValue] = deque()

    @property
    def has_input(self) -> bool:
        """Whether something is there; with TLS a part of it is lost by asking."""
        return bool(self._values) or self._channel.has_input()

    def await_value(self, deadline: float) -> None:
        """Wait until a value is there; AssociationLostError when none is by `deadline`."""
        self._values.appendleft(self.next_value(deadline))

    def await_input(self, goes_on: Callable[[], bool]) -> None:
        """Wait until something is there; AssociationLostError when it does not go on before."""
        while not self.has_input:
            if not goes_on():
                raise AssociationLostError(
                    f"{self._peer.name} gave no answer for {self._peer.dimse_timeout_s:g} s",
                    hint="The peer or the network between is stuck.",
                )
            time.sleep(_LOOK_S)

    def next_value(self, deadline: float) -> pdu.DataValue:
        """Return the next value, which must be complete by `deadline` (monotonic)."""
        while not self._values:
            kind, body = self._channel.receive(self._peer.dimse_timeout_s, deadline)
            if kind == pdu.A_RELEASE_RQ:
                self._channel.send([pdu.release_response()])
                raise AssociationLostError(
                    f"{self._peer.name} ended the association instead of an answer"
                )
            if kind != pdu.P_DATA_TF:
                raise MalformedDicomError(f"PDU type {kind:02X} instead of data")
            self._values.extend(pdu.read_data_values(body))
        return self._values.popleft()

    def values_of(self, *, is_command: bool, ends_at: float) -> Iterator[pdu.DataValue]:
        """Yield the parts of one command set or data set, the last included.

        Each must come within `dimse_timeout_s`, all by `ends_at`.
        """
        while True:
            deadline = min(ends_at, time.monotonic() + self._peer.dimse_timeout_s)
            value = self.next_value(deadline)
            if value.is_command is not is_command:
                raise MalformedDicomError("a message inside another")
            yield value
            if value.is_last:
                return

    def whole(self, *, is_command: bool, ends_at: float) -> tuple[int, bytes]:
        """Return a command set, or the data set of an answer, and its presentation context."""
        gathered = bytearray()
        context_id = 0
        for value in self.values_of(is_command=is_command, ends_at=ends_at):
            if context_id not in (0, value.context_id):
                raise MalformedDicomError("a message under two presentation contexts")
            context_id = value.context_id
            gathered += value.fragment
            if len(gathered) > LONGEST_MESSAGE:
                raise MalformedDicomError("a message without an end")
        return context_id, bytes(gathered)

    def reply(self, context_id: int, command: bytes) -> None:
        """Send a short command set."""
        self._channel.send([pdu.command_pdu(context_id, command)])
