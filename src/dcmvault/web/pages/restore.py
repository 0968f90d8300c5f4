"""Restore: what is to come back and where to, counted first; then its result, and drills."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fastapi import APIRouter, Depends, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from dcmvault.app.drills import carry_out_drill
from dcmvault.app.restore_carried_out import (
    FilesRestored,
    RunStarted,
    certificate_of,
    restore_files,
    start_peer_restore,
)
from dcmvault.app.restore_certificates import render_certificate
from dcmvault.app.restore_preview import RestorePreview, preview_restore
from dcmvault.app.restore_report import RestoreProgress, RestoreRequest
from dcmvault.app.run_list import run_row
from dcmvault.app.status import recent_drills
from dcmvault.app.vault_contents import stored_time
from dcmvault.errors import DcmvaultError, UsageError
from dcmvault.i18n import format_number, ngettext
from dcmvault.i18n import gettext as _
from dcmvault.model.audit import AuditKind
from dcmvault.model.drill import Drill
from dcmvault.scratch import scratch_folder
from dcmvault.web.background import Progress, Work, WorkState
from dcmvault.web.backstage import Backstage, Behind
from dcmvault.web.forms import Fields
from dcmvault.web.frame import page
from dcmvault.web.pages.place_words import names_for
from dcmvault.web.pages.places_offered import OTHER, peers, readable_places, vaults
from dcmvault.web.pages.restore_form import (
    DOWNLOAD,
    RestoreOrder,
    how_many_match,
    order_of,
    typed,
)
from dcmvault.web.pages.results import result_of
from dcmvault.web.pages.run_words import run_line
from dcmvault.web.pages.runs import REPORT_POLICY
from dcmvault.web.roles import Role, needs
from dcmvault.web.steered import Steered
from dcmvault.web.visitors import By, Visitor

CHECKED, DONE, DRILLED = "/restore/checked", "/restore/done", "/restore/drilled"
_ZIP = "restored.zip"
_DRILLS = 10
_MOST_DRILLED = 1000
_MOST_NAMED = 50
#: Characters of a snapshot's name that tell it from others: its number, and 8 digits.
_SHORT = 17
_CERTIFICATES = {"html": "text/html; charset=utf-8", "json": "application/json"}

router = APIRouter(include_in_schema=False, dependencies=[Depends(needs(Role.OPERATOR))])


@router.get("/restore")
def restore_page(request: Request, behind: Behind, by: By) -> HTMLResponse:
    """Ask what is to come back, and show what did lately; `again` names what was counted."""
    fields: Mapping[str, str] = request.query_params
    if again := fields.get("again", ""):
        fields = _again(result_of(behind.background, again, RestorePreview)[0], by)
    return _form(request, behind, by, fields)


@router.post("/restore/check")
def check(request: Request, behind: Behind, by: By, fields: Fields) -> Response:
    """Count what would come back; nothing is written."""
    try:
        order = order_of(behind, by, fields)
        work = behind.background.ask(
            _("Restore: what would come back"),
            CHECKED,
            lambda work: preview_restore(
                behind.workplace, order.request, lambda count: _counted(work, count), work.stop
            ),
            by=by.name,
            at=behind.workplace.clock.now(),
            asked=order,
        )
    except DcmvaultError as error:
        return _form(request, behind, by, fields, error)
    return RedirectResponse(f"/work/{work.work_id}", 303)


def _counted(work: Work, studies: int) -> None:
    words = ngettext("%s study looked at", "%s studies looked at", studies)
    work.progress = Progress(words % format_number(studies))


@router.get("/restore/checked/{work_id}")
def checked(request: Request, behind: Behind, by: By, work_id: str) -> HTMLResponse:
    """Show what a restore would bring back."""
    work, preview = result_of(behind.background, work_id, RestorePreview)
    order = _order(work)
    return page(
        request,
        "restore/checked.html",
        work=work,
        order=order,
        chosen=_chosen(order),
        preview=preview,
        snapshots=[(one.name[:_SHORT], stored_time(one.created_at)) for one in preview.snapshots],
        names=names_for(behind, by),
    )


@router.post("/restore/start")
def start(behind: Behind, by: By, steered: Steered, fields: Fields) -> Response:
    """Begin the restore that was counted."""
    counted, _preview = result_of(behind.background, fields.get("work", ""), RestorePreview)
    order = _order(counted)

    def do(work: Work) -> FilesRestored | RunStarted:
        source, target = order.request.source, order.target
        with steered("restore", kind=AuditKind.RESTORE, place=source, target=target) as ended:
            if order.is_peer:
                return start_peer_restore(behind.workplace, order.request)
            done = _restored(behind, order, work)
            ended.exit_status = done.report.exit_status
            return done

    work = behind.background.ask(
        _("Restore"), DONE, do, by=by.name, at=behind.workplace.clock.now(), asked=order
    )
    return RedirectResponse(f"/work/{work.work_id}", 303)


def _restored(behind: Backstage, order: RestoreOrder, work: Work) -> FilesRestored:
    request = order.request
    if order.is_download:
        try:
            folder = work.keeps.enter_context(scratch_folder())
        except OSError as error:
            raise UsageError(
                _("There is no room for a ZIP file on the machine of dcmvault."),
                hint=error.strerror or type(error).__name__,
            ) from None
        request = RestoreRequest(
            request.source,
            str(folder / _ZIP),
            request.selection,
            request.snapshot,
            request.as_of,
        )
    return restore_files(behind.workplace, request, lambda one: _stands(work, one), work.stop)


def _stands(work: Work, progress: RestoreProgress) -> None:
    if not progress.planned:
        work.progress = Progress(_("Looking at what there is"))
        return
    text = (
        _("Reading back: %(done)s of %(files)s files")
        if progress.reading_back
        else _("%(done)s of %(files)s files")
    )
    words = text % {
        "done": format_number(progress.done),
        "files": format_number(progress.files),
    }
    work.progress = Progress(words, progress.done_bytes, progress.bytes)


@router.get("/restore/done/{work_id}")
def done(request: Request, behind: Behind, by: By, work_id: str) -> HTMLResponse:
    """Show what a restore brought back, or the run that does it."""
    work = _done(behind, work_id)
    names, result = names_for(behind, by), work.result
    line = None
    if isinstance(result, RunStarted):
        line = run_line(run_row(behind.workplace, result.run_id), names)
    return page(
        request,
        "restore/done.html",
        work=work,
        order=_order(work),
        names=names,
        report=result.report if isinstance(result, FilesRestored) else None,
        line=line,
        most_named=_MOST_NAMED,
    )


@router.get("/restore/done/{work_id}/certificate")
def certificate_shown(behind: Behind, by: By, work_id: str) -> Response:
    """Show the certificate by itself."""
    body = _certificate(behind, by, work_id, "html")
    headers = {"Content-Security-Policy": REPORT_POLICY}
    return Response(body, media_type=_CERTIFICATES["html"], headers=headers)


@router.get("/restore/done/{work_id}/certificate.{ending}")
def certificate_taken(behind: Behind, by: By, work_id: str, ending: str) -> Response:
    """Give the certificate to take along."""
    if ending not in _CERTIFICATES:
        raise UsageError(_("A certificate is written as .json or .html."))
    body = _certificate(behind, by, work_id, ending)
    name = f'attachment; filename="restore-certificate-{work_id}.{ending}"'
    headers = {"Content-Disposition": name, "Content-Security-Policy": REPORT_POLICY}
    return Response(body, media_type=_CERTIFICATES[ending], headers=headers)


@router.get("/restore/done/{work_id}/files.zip")
def files_taken(behind: Behind, steered: Steered, work_id: str) -> Response:
    """Give the ZIP file to take along; the audit journal tells who took it."""
    work = _done(behind, work_id)
    if not _order(work).is_download or not isinstance(work.result, FilesRestored):
        raise UsageError(_("This was not restored into a ZIP file to download."))
    path = Path(work.result.report.target)
    with steered("restore", kind=AuditKind.EXPORT, place=work.result.report.source):
        if not path.is_file():
            raise UsageError(_("The ZIP file is not there."), hint=_("Restore once more."))
    return FileResponse(path, media_type="application/zip", filename=_ZIP)


@router.post("/restore/drill")
def drill(request: Request, behind: Behind, by: By, steered: Steered, fields: Fields) -> Response:
    """Restore some random studies to scratch, prove and time them, and remove them."""
    place = fields.get("vault", "")
    try:
        count = _count(fields.get("count", ""))
        if place not in vaults(behind.workplace.settings):
            raise UsageError(
                _("No vault is named."), hint=_("Choose one of the configured vaults.")
            )
    except UsageError as error:
        return _form(request, behind, by, {}, error)

    def do(work: Work) -> Drill:
        def watch(progress: RestoreProgress) -> None:
            words = _("%(done)s of %(all)s studies") % {
                "done": format_number(progress.done),
                "all": format_number(progress.files),
            }
            work.progress = Progress(words, progress.done, progress.files)

        wanted = RestoreRequest(place, "")
        told = {"drill_studies": str(count)}
        with steered("restore", kind=AuditKind.RESTORE, place=place, **told) as ended:
            carried_out = carry_out_drill(behind.workplace, wanted, count, watch, work.stop)
            ended.exit_status = 0 if carried_out.passed else 3
            return carried_out

    try:
        work = behind.background.ask(
            _("Restore drill"), DRILLED, do, by=by.name, at=behind.workplace.clock.now()
        )
    except UsageError as error:
        return _form(request, behind, by, {}, error)
    return RedirectResponse(f"/work/{work.work_id}", 303)


def _count(text: str) -> int:
    if text.isascii() and text.isdecimal() and 0 < len(text) <= len(str(_MOST_DRILLED)):
        count = int(text)
        if 1 <= count <= _MOST_DRILLED:
            return count
    raise UsageError(
        _("“%s” is no number of studies for a drill.") % text[:20],
        hint=_("Write a number from 1 to %s.") % format_number(_MOST_DRILLED),
    )


@router.get("/restore/drilled/{work_id}")
def drilled(request: Request, behind: Behind, by: By, work_id: str) -> HTMLResponse:
    """Show how a drill went."""
    work, found = result_of(behind.background, work_id, Drill)
    names = names_for(behind, by)
    return page(request, "restore/drilled.html", work=work, drill=found, names=names)


def _form(
    request: Request,
    behind: Backstage,
    by: Visitor,
    fields: Mapping[str, str],
    error: DcmvaultError | None = None,
) -> HTMLResponse:
    settings = behind.workplace.settings
    may_type = by.role.may(Role.ADMINISTRATOR)
    values = typed(fields, settings)
    matching = values["matching"]
    places = [(name, name) for name in readable_places(settings)]
    targets = [(DOWNLOAD, _("A ZIP file to download (with DICOMDIR)"))]
    targets += [(name, name) for name in peers(settings)]
    if may_type:
        places.append((OTHER, _("Another place, typed below")))
        targets.append((OTHER, _("A folder or another PACS, typed below")))
    return page(
        request,
        "restore/restore.html",
        status=422 if error else 200,
        values=values,
        matched=how_many_match(behind, by, matching) if matching else None,
        places=places,
        targets=targets,
        vaults=[(name, name) for name in vaults(settings)],
        may_type=may_type,
        problem=(error.message, error.hint) if error else None,
        works=behind.background.of(DONE, DRILLED, CHECKED),
        drills=recent_drills(behind.workplace, _DRILLS),
        names=names_for(behind, by),
    )


def _certificate(behind: Backstage, by: Visitor, work_id: str, ending: str) -> str:
    result = _done(behind, work_id).result
    assert isinstance(result, FilesRestored | RunStarted)
    certificate = certificate_of(behind.workplace, result)
    privacy = by.privacy(behind.workplace.settings.privacy)
    return render_certificate(certificate, f".{ending}", privacy)


def _done(behind: Backstage, work_id: str) -> Work:
    work = behind.background.find(work_id)
    if work.page != DONE or work.state is not WorkState.DONE:
        raise UsageError(_("There is no such restore, or it has no result."))
    return work


def _again(work: Work, by: Visitor) -> Mapping[str, str]:
    """Return what was typed; what names a patient only to who typed it."""
    fields = _order(work).fields
    if work.asked_by == by.name:
        return fields
    return {**fields, "patient": "", "accession": "", "matching": ""}


def _order(work: Work) -> RestoreOrder:
    assert isinstance(work.asked, RestoreOrder)
    return work.asked


def _chosen(order: RestoreOrder) -> list[tuple[str, str, bool]]:
    """Say what is selected: label, value, and whether the value is a patient's."""
    wanted = order.request.selection
    if order.fields["matching"]:
        count = format_number(len(wanted.studies))
        return [(_("Studies"), _("%s chosen on the Studies page") % count, False)]
    chosen = [(_("Patient ID"), one, True) for one in wanted.patients]
    chosen += [(_("Accession number"), one, True) for one in wanted.accessions]
    chosen += [(_("Study"), one, False) for one in wanted.studies]
    if wanted.first_date or wanted.last_date:
        dates = f"{order.fields['first'] or '…'} – {order.fields['last'] or '…'}"
        chosen.append((_("Study date"), dates, False))
    return chosen or [(_("What"), _("everything"), False)]
