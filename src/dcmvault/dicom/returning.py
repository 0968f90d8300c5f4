"""Copies that a peer sends back because we asked for them, on their way to whoever compares them.

The peer is not trusted: only UIDs that were asked for are taken, no more bytes than instances of
that size can need, in files that nobody else can open and that are gone when they are closed or
this process ends.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, cast

from dcmvault.dicom.intake import NamedContext
from dcmvault.dicom.received import part10_head
from dcmvault.errors import AssociationLostError, DestinationError, MalformedDicomError

#: Copies under one UID: peers keep one for each patient, study and series.
MAX_COPIES = 4
#: Instances that were not asked for, and are thrown away, before the peer is given up.
_MAX_UNASKED = 1000
#: Bytes that may come back for a request: its files decompressed, and this much more.
_EXPANSION = 8
_LONGEST_S = 2 * 3600.0
_ROOM_BYTES = 256 << 20
#: Statuses for the peer (PS3.4 table B.2-1).
_TAKEN, _NO_ROOM, _NOT_ASKED_FOR = 0x0000, 0xA700, 0xC000


@dataclass(frozen=True, slots=True)
class WantedInstance:
    """What is asked for: its UID, and the size of its file in bytes."""

    sop_instance_uid: str
    size: int


class TooLargeError(DestinationError):
    """More comes back than instances of that size can be."""


class NotKeptError(DestinationError):
    """This machine cannot keep what comes back."""


#: Gets the UID and a Part 10 file, written to its end; it owns the file.
TakeCopy = Callable[[str, BinaryIO], None]


@dataclass(slots=True)
class Returning:
    """Instances that were asked for together, and what came of them. Safe for threads.

    `take` is called for one copy at a time, and must not take longer than a peer waits for an
    answer.
    """

    wanted: Sequence[WantedInstance]
    take: TakeCopy
    #: UIDs of copies that were larger than can be taken.
    too_large: set[str] = field(default_factory=set)
    #: Why this machine could not keep a copy; whoever asked may be another thread.
    failure: NotKeptError | None = None
    #: Seconds that everything may take: bytes that drop in one by one end, too.
    longest_s: float = _LONGEST_S
    #: Bytes that came so far: for whoever watches whether it goes on.
    arrived: int = 0
    _copies: Counter[str] = field(default_factory=Counter)
    _unasked: int = 0
    _room: int = 0
    _began: float = field(default_factory=time.monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _taking: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._room = _EXPANSION * sum(one.size for one in self.wanted) + _ROOM_BYTES

    @property
    def uids(self) -> frozenset[str]:
        """The UIDs that were asked for."""
        return frozenset(one.sop_instance_uid for one in self.wanted)

    def sink(self, named: NamedContext) -> ReturnSink:
        """Make the StoreSink of one association."""
        return ReturnSink(named, self)

    def begins(self, uid: str) -> bool:
        """Say whether a copy under this UID is taken; it is counted."""
        with self._lock:
            self._copies[uid] += 1
            if uid in self.uids and self._copies[uid] <= MAX_COPIES:
                return True
            self._unasked += 1
            if self._unasked > _MAX_UNASKED:
                raise MalformedDicomError("instances without end that were not asked for")
            return False

    def file(self) -> ReturnedFile:
        """Begin a copy; NotKeptError where no file can be made."""
        return ReturnedFile(self)

    def needs(self, count: int) -> None:
        """Take room for so many bytes more.

        Raises TooLargeError where there is none, AssociationLostError where it takes too long.
        """
        if time.monotonic() - self._began >= self.longest_s:
            raise AssociationLostError(
                f"what was asked for did not come within {self.longest_s:g} s",
                hint="The peer or the network between is stuck.",
            )
        with self._lock:
            self.arrived += count
            if self._room < count:
                raise TooLargeError("more comes back than instances of that size can be")
            self._room -= count

    def failed(self, error: OSError) -> NotKeptError:
        """Note that this machine cannot keep what comes; return the error to raise."""
        self.failure = NotKeptError(
            f"what came back could not be kept ({error.strerror or type(error).__name__})",
            hint="Check the room in the folder for temporary files (TMPDIR).",
        )
        return self.failure

    def hand_on(self, uid: str, file: BinaryIO) -> None:
        """Give a finished copy to whoever asked for it."""
        with self._taking:
            self.take(uid, file)


class ReturnedFile:
    """One copy that is written from front to back, in an unnamed temporary file (TMPDIR).

    Whoever began it ends it by `finish` or `drop`.
    """

    def __init__(self, returning: Returning) -> None:
        self._returning = returning
        try:
            file = tempfile.TemporaryFile(prefix="dcmvault-")  # noqa: SIM115 - `take` owns it
        except OSError as error:
            raise returning.failed(error) from error
        self._file = cast(BinaryIO, file)

    def write(self, piece: bytes | memoryview) -> None:
        """Append; TooLargeError beyond what can be, NotKeptError where the disk is full."""
        self._returning.needs(len(piece))
        try:
            self._file.write(piece)
        except OSError as error:
            raise self._returning.failed(error) from error

    def finish(self, uid: str) -> None:
        """Hand it on."""
        try:
            self._file.flush()
        except OSError as error:
            self.drop()
            raise self._returning.failed(error) from error
        self._returning.hand_on(uid, self._file)

    def drop(self) -> None:
        """Give it up."""
        self._file.close()


class ReturnSink:
    """Puts what comes on one association into files; what was not asked for is thrown away."""

    def __init__(self, named: NamedContext, returning: Returning) -> None:
        self._named = named
        self._returning = returning
        self._uid = ""
        self._file: ReturnedFile | None = None
        self._status = _TAKEN

    def begin(self, context_id: int, sop_class_uid: str, sop_instance_uid: str) -> None:
        """Begin an instance: say what becomes of it."""
        named = self._named(context_id)
        if named is None:
            raise MalformedDicomError("an instance under a presentation context that is none")
        is_wanted = self._returning.begins(sop_instance_uid)
        if not is_wanted or sop_class_uid != named[0]:
            self._status = _NOT_ASKED_FOR
            return
        self._uid, self._status = sop_instance_uid, _TAKEN
        self._file = self._returning.file()
        self._file.write(part10_head(sop_class_uid, sop_instance_uid, named[1]))

    def write(self, data: bytes) -> None:
        """Go on with it, where it is taken."""
        if self._file is None:
            return
        try:
            self._file.write(data)
        except TooLargeError:
            self.drop()
            self._status = _NO_ROOM
            self._returning.too_large.add(self._uid)

    def end(self) -> int:
        """Hand it on."""
        if self._file is not None:
            file, self._file = self._file, None
            file.finish(self._uid)
        return self._status

    def drop(self) -> None:
        """Give up what was begun and does not end."""
        if self._file is not None:
            self._file.drop()
            self._file = None
