"""The work of a restore at its target: files are written, counted, and read back."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace

from dcmvault.app.restore_report import (
    Counted,
    RestoredStudy,
    RestoreFailure,
    RestoreProgress,
    RestoreReport,
    WatchRestore,
    study_digest,
)
from dcmvault.errors import (
    DestinationError,
    DestinationStoppedError,
    DestinationUnreachableError,
    RunInterruptedError,
    VaultFormatError,
)
from dcmvault.i18n import gettext as _
from dcmvault.model.restored import FileToRestore, Parts, Restored
from dcmvault.ports.restore_target import RestoreTarget

#: Seconds between two looks at where a restore stands.
_WATCH_S = 0.2
#: Files at least so large are seen to grow.
_LARGE_BYTES = 16 << 20
#: So much of a file is handed on when it is read back: what stands before the pixel data.
_HEAD_BYTES = 4 << 20

#: Takes a study whose files were read back: its UID, and each file with its beginning.
TakeStudy = Callable[[str, list[tuple[FileToRestore, bytes]]], None]


def ends_all(error: DestinationError) -> bool:
    """Say whether an error is about a place as a whole, and not about one file."""
    # In the middle of a vault that was opened, another format is a rotten byte.
    return isinstance(
        error, DestinationUnreachableError | DestinationStoppedError
    ) and not isinstance(error, VaultFormatError)


@dataclass(slots=True)
class Restoring:
    """One restore's work at its target, by any number of threads."""

    target: RestoreTarget
    report: RestoreReport
    watch: WatchRestore
    stop: threading.Event
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    _progress: RestoreProgress = field(default_factory=RestoreProgress)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _ended: threading.Event = field(default_factory=threading.Event)
    _losses: dict[tuple[str, str], RestoreFailure] = field(default_factory=dict)
    #: Files that are not there: they are not looked for again.
    _failed: set[Parts] = field(default_factory=set)
    _next_look: float = 0.0

    def begin(self) -> None:
        """Say that everything which is selected is known, and is counted in the report."""
        selected = self.report.selected
        self._progress = RestoreProgress(planned=True, files=selected.files, bytes=selected.bytes)

    def end(self) -> None:
        """Show the end, and put what was lost first among the failures."""
        self.look(at_once=True)
        self.report.failures[:0] = self._losses.values()

    def side_by_side(self, tasks: Iterable[Callable[[], None]]) -> None:
        """Have workers do one task after the other, a few waiting; whatever ends one ends all."""
        with ThreadPoolExecutor(self.workers, thread_name_prefix="restore") as pool:
            pending: set[Future[None]] = set()
            try:
                for task in tasks:
                    pending.add(pool.submit(task))
                    pending = self._wait(pending, most=2 * self.workers)
                self._wait(pending, most=0)
            except BaseException:
                # An error, or Ctrl-C: the files under way are dropped.
                self._ended.set()
                raise

    def write(self, file: FileToRestore, pieces: Iterable[bytes]) -> None:
        """Write one file, or note why that cannot be; DestinationError where none can be."""
        counted = Counted()
        if file.size >= _LARGE_BYTES:
            pieces = self._counting(pieces, counted)
        failure: RestoreFailure | None = None
        became = Restored.WRITTEN
        try:
            became = self.target.write(file, pieces)
        except DestinationError as error:
            if ends_all(error):
                raise
            failure = _failure_of(file, error)
        with self._lock:
            self._advance(file.size - counted.bytes, files=1, failed=failure is not None)
            if failure is not None:
                self.report.failures.append(failure)
                self._failed.add(file.parts)
                return
            self.report.library_files += file.of_library
            written = became is Restored.WRITTEN
            (self.report.written if written else self.report.already_there).add(file.size)

    def read_back(
        self,
        studies: Iterable[tuple[str, list[FileToRestore]]],
        take: TakeStudy | None = None,
    ) -> None:
        """Read back, study by study, each file that is there; `take` is told of one at a time."""
        there = (self.report.written, self.report.already_there)
        self._progress = RestoreProgress(
            planned=True,
            reading_back=True,
            files=sum(one.files for one in there),
            bytes=sum(one.bytes for one in there),
        )
        self.side_by_side(self._reading_back(uid, files, take) for uid, files in studies)

    def lose(self, study_instance_uid: str, error: DestinationError) -> None:
        """Note that something of the source cannot be read, once however often it is met."""
        failure = RestoreFailure(error.code, error.message, error.hint, study_instance_uid)
        self._losses[study_instance_uid, error.message] = failure

    def fail(self, failure: RestoreFailure) -> None:
        """Note a file that the source cannot give."""
        with self._lock:
            self.report.failures.append(failure)
            self._advance(0, files=1, failed=True)

    def require_going(self) -> None:
        """Raise RunInterruptedError where the restore was stopped, or has failed elsewhere."""
        if self.stop.is_set() or self._ended.is_set():
            raise stopped()

    def look(self, *, at_once: bool = False) -> None:
        """Show where the restore stands, about five times a second."""
        now = time.monotonic()
        if at_once or now >= self._next_look:
            self._next_look = now + _WATCH_S
            self.watch(self._progress)
        if not at_once:
            self.require_going()

    def _wait(self, pending: set[Future[None]], most: int) -> set[Future[None]]:
        """Wait until no more than `most` tasks are under way."""
        while len(pending) > most:
            done, pending = wait(pending, timeout=_WATCH_S, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
            self.look()
        return pending

    def _counting(self, pieces: Iterable[bytes], counted: Counted) -> Iterator[bytes]:
        """Let a large file be seen to grow, and be given up in the middle."""
        for piece in pieces:
            self.require_going()
            yield piece
            counted.bytes += len(piece)
            with self._lock:
                self._advance(len(piece))

    def _advance(self, size: int, *, files: int = 0, failed: bool = False) -> None:
        before = self._progress
        self._progress = replace(
            before,
            done=before.done + files,
            done_bytes=before.done_bytes + size,
            failed=before.failed + failed,
        )

    def _reading_back(
        self, uid: str, files: list[FileToRestore], take: TakeStudy | None
    ) -> Callable[[], None]:
        def task() -> None:
            sound: list[tuple[FileToRestore, bytes]] = []
            for file in files:
                self.require_going()
                if file.parts not in self._failed and (head := self._proven(file)) is not None:
                    sound.append((file, head if take is not None else b""))
            if not sound:
                return
            kept = [file for file, _head in sound]
            size = sum(file.size for file in kept)
            study = RestoredStudy(uid, len(kept), size, study_digest(kept))
            with self._lock:
                # What belongs to a library as a whole is no study.
                if not kept[0].of_library:
                    self.report.restored.append(study)
                if take is not None:
                    take(uid, sound)

        return task

    def _proven(self, file: FileToRestore) -> bytes | None:
        """Read a file back; return its beginning, or None where it is not what it should be."""
        digest = hashlib.sha256()
        head = b""
        failure: RestoreFailure | None = None
        try:
            for piece in self.target.read_back(file):
                digest.update(piece)
                if len(head) < _HEAD_BYTES:
                    head += piece[: _HEAD_BYTES - len(head)]
        except DestinationError as error:
            if ends_all(error):
                raise
            failure = _failure_of(file, error)
        else:
            if digest.digest() != file.file_sha256:
                wrong = DestinationError(
                    "what was read back is not what was written",
                    hint="The disk may be failing: check it, and restore into another place.",
                )
                failure = _failure_of(file, wrong)
        with self._lock:
            self._advance(file.size, files=1, failed=failure is not None)
            if failure is not None:
                self.report.failures.append(failure)
                return None
            self.report.read_back.add(file.size)
        return head


def stopped() -> RunInterruptedError:
    """Make the error of a restore that is to stop."""
    return RunInterruptedError(
        _("The restore was stopped."),
        hint=_("What is there stays; the same command goes on where this one stopped."),
    )


def _failure_of(file: FileToRestore, error: DestinationError) -> RestoreFailure:
    return RestoreFailure(
        error.code,
        error.message,
        error.hint,
        file.study_instance_uid,
        file.sop_instance_uid,
        file.locator,
    )
