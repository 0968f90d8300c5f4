"""Reports of storage commitment on associations of our own, to peers that want them so.

PS3.4 section J.3.3: many equipment asks, releases, and waits for the N-EVENT-REPORT at an
address of its own.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Self

from dcmvault.dicom import command as commands
from dcmvault.dicom import pdu
from dcmvault.dicom.association import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from dcmvault.dicom.channel import Channel, Peer, connect, resolve, secure
from dcmvault.dicom.commitment_coding import COMMITMENT, Outcome, encode_report
from dcmvault.errors import DestinationUnreachableError, MalformedDicomError

_log = logging.getLogger(__name__)

#: Reports that wait; a peer whose report finds no place must ask again.
_MOST_WAITING = 1000
#: Seconds before each further attempt.
_PAUSES_S = (5.0, 30.0, 120.0)
_RELEASE_S = 5.0
_SHORTEST_PDU = 1024
_LONGEST_PDU = 64 * 1024
_MAXIMUM_LENGTH = 16 * 1024


class CommitmentReports:
    """Sends reports one after the other in a thread of its own. Used as a context.

    `peers` are known by the AE title under which they asked. What waits when it ends is lost:
    whoever has no report asks again (PS3.4 section J.3.2).
    """

    def __init__(self, peers: Mapping[str, Peer]) -> None:
        self._peers = peers
        self._waiting: queue.Queue[tuple[Peer, Outcome]] = queue.Queue(_MOST_WAITING)
        self._ending = threading.Event()

    def report(self, ae_title: str, outcome: Outcome) -> bool:
        """Take a report for a peer; False for one that wants it where it asked."""
        peer = self._peers.get(ae_title)
        if peer is None:
            return False
        try:
            self._waiting.put_nowait((peer, outcome))
        except queue.Full:
            _log.error("too many reports of storage commitment wait: one was dropped")
        return True

    def __enter__(self) -> Self:
        threading.Thread(target=self._work, name="commitment-reports", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ending.set()

    def _work(self) -> None:
        while not self._ending.is_set():
            try:
                peer, outcome = self._waiting.get(timeout=0.5)
            except queue.Empty:
                continue
            for pause_s in (0.0, *_PAUSES_S):
                if self._ending.wait(pause_s) or _reported(peer, outcome):
                    break
            else:
                _log.error("%s did not take its report of storage commitment", peer.name)


def _reported(peer: Peer, outcome: Outcome) -> bool:
    try:
        status = send_report(peer, outcome)
    except (DestinationUnreachableError, MalformedDicomError) as error:
        _log.warning("a report of storage commitment failed: %s", error.message)
        return False
    if status:
        _log.warning("%s answers a report of storage commitment with %04X", peer.name, status)
    return True


def send_report(peer: Peer, outcome: Outcome) -> int:
    """Send one report on an association of its own; return the status of its answer.

    Raises DestinationUnreachableError and MalformedDicomError.
    """
    return send_encoded_report(peer, *encode_report(1, outcome))


def send_encoded_report(peer: Peer, command: bytes, data: bytes) -> int:
    """Send a report whose command set and data set are encoded already, as by `send_report`."""
    channel = Channel(secure(peer, connect(peer, resolve(peer))), peer)
    try:
        context_id, longest = _associate(peer, channel)
        fragment = (max(_SHORTEST_PDU, min(longest, _LONGEST_PDU)) - pdu.PDV_HEADER.size) & ~1
        channel.send([pdu.data_pdus(context_id, command, fragment, is_command=True)])
        channel.send([pdu.data_pdus(context_id, data, fragment, is_command=False)])
        status = _answer(peer, channel)
        # A courtesy: the report is given.
        with suppress(DestinationUnreachableError, MalformedDicomError):
            channel.send([pdu.release_request()])
            channel.receive(_RELEASE_S)
        return status
    finally:
        channel.close()


def _associate(peer: Peer, channel: Channel) -> tuple[int, int]:
    """Make the association; return the context to use, and the longest PDU that is taken."""
    proposal = pdu.ContextProposal(COMMITMENT, (IMPLICIT_VR_LITTLE_ENDIAN,), peer_sends=True)
    request = pdu.associate_request(
        peer.called_ae_title,
        peer.calling_ae_title,
        (proposal,),
        maximum_length=_MAXIMUM_LENGTH,
        implementation_class_uid=IMPLEMENTATION_CLASS_UID,
        implementation_version=IMPLEMENTATION_VERSION_NAME,
    )
    channel.send([request])
    kind, body = channel.receive(peer.association_timeout_s)
    accepted = pdu.read_acceptance(body) if kind == pdu.A_ASSOCIATE_AC else None
    if accepted is None or not any(answer.result == 0 for answer in accepted.answers):
        raise DestinationUnreachableError(
            f"{peer.name} does not take reports of storage commitment",
            hint="Check `report_host` and `report_port` of this peer in [[listener.peers]].",
        )
    return pdu.context_id_of(0), accepted.maximum_length or _LONGEST_PDU


def _answer(peer: Peer, channel: Channel) -> int:
    """Return the status of the N-EVENT-REPORT-RSP, whose data set (if any) is not looked at."""
    deadline = time.monotonic() + peer.dimse_timeout_s
    command = b""
    while True:
        kind, body = channel.receive(peer.dimse_timeout_s, deadline)
        if kind != pdu.P_DATA_TF:
            raise MalformedDicomError(f"PDU type {kind:02X} instead of an answer")
        for value in pdu.read_data_values(body):
            if value.is_command:
                command += value.fragment
                if len(command) > _LONGEST_PDU:
                    raise MalformedDicomError("a message without an end")
                if value.is_last:
                    return commands.number(commands.decode_command(command), commands.STATUS)
