"""Requests for storage commitment and the reports on them: what is asked, and what is believed.

A report is believed only under a Transaction UID that was asked for and has had none yet, and only
of instances that the request named (PS3.4 section J.3.3). A peer that reports something else, or
twice, changes nothing.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from dcmvault.dicom import command as commands
from dcmvault.dicom.commitment_coding import (
    ALL_COMMITTED,
    COMMITMENT,
    COMMITMENT_INSTANCE,
    FAILURES_EXIST,
    Reference,
    read_report,
)
from dcmvault.errors import MalformedDicomError

_log = logging.getLogger(__name__)

_SUCCESS = 0x0000
#: PS3.7 Annex C.
_NO_SUCH_INSTANCE = 0x0112
_NO_SUCH_EVENT = 0x0113
_INVALID_ARGUMENT = 0x0115
_NO_SUCH_CLASS = 0x0118
#: Transactions that are remembered when nobody waits for them any more.
_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Reported:
    """What a peer reported of one request: of the instances that it named, and of no other.

    `failed` has Failure Reasons. What is in neither was left out, or said both of.
    """

    way: str
    at: datetime
    event_type: int
    committed: frozenset[Reference]
    failed: Mapping[Reference, int]
    #: References that nobody had asked for.
    unasked: int


class CommitmentTransactions:
    """The requests that wait for a report. Safe for threads."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        #: What was asked for, and what was reported of it.
        self._asked: dict[str, frozenset[Reference]] = {}
        self._reported: dict[str, Reported] = {}
        #: Given up, or heard of: a late or repeated report is taken, and changes nothing.
        self._over: deque[str] = deque(maxlen=_REMEMBERED)
        #: Reports that were refused.
        self.refused = 0
        self._changed = threading.Condition()

    def begin(self, references: Collection[Reference]) -> str:
        """Return a fresh Transaction UID for a request (PS3.5 Annex B.2)."""
        transaction_uid = f"2.25.{uuid.uuid4().int}"
        with self._changed:
            self._asked[transaction_uid] = frozenset(references)
        return transaction_uid

    def end(self, transaction_uid: str) -> Reported | None:
        """Stop waiting; return what was reported, None for nothing."""
        with self._changed:
            del self._asked[transaction_uid]
            self._over.append(transaction_uid)
            return self._reported.pop(transaction_uid, None)

    def open(self, transaction_uids: Sequence[str]) -> list[str]:
        """Return which of these have had no report yet."""
        with self._changed:
            return [uid for uid in transaction_uids if uid not in self._reported]

    def await_report(self, transaction_uids: Sequence[str], timeout_s: float) -> None:
        """Return when one of these that are open had its report, or after so many seconds."""
        with self._changed:
            self._changed.wait_for(
                lambda: any(uid in self._reported for uid in transaction_uids), timeout_s
            )

    def take(self, command: Mapping[int, bytes], data: bytes, way: str) -> int:
        """Take an N-EVENT-REPORT; return the status that answers it (PS3.7 section 10.1.1.1.8).

        Never raises: what cannot be believed is refused.
        """
        try:
            status = self._take(command, data, way)
        except MalformedDicomError as error:
            _log.warning("a report of storage commitment cannot be read: %s", error.message)
            status = _INVALID_ARGUMENT
        if status != _SUCCESS:
            with self._changed:
                self.refused += 1
            _log.warning("a report of storage commitment was refused with %04X", status)
        return status

    def _take(self, command: Mapping[int, bytes], data: bytes, way: str) -> int:
        if commands.uid(command, commands.AFFECTED_SOP_CLASS_UID) != COMMITMENT:
            return _NO_SUCH_CLASS
        if commands.uid(command, commands.AFFECTED_SOP_INSTANCE_UID) != COMMITMENT_INSTANCE:
            return _NO_SUCH_INSTANCE
        event_type = commands.number(command, commands.EVENT_TYPE_ID)
        if event_type not in (ALL_COMMITTED, FAILURES_EXIST):
            return _NO_SUCH_EVENT
        said = read_report(data)
        with self._changed:
            asked = self._asked.get(said.transaction_uid)
            if asked is None:
                return _SUCCESS if said.transaction_uid in self._over else _INVALID_ARGUMENT
            if said.transaction_uid in self._reported:
                return _SUCCESS
            committed, failed = set(said.committed), dict(said.failed)
            both = committed & failed.keys()
            self._reported[said.transaction_uid] = Reported(
                way,
                self._now(),
                event_type,
                asked & committed - both,
                {one: failed[one] for one in asked & failed.keys() - both},
                len((committed | failed.keys()) - asked),
            )
            self._changed.notify_all()
        return _SUCCESS
