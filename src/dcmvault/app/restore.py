"""Restore: files come out of a vault, or another source, bit for bit, and each is read back."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack

from dcmvault.app.restore_from_source import RestoreFromSource
from dcmvault.app.restore_from_vault import RestoreFromVault, workers_for
from dcmvault.app.restore_report import (
    RestoreFailure,
    RestoreReport,
    RestoreRequest,
    WatchRestore,
)
from dcmvault.app.restore_targets import layout_for, restore_target
from dcmvault.app.restored_directory import RestoredDirectory
from dcmvault.app.restoring import Restoring
from dcmvault.app.vault_access import readable_section
from dcmvault.app.wiring.clock import SystemClock
from dcmvault.app.wiring.sources import build_source
from dcmvault.app.wiring.stores import open_vault_at
from dcmvault.config.sections import SourceSection, VaultSourceSection
from dcmvault.config.settings import Settings
from dcmvault.errors import UsageError
from dcmvault.i18n import gettext as _
from dcmvault.model.restored import Layout
from dcmvault.ports.restore_target import Concluding, RestoreTarget
from dcmvault.vault.damage import read_in_spite_of_damage


def restore(
    settings: Settings, request: RestoreRequest, watch: WatchRestore, stop: threading.Event
) -> RestoreReport:
    """Restore what is asked for into a folder or a ZIP file.

    What is in the folder already is left, and never overwritten.
    Raises UsageError (no such snapshot, study or series; a folder that cannot be), what opening
    a vault raises, DestinationStoppedError for a full disk, SourceUnavailableError, and
    RunInterruptedError.
    """
    section = readable_section(settings, request.source)
    refuse_times(request, section)
    _refuse_parts(request, section)
    target = restore_target(request.target, section, request.layout, stop)
    return restore_into(settings, request, section, target, watch, stop)


def refuse_times(request: RestoreRequest, section: SourceSection) -> None:
    """Refuse two times at once, and a time of what has only the present; UsageError."""
    if request.snapshot and request.as_of is not None:
        raise UsageError(_("Name a snapshot or a time, not both."))
    if isinstance(section, VaultSourceSection):
        return
    if request.snapshot or request.as_of is not None:
        raise UsageError(
            _("%s has no snapshots: it can only be read as it is now.") % section.address,
            hint=_("Leave out --snapshot and --as-of, or restore from a vault."),
        )


def _refuse_parts(request: RestoreRequest, section: SourceSection) -> None:
    """Refuse a library of which something is not there, and a source's source; UsageError."""
    is_vault = isinstance(section, VaultSourceSection)
    if request.only_source and not is_vault:
        raise UsageError(
            _("Only a vault holds what came from several sources."), hint=_("Leave out --source.")
        )
    if request.layout is Layout.LIBRARY and not (is_vault and request.selection.is_whole):
        raise UsageError(
            _("A library comes back from a vault, and whole: its index and its files must fit."),
            hint=_("Restore a part into a folder, or by horos:PATH into a library that is there."),
        )


def restore_into(
    settings: Settings,
    request: RestoreRequest,
    section: SourceSection,
    target: RestoreTarget,
    watch: WatchRestore,
    stop: threading.Event,
) -> RestoreReport:
    """Restore what is asked for into a target; errors as `restore` raises them."""
    clock = SystemClock()
    layout = layout_for(request.target, request.layout)
    report = RestoreReport(
        section.address,
        target.name,
        layout,
        request.selection,
        (),
        request.as_of,
        began_at=clock.now(),
        snapshot_asked=bool(request.snapshot or getattr(section, "snapshot", "")),
    )
    began = time.monotonic()
    work = Restoring(target, report, watch, stop)
    with ExitStack() as opened:
        directory = None
        if layout is Layout.DICOM:
            directory = opened.enter_context(RestoredDirectory.begun())
        if isinstance(section, VaultSourceSection):
            vault = open_vault_at(section, clock)
            read_in_spite_of_damage(vault)
            work.workers = workers_for(section)
            restoring = RestoreFromVault(request, vault, section.snapshot, work, directory)
            with target.open():
                restoring.run()
        else:
            source = build_source(section, settings.listener)
            with target.open():
                RestoreFromSource(request, source, work, directory).run()
    if isinstance(target, Concluding):
        remarks, errors = target.conclusion()
        report.remarks += remarks
        report.failures += [RestoreFailure(one.code, one.message, one.hint) for one in errors]
    work.end()
    report.duration_s = time.monotonic() - began
    return report
