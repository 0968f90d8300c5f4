"""Drills: random studies are restored to scratch, proven, timed, and removed."""

from __future__ import annotations

import random
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from dcmvault.app.restore import refuse_times
from dcmvault.app.restore_from_vault import RestoreFromVault, choose_state, workers_for
from dcmvault.app.restore_report import (
    RestoreProgress,
    RestoreReport,
    RestoreRequest,
    WatchRestore,
)
from dcmvault.app.restored_files import RestoreFolder
from dcmvault.app.restoring import Restoring
from dcmvault.app.vault_access import readable_section
from dcmvault.app.wiring.workplace import Workplace
from dcmvault.config.sections import VaultSourceSection
from dcmvault.errors import DestinationError, UsageError
from dcmvault.i18n import gettext as _
from dcmvault.model.drill import Drill, DrilledStudy
from dcmvault.model.restored import Layout
from dcmvault.model.selection import Selection
from dcmvault.scratch import scratch_folder
from dcmvault.vault.choosing import Choice
from dcmvault.vault.damage import read_in_spite_of_damage
from dcmvault.vault.legible import LegibleState
from dcmvault.vault.repository import Vault
from dcmvault.vault.state import VaultState


@dataclass(frozen=True, slots=True)
class _Whole:
    """What may be drilled: the studies of a state, and what they have in bytes."""

    studies: list[str]
    bytes: int
    #: Why some of the state cannot be read.
    problems: list[str]


def carry_out_drill(
    workplace: Workplace,
    request: RestoreRequest,
    count: int,
    watch: WatchRestore,
    stop: threading.Event,
) -> Drill:
    """Restore `count` random studies, each proven file by file, and write it down.

    Each study lies on this machine (in TMPDIR) for as long as it is looked at only. Raises
    UsageError where there is nothing that is selected; RunInterruptedError: then nothing is
    written down.
    """
    section = readable_section(workplace.settings, request.source)
    refuse_times(request, section)
    if not isinstance(section, VaultSourceSection):
        if request.only_source:
            raise UsageError(
                _("Only a vault holds what came from several sources."),
                hint=_("Leave out --source."),
            )
        from dcmvault.app.drill_at_place import drill_at_place  # noqa: PLC0415 - when needed

        return drill_at_place(workplace, request, count, watch, stop)
    began = time.monotonic()
    vault = workplace.vault(section)
    read_in_spite_of_damage(vault)
    unread: list[str] = []
    choice = Choice(vault, lambda _key, error: unread.append(error.message))
    state = choose_state(request, choice, section.snapshot)
    whole = _look_through(state, request, unread)
    if not whole.studies and not whole.problems:
        raise UsageError(_("There is nothing to restore."))
    chosen = sorted(random.SystemRandom().sample(whole.studies, min(count, len(whole.studies))))
    opening_s = time.monotonic() - began
    work = _Drilling(request, section, vault, state, watch, stop)
    studies = [DrilledStudy("", 0, 0, 0.0, problem) for problem in dict.fromkeys(whole.problems)]
    drill = Drill(
        place=section.model_copy(update={"snapshot": ""}).address,
        drilled_at=workplace.clock.now(),
        studies=(*studies[:1], *work.studies(chosen)),
        whole_studies=len(whole.studies),
        whole_bytes=whole.bytes,
        opening_s=opening_s,
    )
    workplace.catalogue.restores.record_drill(drill)
    return drill


def _look_through(state: VaultState, request: RestoreRequest, unread: list[str]) -> _Whole:
    """List the studies that may be drilled; files that are no instances are left out."""
    problems = list(unread)
    selection = request.selection
    by_records = bool(selection.series or request.only_source)

    def lose(_study: str, error: DestinationError) -> None:
        problems.append(error.message)

    legible = LegibleState(state, lose)
    studies: list[str] = []
    size = 0
    for uid, entry in legible.overview():
        if not uid or not selection.may_name(uid):
            continue
        about = legible.about(uid) if entry is None else entry.about
        if not selection.describes(about):
            continue
        if entry is not None and not by_records:
            studies.append(uid)
            size += entry.size
            continue
        records = [
            record for record in legible.records(uid) if request.only_source in ("", record.source)
        ]
        # Nothing may be left of a study that was forgotten.
        if any(selection.names(uid, record.series_instance_uid) for record in records):
            studies.append(uid)
            size += sum(record.size for record in records)
    return _Whole(studies, size, problems)


@dataclass(slots=True)
class _Drilling:
    """One drill at work."""

    request: RestoreRequest
    section: VaultSourceSection
    vault: Vault
    state: VaultState
    watch: WatchRestore
    stop: threading.Event

    def studies(self, chosen: list[str]) -> Iterator[DrilledStudy]:
        """Restore studies one after the other."""
        with scratch_folder() as scratch:
            for number, uid in enumerate(chosen):
                folder = scratch / str(number)
                yield self._study(
                    uid, folder, RestoreProgress(True, files=len(chosen), done=number)
                )
                shutil.rmtree(folder, ignore_errors=True)

    def _study(self, uid: str, folder: Path, progress: RestoreProgress) -> DrilledStudy:
        target = RestoreFolder(folder)
        selection = Selection(studies=(uid,))
        report = RestoreReport(
            self.section.address, "", Layout.ORIGINAL, selection, (), None, datetime.now(UTC)
        )
        work = Restoring(target, report, lambda _one: self.watch(progress), self.stop)
        work.workers = workers_for(self.section)
        began = time.monotonic()
        request = replace(self.request, selection=selection)
        with target.open():
            RestoreFromVault(request, self.vault, "", work).restore(self.state)
        work.end()
        seconds = time.monotonic() - began
        problem = report.failures[0].message if report.failures else ""
        return DrilledStudy(uid, report.read_back.files, report.read_back.bytes, seconds, problem)
