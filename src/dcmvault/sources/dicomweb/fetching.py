"""Retrieving instances over several connections at once, each into a private file of its own.

Answers come in the order in which instances were asked for. What is retrieved ahead is bounded in
number, and all that lies here in bytes: an instance for which no room is left is put off until it
is the next to be handed out. What is wrong with one instance ends that one only; a service that
refuses or loses everything is not asked for each instance anew.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from dcmvault.dicom.dicomweb import ServiceBusyError, seconds_until_next
from dcmvault.dicom.http_connection import HttpConnection
from dcmvault.dicom.idle_connections import IdleConnections
from dcmvault.dicom.intake import Room
from dcmvault.dicom.part10 import scan
from dcmvault.dicom.sentences import sentence
from dcmvault.dicom.wado import retrieve_instance
from dcmvault.dicom.web_access import WebAccess
from dcmvault.errors import (
    AssociationLostError,
    DcmvaultError,
    DestinationStoppedError,
    DestinationUnreachableError,
    EntryUnreadableError,
    MalformedDicomError,
)
from dcmvault.model.instance import (
    Fingerprint,
    InstanceEntry,
    InstanceFile,
    InstanceIdentity,
    UnreadableEntry,
)
from dcmvault.sources.fetched_files import FetchedFile, FetchedFiles

#: Instances on their way or waiting to be handed out, for each connection.
_AHEAD = 2
#: No further one is begun while those have so many bytes.
_BYTES_AHEAD = 256 << 20
#: DICOM objects have 32-bit lengths; larger than the largest that are made.
_LONGEST_FILE = 16 << 30
_ATTEMPTS = 3
#: After so many instances in sequence that were lost the service counts as gone.
_MOST_LOSSES = 3


@dataclass(frozen=True, slots=True)
class Wanted:
    """An entry to be retrieved, and whom it names."""

    entry: InstanceEntry
    identity: InstanceIdentity


class _AbandonedError(Exception):
    """Nobody waits for the answers any more."""


class _PutOffError(Exception):
    """There is no room for an instance beside the others that are on their way."""


@dataclass
class WebFetching:
    """Retrieves from one service for one reader."""

    access: WebAccess
    idle: IdleConnections
    connections: int
    #: For all files together that are on their way or handed out. No file begins to come without
    #: room but the one that is waited for: beyond it are that one and those handed out, at most.
    room: Room
    _over: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _at_work: set[HttpConnection] = field(default_factory=set)
    #: Instances in sequence that were lost.
    _losses: int = 0
    #: Why nothing is asked for any more.
    _gone: str = ""

    def answers(
        self, coming: Iterable[Wanted | UnreadableEntry], kept: int
    ) -> Generator[InstanceFile | UnreadableEntry]:
        """Answer for each in order; files are there as `Source.read` says."""
        waiting: deque[_Begun | UnreadableEntry] = deque()
        in_use: deque[_File] = deque()
        with (
            FetchedFiles(kept=kept, longest_file=_LONGEST_FILE) as files,
            ThreadPoolExecutor(self.connections, "wado") as pool,
        ):

            def next_answer() -> InstanceFile | UnreadableEntry:
                one = waiting.popleft()
                if isinstance(one, UnreadableEntry):
                    return one
                answer = self._answer(one, files, pool)
                if isinstance(answer, InstanceFile):
                    in_use.append(one.file)
                    files.hand_out(answer.path)
                    while len(in_use) > kept:
                        in_use.popleft().give_back()
                return answer

            try:
                for one in coming:
                    while waiting and not self._has_room(waiting):
                        yield next_answer()
                    waiting.append(self._begin(one, files, pool))
                while waiting:
                    yield next_answer()
            finally:
                self._abandon()

    def _has_room(self, waiting: Iterable[_Begun | UnreadableEntry]) -> bool:
        begun = [one for one in waiting if isinstance(one, _Begun)]
        bytes_ahead = sum(one.file.file.size for one in begun)
        return len(begun) < _AHEAD * self.connections and bytes_ahead < _BYTES_AHEAD

    def _begin(
        self, one: Wanted | UnreadableEntry, files: FetchedFiles, pool: ThreadPoolExecutor
    ) -> _Begun | UnreadableEntry:
        if isinstance(one, UnreadableEntry):
            return one
        try:
            file = _File(files.new(), self.room)
        except OSError as error:
            return refusal(one.entry, EntryUnreadableError, _no_room(error))
        return _Begun(one, pool.submit(self._fetch, one, file), file)

    def _answer(
        self, one: _Begun, files: FetchedFiles, pool: ThreadPoolExecutor
    ) -> InstanceFile | UnreadableEntry:
        """Wait for an answer; what was put off is retrieved now, whatever room is left."""
        try:
            return one.answer.result()
        except _PutOffError:
            try:
                one.file.file = files.new()
            except OSError as error:
                return refusal(one.wanted.entry, EntryUnreadableError, _no_room(error))
            one.file.is_waited_for = True
            return pool.submit(self._fetch, one.wanted, one.file).result()

    def _abandon(self) -> None:
        """End what is on its way; nobody waits for it."""
        self._over.set()
        with self._lock:
            for connection in self._at_work:
                connection.abandon()

    def _fetch(self, wanted: Wanted, file: _File) -> InstanceFile | UnreadableEntry:
        """Retrieve one instance, in several attempts if need be; _PutOffError without room."""
        entry = wanted.entry
        try:
            self._retrieve(wanted.identity, file)
            path = file.file.finish()
            return _accepted(wanted, path)
        except _PutOffError:
            file.drop()
            raise
        except (DcmvaultError, _AbandonedError, OSError) as error:
            file.drop()
            if isinstance(error, EntryUnreadableError):
                return refusal(entry, type(error), sentence(error.message))
            if isinstance(error, OSError):
                return refusal(entry, EntryUnreadableError, _no_room(error))
            message = error.message if isinstance(error, DcmvaultError) else "Nobody waits for it."
            return refusal(entry, EntryUnreadableError, sentence(message))

    def _retrieve(self, identity: InstanceIdentity, file: _File) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            self._require_wanted()
            try:
                self._attempt(identity, file)
            except DestinationStoppedError as error:
                self._gone = error.message
                raise
            except DestinationUnreachableError as error:
                if attempt == _ATTEMPTS:
                    self._lost(error)
                    raise
                file.empty()
                self._over.wait(seconds_until_next(error, attempt))
            else:
                self._losses = 0
                return

    def _attempt(self, identity: InstanceIdentity, file: _File) -> None:
        def write(piece: memoryview) -> None:
            if self._over.is_set():
                raise _AbandonedError
            file.write(piece)

        connection = self.idle.take(self.access.peer)
        with self.access.service(connection) as service:
            with self._lock:
                self._at_work.add(connection)
            try:
                retrieve_instance(service, identity, write)
                self.idle.keep(service.give_up())
            finally:
                with self._lock:
                    self._at_work.discard(connection)

    def _require_wanted(self) -> None:
        if self._over.is_set():
            raise _AbandonedError
        if self._gone:
            raise DestinationUnreachableError(self._gone)

    def _lost(self, error: DestinationUnreachableError) -> None:
        """Count an instance that could not be had, though the service may have it."""
        with self._lock:
            self._losses += 1
            is_away = not isinstance(error, AssociationLostError | ServiceBusyError)
            if is_away or self._losses >= _MOST_LOSSES:
                self._gone = error.message


@dataclass(slots=True)
class _File:
    """A file on its way, and the room that it takes: what is waited for, whatever is left."""

    file: FetchedFile
    room: Room
    is_waited_for: bool = False
    _taken: int = 0

    def write(self, piece: memoryview) -> None:
        """Append; _PutOffError, and nothing written, where there is no room."""
        if self.is_waited_for:
            self.room.take_beyond(len(piece))
        elif not self.room.take(len(piece)):
            raise _PutOffError
        self._taken += len(piece)
        self.file.write(piece)

    def empty(self) -> None:
        """Begin anew."""
        self.file.empty()
        self.give_back()

    def drop(self) -> None:
        """Remove it."""
        self.file.drop()
        self.give_back()

    def give_back(self) -> None:
        """Say that its bytes do not lie here any more."""
        self.room.give_back(self._taken)
        self._taken = 0


@dataclass(frozen=True, slots=True)
class _Begun:
    """An instance on its way into a file."""

    wanted: Wanted
    answer: Future[InstanceFile | UnreadableEntry]
    file: _File


def _accepted(wanted: Wanted, path: Path) -> InstanceFile:
    """Make sure that a file is what was asked for: only that is ever handed out."""
    try:
        header = scan(path)
    except MalformedDicomError as error:
        raise EntryUnreadableError(
            f"The service sends what cannot be read as DICOM: {error.message}"
        ) from error
    if header.identity != wanted.identity:
        raise EntryUnreadableError("The service sends another instance than was asked for.")
    status = path.stat()
    fetched = Fingerprint(status.st_size, status.st_mtime_ns, status.st_ino)
    return InstanceFile(wanted.entry, path, header, fetched)


def refusal(
    entry: InstanceEntry, kind: type[EntryUnreadableError], message: str
) -> UnreadableEntry:
    """Answer for an entry that cannot be had."""
    return UnreadableEntry(entry, kind.code, message)


def _no_room(error: OSError) -> str:
    return f"The file cannot be kept on this machine: {os.strerror(error.errno or 0)}."
