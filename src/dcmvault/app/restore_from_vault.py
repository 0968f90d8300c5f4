"""Restore from a vault: files are rebuilt side by side, in the order of their packs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from itertools import chain

from dcmvault.app.restore_plan import RestorePlan, RestoreTask
from dcmvault.app.restore_report import Counted, RestoreRequest
from dcmvault.app.restored_directory import RestoredDirectory
from dcmvault.app.restored_names import PathRegister
from dcmvault.app.restoring import Restoring
from dcmvault.config.sections import VaultSection
from dcmvault.errors import DestinationError, UsageError
from dcmvault.i18n import gettext as _
from dcmvault.model.restored import FileToRestore, RestoreScope
from dcmvault.ports.restore_target import Concluding
from dcmvault.vault.choosing import Choice
from dcmvault.vault.legible import LegibleState
from dcmvault.vault.reading import FileReader
from dcmvault.vault.repository import Vault
from dcmvault.vault.state import VaultState

#: Requests to a distant store wait for each other's answers less when there are more workers.
_DISTANT_WORKERS = 8


def workers_for(section: VaultSection) -> int:
    """Say how many workers read from a vault."""
    cores = os.cpu_count() or 1
    return cores if section.path is not None else max(cores, _DISTANT_WORKERS)


@dataclass(slots=True)
class RestoreFromVault:
    """Restores a state of a vault, from the choice of the state to the files read back."""

    request: RestoreRequest
    vault: Vault
    #: A snapshot or time that the vault's address names; empty: the present.
    word: str
    work: Restoring
    directory: RestoredDirectory | None = None

    def run(self) -> None:
        """Do it, at an opened target."""
        choice = Choice(self.vault, self._pass_over)
        self.restore(choose_state(self.request, choice, self.word))

    def restore(self, state: VaultState) -> None:
        """Restore what is selected of a state."""
        report, target = self.work.report, self.work.target
        report.snapshots = tuple(state.links)
        plan = RestorePlan(
            self.vault,
            state,
            LegibleState(state, self.work.lose),
            self.request.selection,
            PathRegister(target.folds_case()),
            report.layout,
            self.work.look,
            newest_only=isinstance(target, Concluding) and not target.keeps_versions,
            only_source=self.request.only_source,
        )
        plan.make()
        if isinstance(target, Concluding):
            target.prepare(_scope(plan))
        report.studies = plan.studies
        report.selected = Counted(plan.files, plan.bytes)
        self.work.begin()
        cores = os.cpu_count() or 1
        with ThreadPoolExecutor(cores, thread_name_prefix="decoder") as decoders:
            for chunks in (plan.chunks(), plan.library_chunks()):
                # A library takes what belongs to its studies when it has them.
                self.work.side_by_side(self._tasks(chunks, decoders))
        take = None if self.directory is None else self.directory.take
        self.work.read_back(chain(self._studies(plan), _library_files(plan)), take)
        if self.directory is not None:
            self.directory.finish(self.work)

    def _pass_over(self, _key: str, error: DestinationError) -> None:
        self.work.lose("", error)

    def _studies(self, plan: RestorePlan) -> Iterator[tuple[str, list[FileToRestore]]]:
        for uid, patient, tasks in plan.studies_in_order():
            files = [task.file for task in tasks]
            if self.directory is not None:
                self.directory.know(uid, patient)
            yield uid, files

    def _tasks(
        self, chunks: Iterable[list[RestoreTask]], decoders: ThreadPoolExecutor
    ) -> Iterator[Callable[[], None]]:
        for chunk in chunks:
            yield self._restoring(chunk, decoders)

    def _restoring(
        self, tasks: list[RestoreTask], decoders: ThreadPoolExecutor
    ) -> Callable[[], None]:
        def task() -> None:
            reader = FileReader(self.vault, [one.record for one in tasks], decoders)
            for one in tasks:
                self.work.require_going()
                self.work.write(one.file, reader.pieces(one.record))

        return task


def choose_state(request: RestoreRequest, choice: Choice, word: str) -> VaultState:
    """Choose the state of a vault that is asked for; `word` is what its address says of that."""
    if word and (request.snapshot or request.as_of is not None):
        raise UsageError(
            _("The address names a snapshot already."),
            hint=_("Leave out --snapshot and --as-of, or what stands after “#”."),
        )
    if request.as_of is not None:
        return choice.at(request.as_of)
    return choice.named(request.snapshot or word)


def _scope(plan: RestorePlan) -> RestoreScope:
    newest = max((link.created_at for link in plan.state.links), default="")
    return RestoreScope(
        sources=plan.sources,
        is_whole=plan.selection.is_whole,
        known_at=datetime.fromisoformat(newest) if newest else None,
        about=plan.legible.about,
    )


def _library_files(plan: RestorePlan) -> Iterator[tuple[str, list[FileToRestore]]]:
    for chunk in plan.library_chunks():
        yield "", [task.file for task in chunk]
