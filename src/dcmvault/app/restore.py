"""Restore: files come out of a vault into a folder, bit for bit, each verified as it is written."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from dcmvault.app.restore_plan import RestorePlan, RestoreTask
from dcmvault.app.restore_targets import restore_target
from dcmvault.app.restored_names import PathRegister
from dcmvault.app.vault_access import open_named_vault
from dcmvault.config.sections import VaultSection
from dcmvault.config.settings import Settings
from dcmvault.errors import DestinationError, RunInterruptedError, UsageError
from dcmvault.i18n import gettext as _
from dcmvault.model.restored import Layout, Restored, RestoreScope
from dcmvault.model.selection import Selection
from dcmvault.ports.restore_target import Concluding, RestoreTarget
from dcmvault.vault.choosing import Choice
from dcmvault.vault.damage import out_of_reach, read_in_spite_of_damage
from dcmvault.vault.legible import LegibleState
from dcmvault.vault.reading import LARGE_BYTES, FileReader
from dcmvault.vault.repository import Vault
from dcmvault.vault.snapshot import Link
from dcmvault.vault.state import VaultState

#: Requests to a distant store wait for each other's answers less when there are more workers.
_DISTANT_WORKERS = 8
#: Seconds between two looks at where a restore stands.
_WATCH_S = 0.2


@dataclass(frozen=True, slots=True)
class RestoreRequest:
    """What is asked for: of the present, of a snapshot, or of an (aware) time."""

    vault: str
    folder: Path
    selection: Selection = field(default_factory=Selection)
    snapshot: str = ""
    as_of: datetime | None = None
    layout: Layout = Layout.ORIGINAL


@dataclass(frozen=True, slots=True)
class RestoreFailure:
    """One file that was not restored, or a part of the vault that names some, and why."""

    code: str
    message: str
    hint: str = ""
    study_instance_uid: str = ""
    sop_instance_uid: str = ""
    locator: str = ""

    @property
    def is_file(self) -> bool:
        """Whether it is one file; else it is unknown which files are missing."""
        return bool(self.locator)


@dataclass(frozen=True, slots=True)
class RestoreProgress:
    """Where a restore stands."""

    planned: bool = False
    files: int = 0
    bytes: int = 0
    #: Files that reached an end, and bytes that were written or found there.
    done: int = 0
    done_bytes: int = 0
    failed: int = 0


@dataclass(slots=True)
class Counted:
    """Files and their bytes."""

    files: int = 0
    bytes: int = 0

    def add(self, size: int) -> None:
        """Count one file."""
        self.files += 1
        self.bytes += size


@dataclass(slots=True)
class RestoreReport:
    """What a restore did."""

    vault: str
    folder: Path
    #: The snapshots whose union was restored; of the present also what came after them.
    snapshots: tuple[Link, ...]
    as_of: datetime | None
    studies: int = 0
    selected: Counted = field(default_factory=Counted)
    written: Counted = field(default_factory=Counted)
    already_there: Counted = field(default_factory=Counted)
    #: How many of them belong to a library as a whole.
    library_files: int = 0
    duration_s: float = 0.0
    failures: list[RestoreFailure] = field(default_factory=list)
    #: Sentences that the target says of itself.
    remarks: list[str] = field(default_factory=list)

    @property
    def exit_status(self) -> int:
        """0 if everything selected is in the folder, else 3."""
        return 3 if self.failures else 0


#: Takes where a restore stands, about five times a second.
WatchRestore = Callable[[RestoreProgress], None]


def restore(
    settings: Settings, request: RestoreRequest, watch: WatchRestore, stop: threading.Event
) -> RestoreReport:
    """Restore what is asked for. What is in the folder already is left, and never overwritten.

    Raises UsageError (no such snapshot, study or series; a folder that cannot be), what opening
    a vault raises, DestinationStoppedError for a full disk, and RunInterruptedError.
    """
    if request.snapshot and request.as_of is not None:
        raise UsageError(_("Name a snapshot or a time, not both."))
    if request.layout is Layout.LIBRARY and not request.selection.is_whole:
        raise UsageError(
            _("A library is restored whole, so that its index and its files fit together."),
            hint=_("Restore a part of it into a folder, or into a library that is there."),
        )
    section, vault = open_named_vault(settings, request.vault)
    read_in_spite_of_damage(vault)
    work = _Restore(
        request=request,
        vault=vault,
        target=restore_target(request.folder, section, request.layout, lambda: _require(stop)),
        workers=_workers(section),
        watch=watch,
        stop=stop,
        report=RestoreReport(section.address, request.folder, (), request.as_of),
    )
    return work.run()


def _require(stop: threading.Event) -> None:
    if stop.is_set():
        raise RunInterruptedError(
            _("The restore was stopped."),
            hint=_("What is there stays; the same command goes on where this one stopped."),
        )


def _workers(section: VaultSection) -> int:
    cores = os.cpu_count() or 1
    return cores if section.path is not None else max(cores, _DISTANT_WORKERS)


@dataclass(slots=True)
class _Restore:
    """One restore, from the choice of the state to the report."""

    request: RestoreRequest
    vault: Vault
    target: RestoreTarget
    workers: int
    watch: WatchRestore
    stop: threading.Event
    report: RestoreReport
    _progress: RestoreProgress = field(default_factory=RestoreProgress)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _ended: threading.Event = field(default_factory=threading.Event)
    _losses: dict[tuple[str, str], RestoreFailure] = field(default_factory=dict)
    _next_look: float = 0.0

    def run(self) -> RestoreReport:
        """Do it."""
        began = time.monotonic()
        state = self._choose()
        target = self.target
        with target.open():
            plan = RestorePlan(
                self.vault,
                state,
                LegibleState(state, self._lose),
                self.request.selection,
                PathRegister(target.folds_case()),
                self._look,
                newest_only=isinstance(target, Concluding) and not target.keeps_versions,
            )
            plan.make()
            if isinstance(target, Concluding):
                target.prepare(self._scope(plan))
            self.report.studies = plan.studies
            self.report.selected = Counted(plan.files, plan.bytes)
            self._progress = RestoreProgress(True, plan.files, plan.bytes)
            self._carry_out(plan.chunks())
            # A library takes what belongs to its studies when it has them.
            self._carry_out(plan.library_chunks())
        if isinstance(target, Concluding):
            self._conclude(target)
        self._look(at_once=True)
        self.report.failures[:0] = self._losses.values()
        self.report.duration_s = time.monotonic() - began
        return self.report

    def _scope(self, plan: RestorePlan) -> RestoreScope:
        newest = max((link.created_at for link in self.report.snapshots), default="")
        return RestoreScope(
            sources=plan.sources,
            is_whole=self.request.selection.is_whole,
            known_at=datetime.fromisoformat(newest) if newest else None,
            about=plan.legible.about,
        )

    def _conclude(self, target: Concluding) -> None:
        self.report.remarks, errors = target.conclusion()
        self.report.failures += [
            RestoreFailure(error.code, error.message, error.hint) for error in errors
        ]

    def _choose(self) -> VaultState:
        """Choose the state, as far as it can be read."""
        choice = Choice(self.vault, lambda _key, error: self._lose("", error))
        if self.request.snapshot:
            state = choice.snapshot(self.request.snapshot)
        elif self.request.as_of is not None:
            state = choice.at(self.request.as_of)
        else:
            state = choice.present()
        self.report.snapshots = tuple(state.links)
        return state

    def _carry_out(self, chunks: Iterable[list[RestoreTask]]) -> None:
        """Have workers restore chunk after chunk, a few waiting; whatever ends one ends all."""
        cores = os.cpu_count() or 1
        with (
            ThreadPoolExecutor(cores, thread_name_prefix="decoder") as decoders,
            ThreadPoolExecutor(self.workers, thread_name_prefix="restore") as pool,
        ):
            pending: set[Future[None]] = set()
            try:
                for chunk in chunks:
                    pending.add(pool.submit(self._restore_chunk, chunk, decoders))
                    pending = self._wait(pending, most=2 * self.workers)
                self._wait(pending, most=0)
            except BaseException:
                # An error, or Ctrl-C: the files under way are dropped.
                self._ended.set()
                raise

    def _wait(self, pending: set[Future[None]], most: int) -> set[Future[None]]:
        """Wait until no more than `most` chunks are under way."""
        while len(pending) > most:
            done, pending = wait(pending, timeout=_WATCH_S, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
            self._look()
            self._require_going()
        return pending

    def _require_going(self) -> None:
        _require(self._ended)
        _require(self.stop)

    def _look(self, *, at_once: bool = False) -> None:
        now = time.monotonic()
        if at_once or now >= self._next_look:
            self._next_look = now + _WATCH_S
            self.watch(self._progress)
        if not at_once:
            self._require_going()

    # In a worker's thread

    def _restore_chunk(self, tasks: list[RestoreTask], decoders: ThreadPoolExecutor) -> None:
        records = [task.record for task in tasks]
        reader = FileReader(self.vault, records, decoders)
        for task in tasks:
            self._require_going()
            self._restore(task, reader)

    def _restore(self, task: RestoreTask, reader: FileReader) -> None:
        record, file = task.record, task.file
        counted = Counted()
        pieces = reader.pieces(record)
        if record.size >= LARGE_BYTES:
            pieces = self._counting(pieces, counted)
        failure = None
        became = Restored.WRITTEN
        try:
            became = self.target.write(file, pieces)
        except DestinationError as error:
            if out_of_reach(error):
                raise
            failure = RestoreFailure(
                error.code,
                error.message,
                error.hint,
                file.study_instance_uid,
                file.sop_instance_uid,
                file.locator,
            )
        with self._lock:
            self._advance(record.size - counted.bytes, files=1, failed=failure is not None)
            if failure is not None:
                self.report.failures.append(failure)
                return
            self.report.library_files += file.of_library
            written = became is Restored.WRITTEN
            (self.report.written if written else self.report.already_there).add(record.size)

    def _counting(self, pieces: Iterable[bytes], counted: Counted) -> Iterator[bytes]:
        """Let a large file be seen to grow, and be given up in the middle."""
        for piece in pieces:
            self._require_going()
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

    # What of the vault cannot be read

    def _lose(self, study_instance_uid: str, error: DestinationError) -> None:
        failure = RestoreFailure(error.code, error.message, error.hint, study_instance_uid)
        self._losses[study_instance_uid, error.message] = failure
