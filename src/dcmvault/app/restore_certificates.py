"""Restore certificates: made of what a restore, or the run of one, found out."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import groupby

from dcmvault import __version__
from dcmvault.app.restore_report import RestoreFailure, RestoreReport
from dcmvault.app.wiring.workplace import Workplace
from dcmvault.errors import UsageError
from dcmvault.i18n import format_number, ngettext
from dcmvault.i18n import gettext as _
from dcmvault.model.evidence import COERCED, Level
from dcmvault.model.report import Failure, Privacy, RunReport
from dcmvault.model.restore_certificate import CertifiedStudy, RestoreCertificate
from dcmvault.ports.restores import HeldFile
from dcmvault.reports import restore_certificate
from dcmvault.vault.snapshot import Link

_RENDERERS = {
    ".json": restore_certificate.as_json,
    ".html": restore_certificate.as_html,
}


def render_certificate(certificate: RestoreCertificate, suffix: str, privacy: Privacy) -> str:
    """Render a certificate as the suffix of its file says: .json or .html."""
    return _RENDERERS[suffix.lower()](certificate, privacy)


def require_certificate_suffix(suffix: str) -> None:
    """Raise UsageError for a suffix that names no form of certificates."""
    if suffix.lower() not in _RENDERERS:
        raise UsageError(
            _("A certificate is written as .json or .html."),
            hint=_("For example: --certificate restored.html"),
        )


def certificate_of_files(report: RestoreReport) -> RestoreCertificate:
    """Make the certificate of a restore into a folder or a ZIP file: all of it was read back."""
    return RestoreCertificate(
        source=report.source,
        target=report.target,
        snapshots=_snapshots(report.snapshots),
        is_present=report.is_present,
        selection=report.selection,
        layout=report.layout.value,
        run="",
        level=Level.PROVEN,
        began_at=report.began_at,
        ended_at=report.began_at + timedelta(seconds=report.duration_s),
        selected=report.selected.files,
        delivered=report.written.files,
        already_there=report.already_there.files,
        proven=report.read_back.files,
        failed=len(report.failures),
        bytes=report.read_back.bytes,
        studies=tuple(
            CertifiedStudy(one.study_instance_uid, one.files, one.bytes, one.digest)
            for one in sorted(report.restored, key=lambda one: one.study_instance_uid)
        ),
        failures=tuple(_failure(one, report.target) for one in report.failures),
        remarks=tuple(report.remarks),
        versions=_versions(),
        exit_status=report.exit_status,
    )


def certificate_of_run(
    workplace: Workplace, run: RunReport, snapshots: Sequence[Link], *, is_present: bool
) -> RestoreCertificate:
    """Make the certificate of a restore to a PACS: of what its run found at the asked level."""
    part = run.destinations[0] if run.destinations else None
    wanted = run.request.destinations[0]
    studies = tuple(_studies(workplace.catalogue.restores.held_files(run.run_id)))
    counts = run.counts
    level = wanted.level or (part.level if part is not None else Level.NONE)
    return RestoreCertificate(
        source=run.request.source,
        target=wanted.address,
        snapshots=_snapshots(snapshots),
        is_present=is_present,
        selection=run.request.selection,
        layout="",
        run=run.run_id,
        level=level,
        began_at=run.started_at,
        ended_at=run.finished_at or workplace.clock.now(),
        selected=counts.total,
        delivered=counts.stored,
        already_there=counts.already_held,
        # What was only sent is not known to be there.
        proven=counts.stored + counts.already_held if level > Level.SENT else 0,
        failed=counts.short,
        bytes=sum(one.bytes for one in studies),
        studies=studies,
        failures=run.failures,
        remarks=tuple(_coerced(run)),
        versions=_versions(),
        exit_status=run.exit_status,
    )


def _coerced(run: RunReport) -> Iterator[str]:
    """Say of how many instances the place wrote attributes itself: proven, with coercions."""
    if count := sum(one.code == COERCED for one in run.warned):
        with_coercions = ngettext(
            "%s of them with coercions: equal but for attributes declared as the peer's own.",
            "%s of them with coercions: equal but for attributes declared as the peer's own.",
            count,
        )
        yield with_coercions % format_number(count)


def _studies(files: Iterator[HeldFile]) -> Iterator[CertifiedStudy]:
    for uid, some in groupby(files, key=lambda file: file.study_instance_uid):
        of_study = list(some)
        lines = sorted(f"{one.file_sha256.hex()}  {one.sop_instance_uid}\n" for one in of_study)
        digest = hashlib.sha256("".join(lines).encode()).hexdigest()
        yield CertifiedStudy(
            uid,
            len(of_study),
            sum(one.size for one in of_study),
            digest if all(one.file_sha256 for one in of_study) else "",
        )


def _snapshots(links: Sequence[Link]) -> tuple[tuple[str, str], ...]:
    return tuple((link.name, link.created_at) for link in links)


def _failure(failure: RestoreFailure, target: str) -> Failure:
    return Failure(
        sop_instance_uid=failure.sop_instance_uid,
        study_instance_uid=failure.study_instance_uid,
        destination=target,
        code=failure.code,
        status="",
        message=failure.message,
        hint=failure.hint,
        locator=failure.locator,
    )


def _versions() -> dict[str, str]:
    return {"dcmvault": __version__, "Python": platform.python_version()}
