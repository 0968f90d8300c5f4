"""From the journal to a collector, in order: what could not be sent waits in the journal.

The journal is the store, and a file beside it remembers how far a collector has come. So nothing
is written twice, and any process may go on where another one stopped.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Self

from dcmvault.audit.chain import START, Checked, Position, check, file_name, read_head
from dcmvault.audit.dicom_message import AuditSource, dicom_message
from dcmvault.audit.syslog import Collector, syslog_message
from dcmvault.errors import CollectorError, DcmvaultError

_log = logging.getLogger(__name__)

STATE_FILE = "forwarded.json"
#: Lines that travel together.
_BATCH = 100
#: Lines that are left out in one turn: a million at once would be long, and large.
_MOST_SKIPPED = 20_000
#: Seconds between looks for something to send, and after a failure, doubled each time.
_LOOK_S = 1.0
_LONGEST_WAIT_S = 60.0
#: Seconds until a thread that sends is left alone at the end.
_JOIN_S = 2.0


@dataclass(frozen=True, slots=True)
class Forwarded:
    """How far a collector has come."""

    position: Position = START
    #: Lines that were never sent, because too many waited.
    skipped: int = 0


@dataclass(slots=True)
class Forwarding:
    """Sends what a collector does not have. One process at a time does."""

    folder: Path
    collector: Collector
    source: AuditSource
    #: Lines that may wait; older ones are not sent any more. The journal keeps them.
    most_waiting: int

    def waiting(self) -> int:
        """Return how many lines wait, as far as the head knows."""
        head = read_head(self.folder)
        return max(head.seq - self.state().position.seq, 0) if head is not None else 0

    def state(self) -> Forwarded:
        """Return how far this collector has come; another one begins anew."""
        try:
            told = json.loads((self.folder / STATE_FILE).read_bytes())
            if told["collector"] != self.collector.name:
                return Forwarded()
            position = Position(told["file"], told["offset"], told["seq"], told["sha256"])
            return Forwarded(position, told["skipped"])
        except (OSError, ValueError, KeyError, TypeError):
            return Forwarded()

    def forward(self, most_s: float = float("inf")) -> int:
        """Send all that waits, in order; return how many lines the collector got.

        After `most_s` seconds no further batch is begun. CollectorError where it cannot be
        reached; what it took before that counts. 0 where another process sends.
        """
        sent = 0
        ends_at = time.monotonic() + most_s
        with self._alone() as alone:
            while alone and time.monotonic() < ends_at:
                state = self.state()
                if self._leave_out_the_oldest(state):
                    continue
                batch = list(islice(check(self.folder, state.position), _BATCH))
                batch = [one for one in batch if one.line.is_whole]
                if not batch:
                    break
                taken = self._send(batch)
                self._remember(replace(state, position=_end_of(batch[:taken], state.position)))
                sent += taken
                if taken < len(batch):
                    raise CollectorError(f"the audit collector {self.collector.name} went away")
        return sent

    def _send(self, batch: list[Checked]) -> int:
        """Send a batch; return how many of its lines are done with."""
        messages: list[bytes] = []
        numbers: list[int] = []
        for number, one in enumerate(batch):
            if (message := self._message(one)) is not None:
                messages.append(message)
                numbers.append(number)
        taken = self.collector.send(messages)
        return len(batch) if taken == len(messages) else numbers[taken]

    def _message(self, one: Checked) -> bytes | None:
        record = one.record
        if record is None:
            return None
        name = f"{file_name(one.line.number)}#{record['seq']}"
        try:
            xml = dicom_message(record, self.source, name, one.line.sha256)
            at = datetime.fromisoformat(record["at"])
        except (ValueError, KeyError, TypeError, AttributeError):
            _log.warning("a line of the audit journal is not as ours: %s", name)
            return None
        return None if xml is None else syslog_message(xml, self.source.host, at)

    def _leave_out_the_oldest(self, state: Forwarded) -> bool:
        """Leave out some of what is too much, and remember it; False where nothing is."""
        head = read_head(self.folder)
        too_many = (head.seq - state.position.seq if head else 0) - self.most_waiting
        if too_many <= 0:
            return False
        _log.warning("%d lines of the audit journal are not sent: too many waited", too_many)
        number = min(too_many, _MOST_SKIPPED)
        end = _end_of(islice(check(self.folder, state.position), number), state.position)
        if end == state.position:
            return False
        self._remember(Forwarded(end, state.skipped + number))
        return True

    def _remember(self, state: Forwarded) -> None:
        at = state.position
        told = {
            "collector": self.collector.name,
            "file": at.number,
            "offset": at.offset,
            "seq": at.seq,
            "sha256": at.sha256,
            "skipped": state.skipped,
        }
        fresh = self.folder / f".{STATE_FILE}.new"
        with suppress(FileNotFoundError):
            fresh.unlink()
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            json.dump(told, file)
        fresh.replace(self.folder / STATE_FILE)

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """Yield whether nobody else sends."""
        if not self.folder.is_dir():
            yield False
            return
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self.folder / "forward.lock", flags, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(descriptor)


def _end_of(lines: Iterable[Checked], before: Position) -> Position:
    """Return where these lines end; what is none of ours moves the place, not the number."""
    for one in lines:
        line, record = one.line, one.record
        if record is None:
            before = replace(before, number=line.number, offset=line.end)
        else:
            before = Position(line.number, line.end, record["seq"], line.sha256)
    return before


@dataclass(slots=True)
class ForwardingThread:
    """Forwards while a service runs: a context. A last attempt is made at its end."""

    forwarding: Forwarding
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, name="audit-forwarding", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_JOIN_S)

    def _run(self) -> None:
        wait_s = _LOOK_S
        while True:
            is_last = self._stop.wait(wait_s)
            try:
                self.forwarding.forward()
                wait_s = _LOOK_S
            except (DcmvaultError, OSError) as error:
                if wait_s == _LOOK_S:
                    _log.warning("audit messages wait: %s", error)
                wait_s = min(wait_s * 2, _LONGEST_WAIT_S)
            if is_last:
                return
