"""Instances that a peer sends because we asked for them, on their way into files.

The peer is not trusted: only UIDs that were asked for are taken, each once, no more bytes than one
instance and all that lies here together may have, and nothing that a peer says becomes part of a
path.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from dcmvault.dicom.part10 import scan
from dcmvault.dicom.received import part10_head
from dcmvault.errors import DcmvaultError, MalformedDicomError
from dcmvault.model.instance import InstanceHeader

#: Statuses for the peer (PS3.4 table B.2-1).
_TAKEN, _NO_ROOM, _OTHER_OBJECT, _CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xA900, 0xC000
#: Instances, and bytes of instances, that are thrown away before the peer is given up.
_MAX_UNTAKEN = 1000
_MAX_UNTAKEN_BYTES = 1 << 30

#: Says of an accepted presentation context what its abstract and transfer syntax are.
NamedContext = Callable[[int], tuple[str, str] | None]


class IncomingFile(Protocol):
    """A new file that is written from front to back, as `sources.fetched_files` has them."""

    @property
    def size(self) -> int:
        """Bytes written."""
        ...

    def write(self, piece: bytes) -> None:
        """Append; a DcmvaultError, and nothing written, once the file would be too long."""
        ...

    def finish(self) -> Path:
        """Close the file, which others can read now."""
        ...

    def drop(self) -> None:
        """Remove what was begun."""
        ...


@dataclass(slots=True)
class Room:
    """Bytes that may lie on this machine at once. Safe for threads."""

    most: int
    _taken: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, count: int) -> bool:
        """Say whether there is room for so many bytes more; they are counted then."""
        with self._lock:
            if self._taken + count > self.most:
                return False
            self._taken += count
            return True

    def take_beyond(self, count: int) -> None:
        """Count so many bytes more, whether there is room for them or not."""
        with self._lock:
            self._taken += count

    def give_back(self, count: int) -> None:
        """Say that so many bytes are gone."""
        with self._lock:
            self._taken -= count


@dataclass(frozen=True, slots=True)
class Received:
    """One instance that came: its Part 10 file, of which only the data set is the peer's."""

    path: Path
    header: InstanceHeader
    #: Where its bytes are counted as long as the file is there.
    room: Room


@dataclass(slots=True)
class Wanted:
    """Instances that are asked for together, and what came of them. Safe for threads.

    `take` is called with each instance that came, by the thread that received it.
    """

    uids: Collection[str]
    new_file: Callable[[], IncomingFile]
    room: Room
    take: Callable[[str, Received], None]
    #: Why an instance that came could not be taken, by UID.
    refused: dict[str, str] = field(default_factory=dict)
    #: Those of them that would come if there were room.
    without_room: set[str] = field(default_factory=set)
    #: Bytes that came so far, and instances: for whoever watches whether it goes on.
    arrived: int = 0
    _begun: set[str] = field(default_factory=set)
    _untaken: int = 0
    _untaken_bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begins(self, uid: str) -> bool:
        """Say whether this UID is still wanted; it is not any more, then."""
        with self._lock:
            if uid in self.uids and uid not in self._begun:
                self._begun.add(uid)
                return True
            self._untaken += 1
            if self._untaken > _MAX_UNTAKEN:
                raise MalformedDicomError("instances without end that were not asked for")
            return False

    def sink(self, named: NamedContext) -> Intake:
        """Make the StoreSink of one association."""
        return Intake(named, self)

    def thrown_away(self, count: int) -> None:
        """Count bytes that nobody keeps."""
        with self._lock:
            self._untaken_bytes += count
            if self._untaken_bytes > _MAX_UNTAKEN_BYTES:
                raise MalformedDicomError("bytes without end that nobody asked for")


class Intake:
    """A StoreSink for one association; several may take for the same Wanted."""

    def __init__(self, named: NamedContext, wanted: Wanted) -> None:
        self._named = named
        self._wanted = wanted
        self._uid = ""
        self._file: IncomingFile | None = None
        self._status = _TAKEN

    def begin(self, context_id: int, sop_class_uid: str, sop_instance_uid: str) -> None:
        """Begin an instance: say what becomes of it."""
        named = self._named(context_id)
        if named is None:
            raise MalformedDicomError("an instance under a presentation context that is none")
        self._status = _TAKEN
        if sop_class_uid != named[0] or not self._wanted.begins(sop_instance_uid):
            self._status = _CANNOT_UNDERSTAND
            return
        self._uid = sop_instance_uid
        self._file = self._wanted.new_file()
        self._append(part10_head(sop_class_uid, sop_instance_uid, named[1]))

    def write(self, data: bytes) -> None:
        """Go on with it, where it is taken."""
        self._wanted.arrived += len(data)
        if self._file is None:
            self._wanted.thrown_away(len(data))
        else:
            self._append(data)

    def end(self) -> int:
        """Hand it on, if it is what it was announced as."""
        if self._file is None:
            return self._status
        path = self._file.finish()
        try:
            header = scan(path)
        except MalformedDicomError as error:
            self._refuse(f"what the peer sent is not DICOM: {error.message}", _CANNOT_UNDERSTAND)
            return self._status
        if header.sop_instance_uid != self._uid:
            self._refuse("the peer sent another instance under this UID", _OTHER_OBJECT)
            return self._status
        self._file = None
        self._wanted.take(self._uid, Received(path, header, self._wanted.room))
        return _TAKEN

    def drop(self) -> None:
        """Remove what was begun and does not end."""
        if self._file is not None:
            self._file.drop()
            self._wanted.room.give_back(self._file.size)
            self._file = None

    def _append(self, data: bytes) -> None:
        assert self._file is not None
        if not self._wanted.room.take(len(data)):
            self._wanted.without_room.add(self._uid)
            self._refuse("there is no room for it beside what else is on its way", _NO_ROOM)
            return
        try:
            self._file.write(data)
        except DcmvaultError as error:
            self._wanted.room.give_back(len(data))
            self._refuse(error.message, _NO_ROOM)

    def _refuse(self, reason: str, status: int) -> None:
        self._wanted.refused[self._uid] = reason
        self._status = status
        self.drop()
