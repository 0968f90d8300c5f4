"""A restore that was ordered elsewhere than at a command line, carried out to its certificate."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from dcmvault.app.backup import start
from dcmvault.app.lessons import note_restored
from dcmvault.app.restore import restore
from dcmvault.app.restore_certificates import certificate_of_files, certificate_of_run
from dcmvault.app.restore_report import RestoreReport, RestoreRequest, WatchRestore
from dcmvault.app.restore_to_peer import peer_restore
from dcmvault.app.wiring.workplace import Workplace
from dcmvault.errors import UsageError
from dcmvault.i18n import gettext as _
from dcmvault.model.identifiers import RunId
from dcmvault.model.restore_certificate import RestoreCertificate
from dcmvault.vault.snapshot import Link


@dataclass(frozen=True, slots=True)
class FilesRestored:
    """A restore into files that ended."""

    report: RestoreReport
    certificate: RestoreCertificate


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A restore to a PACS that was begun: a run, which goes on by itself."""

    run_id: RunId
    snapshots: Sequence[Link]
    is_present: bool


def restore_files(
    workplace: Workplace, request: RestoreRequest, watch: WatchRestore, stop: threading.Event
) -> FilesRestored:
    """Restore into a folder or a ZIP file; errors as `restore` raises them."""
    report = restore(workplace.settings, request, watch, stop)
    if not report.selection.is_whole:
        studies = [one.study_instance_uid for one in report.restored]
        note_restored(workplace.home, workplace.settings, studies)
    return FilesRestored(report, certificate_of_files(report))


def start_peer_restore(workplace: Workplace, request: RestoreRequest) -> RunStarted:
    """Begin the run of a restore to a PACS; errors as `peer_restore` raises them."""
    asked = peer_restore(workplace, request, None)
    started = start(workplace, asked.request)
    return RunStarted(started.run_id, asked.snapshots, asked.is_present)


def certificate_of(workplace: Workplace, done: FilesRestored | RunStarted) -> RestoreCertificate:
    """Return the certificate; UsageError while the run of a restore goes on."""
    if isinstance(done, FilesRestored):
        return done.certificate
    report = workplace.catalogue.runs.report(done.run_id)
    if report.finished_at is None:
        raise UsageError(
            _("The restore goes on: there is no certificate yet."),
            hint=_("Come back when the run has ended."),
        )
    return certificate_of_run(workplace, report, done.snapshots, is_present=done.is_present)
