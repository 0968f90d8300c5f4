"""Restores to a PACS or a DICOMweb service: runs, and the certificates of them."""

from __future__ import annotations

from pathlib import Path

from dcmvault.app.lessons import note_restored
from dcmvault.app.restore_certificates import certificate_of_run
from dcmvault.app.restore_report import RestoreRequest
from dcmvault.app.restore_to_peer import peer_restore
from dcmvault.cli.building import level_of
from dcmvault.cli.output import print_json
from dcmvault.cli.restore_certificates import certify, say_certificates
from dcmvault.cli.runs import carry_out
from dcmvault.cli.session import opened
from dcmvault.config.settings import Settings
from dcmvault.errors import UsageError
from dcmvault.i18n import gettext as _


def to_peer(
    settings: Settings,
    request: RestoreRequest,
    level: str | None,
    certificates: tuple[Path, ...],
    *,
    as_json: bool,
    progress: str,
) -> int:
    """Carry the run of a restore out, show it, and certify it; return the exit status."""
    with opened(settings) as session:
        workplace = session.workplace
        asked = peer_restore(workplace, request, level_of(level))
        done = carry_out(session, asked.request, as_json=as_json, progress=progress)
        if not request.selection.is_whole:
            report = workplace.catalogue.runs.report(done.run_id)
            studies = {one.study_instance_uid for one in report.study_reports}
            note_restored(session.home, settings, studies)
        if certificates:
            certificate = certificate_of_run(
                workplace,
                workplace.catalogue.runs.report(done.run_id),
                asked.snapshots,
                is_present=asked.is_present,
            )
            certify(certificate, certificates, settings.privacy)
    if as_json:
        print_json(done.summary)
    else:
        say_certificates(certificates)
    if not done.exit_status and not done.counts.total and not request.selection.is_whole:
        raise UsageError(
            _("The source holds nothing that was asked for."),
            hint=_("`dcmvault find` and `dcmvault ls` show what a vault holds."),
        )
    return done.exit_status
