"""The journal: JSON lines in a chain of hashes, 0600, appended by several processes."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from dcmvault.audit.chain import (
    HEAD_FILE,
    START,
    Line,
    Position,
    Torn,
    file_name,
    file_numbers,
    read_head,
    tail_after,
)
from dcmvault.durability import make_durable, make_names_durable
from dcmvault.model.audit import Actor, ActorKind, AuditEvent, AuditKind, AuditOutcome

_log = logging.getLogger(__name__)

#: Bytes of a file after which the next one begins.
ROTATE_BYTES = 16 << 20
#: So many lines without a sync at most: accesses are many, and a power cut may cost the last ones.
_MOST_UNSYNCED = 256
#: UIDs in a line; their number is told where there are more.
_MOST_UIDS = 1000
_LONGEST_VALUE = 2000
#: Seconds until a lock that somebody holds is given up, and between looks.
_LONGEST_LOCK_S = 10.0
_LOCK_LOOK_S = 0.002


@dataclass(slots=True)
class Journal:
    """An AuditJournal in a folder. Safe for several threads and processes on one machine.

    Lines are appended under a lock of the file system. All but accesses are durable when `record`
    returns, and then the head remembers them.
    """

    folder: Path
    rotate_bytes: int = ROTATE_BYTES
    _threads: threading.Lock = field(default_factory=threading.Lock)
    #: The end as this process left it.
    _tail: Position | None = None
    _unsynced: int = 0

    def record(self, event: AuditEvent) -> bool:
        """Append an event; False, and a word in the log, where it could not be written."""
        try:
            self.append(event)
        except OSError as error:
            _log.error("an event could not be written to the audit journal: %s", error.strerror)
            return False
        return True

    def append(self, event: AuditEvent) -> Position:
        """Append an event; return where the journal ends now. OSError as it comes."""
        with self._locked():
            tail = self._known_tail(event.at)
            if tail.offset >= self.rotate_bytes:
                tail = self._next_file(tail, event.at)
            tail = self._write(tail, event)
            self._unsynced += 1
            if event.kind is not AuditKind.ACCESS or self._unsynced >= _MOST_UNSYNCED:
                self._sync(tail)
            self._tail = tail
            return tail

    def rotate(self, at: datetime) -> str:
        """Begin the next file, whose first line carries the chain over; return its name."""
        with self._locked():
            self._tail = tail = self._next_file(self._known_tail(at), at)
            return file_name(tail.number)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._threads:
            descriptor = self._lock_file()
            try:
                _lock(descriptor)
                yield
            except BaseException:
                self._tail = None  # what was written is looked for next time
                raise
            finally:
                os.close(descriptor)

    def _lock_file(self) -> int:
        """Open what is locked, and make the folder if there is none."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        try:
            return os.open(self.folder / "lock", flags, 0o600)
        except FileNotFoundError:
            # The state folder, too, is nobody else's: `parents` would leave it open.
            self.folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.folder.mkdir(mode=0o700, exist_ok=True)
            return os.open(self.folder / "lock", flags, 0o600)

    def _known_tail(self, at: datetime) -> Position:
        """Return the end; where the journal was left torn, or cut, a line says so first."""
        if (known := self._tail) is not None and self._is_end(known):
            return known
        self._unsynced = 0
        head = read_head(self.folder)
        if head is None:
            tail, torn = tail_after(self.folder, START)
            if tail is START and torn is None:
                return START
            return self._mend(tail, torn, {"reason": "head-lost"}, at)
        known_to_be_there = self._size(head.number) >= head.offset
        from_here = head if known_to_be_there else replace(head, offset=0, seq=0)
        tail, torn = tail_after(self.folder, from_here)
        if tail.seq < head.seq:
            # The line that was remembered is gone; its number is not given again.
            end = replace(head, number=max([head.number, *file_numbers(self.folder)]))
            return self._mend(
                end, torn, {"reason": "cut", "head_seq": head.seq, "head_sha256": head.sha256}, at
            )
        return tail if torn is None else self._mend(tail, torn, {"reason": "torn"}, at)

    def _is_end(self, tail: Position) -> bool:
        """Say whether nobody else wrote since."""
        is_last = not (self.folder / file_name(tail.number + 1)).exists()
        return is_last and self._size(tail.number) == tail.offset

    def _size(self, number: int) -> int:
        """Return the size of a file; -1 where there is none."""
        try:
            return (self.folder / file_name(number)).stat().st_size
        except FileNotFoundError:
            return -1

    def _mend(
        self, tail: Position, torn: Torn | None, details: dict[str, str | int], at: datetime
    ) -> Position:
        """End a torn line, and append one that says what was found."""
        if torn is not None:
            details |= {"torn_bytes": torn.bytes, "torn_sha256": torn.sha256}
            if torn.number > 1:
                details["torn_lines"] = torn.number
            tail = replace(tail, number=torn.last.number)
            if not torn.last.is_whole:
                self._append_bytes(torn.last.number, b"\n")
        actor = Actor(ActorKind.SERVICE, "dcmvault")
        event = AuditEvent(
            at, AuditKind.JOURNAL_MENDED, actor, AuditOutcome.MINOR_FAILURE, details=details
        )
        tail = self._write(tail, event)
        self._sync(tail)
        return tail

    def _next_file(self, tail: Position, at: datetime) -> Position:
        self._sync(tail)
        event = AuditEvent(
            at,
            AuditKind.JOURNAL_ROTATED,
            Actor(ActorKind.SERVICE, "dcmvault"),
            details={"previous": file_name(tail.number) if tail.seq else ""},
        )
        number = tail.number + 1 if tail.seq else tail.number
        tail = self._write(replace(tail, number=number), event)
        self._sync(tail)
        make_names_durable(self.folder)
        return tail

    def _write(self, tail: Position, event: AuditEvent) -> Position:
        """Append one line; return its end."""
        told = {"seq": tail.seq + 1, "prev": tail.sha256, **_document(event)}
        raw = json.dumps(told, separators=(",", ":")).encode("ascii")
        end = self._append_bytes(tail.number, raw + b"\n")
        line = Line(tail.number, 0, end, raw, is_whole=True)
        return Position(tail.number, end, tail.seq + 1, line.sha256)

    def _append_bytes(self, number: int, data: bytes) -> int:
        """Append all of it or nothing to a file, made if there is none; return where it ends."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self.folder / file_name(number), flags, 0o600)
        try:
            before = os.fstat(descriptor).st_size
            rest = memoryview(data)
            try:
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
            except OSError:
                # A disk that is full: each further attempt would leave a torn line, and of
                # several no line says that they are there.
                os.ftruncate(descriptor, before)
                raise
            return before + len(data)
        finally:
            os.close(descriptor)

    def _sync(self, tail: Position) -> None:
        """Make what was appended durable, then remember its end."""
        if not tail.seq:
            return
        self._unsynced = 0
        descriptor = os.open(self.folder / file_name(tail.number), os.O_RDONLY | os.O_CLOEXEC)
        try:
            make_durable(descriptor)
        finally:
            os.close(descriptor)
        told = {
            "file": tail.number,
            "offset": tail.offset,
            "seq": tail.seq,
            "sha256": tail.sha256,
        }
        fresh = self.folder / f".{HEAD_FILE}.new"
        with suppress(FileNotFoundError):
            fresh.unlink()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(fresh, flags, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            json.dump(told, file)
            file.flush()
            make_durable(file.fileno())
        fresh.replace(self.folder / HEAD_FILE)
        if tail.seq == 1:
            make_names_durable(self.folder)


def _lock(descriptor: int) -> None:
    """Take the lock; OSError where somebody holds it for long, so that no work stops for that."""
    ends_at = time.monotonic() + _LONGEST_LOCK_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > ends_at:
                raise
            time.sleep(_LOCK_LOOK_S)
        else:
            return


def _document(event: AuditEvent) -> dict[str, object]:
    """Return what a line says: what is empty is left out."""
    actor = event.actor
    who = {"kind": actor.kind.value, "name": actor.name, "address": actor.address}
    uids = event.study_instance_uids
    told: dict[str, object] = {
        "at": event.at.isoformat(timespec="milliseconds"),
        "event": event.kind.value,
        "outcome": event.outcome.value,
        "actor": {**who, "certificate": actor.certificate} if actor.certificate else who,
        "place": event.place[:_LONGEST_VALUE],
        "study_instance_uids": list(uids[:_MOST_UIDS]),
        "studies": len(uids) if len(uids) > _MOST_UIDS else 0,
        "details": _cut(event.details),
    }
    return {name: value for name, value in told.items() if value}


def _cut(details: Mapping[str, str | int | float]) -> dict[str, str | int | float]:
    return {
        name: value[:_LONGEST_VALUE] if isinstance(value, str) else value
        for name, value in details.items()
        if value != ""
    }
