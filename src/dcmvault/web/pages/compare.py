"""Compare: what two places hold of each study, where they differ, and delivering what lacks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fastapi import APIRouter, Depends, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from dcmvault.app.compare import CompareProgress, CompareRequest
from dcmvault.app.comparison_kept import (
    MOST_NAMED,
    Findings,
    compare_and_keep,
    delivery_of,
    start_delivery,
)
from dcmvault.config.readable import readable_section
from dcmvault.config.sections import VaultSourceSection
from dcmvault.errors import DcmvaultError, UsageError
from dcmvault.i18n import format_number, ngettext
from dcmvault.i18n import gettext as _
from dcmvault.model.audit import AuditKind
from dcmvault.model.comparison import Basis, Depth, Verdict
from dcmvault.reports.bars import bar
from dcmvault.reports.comparison_words import how_it_differs, verdict_word
from dcmvault.scratch import scratch_folder
from dcmvault.web.background import Progress, Work
from dcmvault.web.backstage import Backstage, Behind
from dcmvault.web.forms import Fields
from dcmvault.web.frame import page
from dcmvault.web.pages.place_words import names_for
from dcmvault.web.pages.places_offered import OTHER, chosen_place, readable_places
from dcmvault.web.pages.results import result_of
from dcmvault.web.roles import Role, needs
from dcmvault.web.steered import Steered
from dcmvault.web.visitors import By, Visitor

DONE = "/compare/done"
_FIELDS = ("a", "a_typed", "a_snapshot", "b", "b_typed", "b_snapshot", "depth")
_LONGEST = 2000
#: How each verdict is drawn: only sameness is good.
_KINDS = {
    Verdict.SAME: "stored",
    Verdict.DIFFERENT: "conflict",
    Verdict.ONLY_A: "failed",
    Verdict.ONLY_B: "claimed",
    Verdict.UNKNOWN: "unreadable",
}

router = APIRouter(include_in_schema=False, dependencies=[Depends(needs(Role.OPERATOR))])


@router.get("/compare")
def compare_page(request: Request, behind: Behind, by: By) -> HTMLResponse:
    """Ask which two places are to be compared."""
    return _form(request, behind, by, request.query_params)


@router.post("/compare/start")
def start(request: Request, behind: Behind, by: By, fields: Fields) -> Response:
    """Compare two places; nothing in them is changed."""
    settings = behind.workplace.settings
    try:
        asked = CompareRequest(
            _side(behind, by, fields, "a"), _side(behind, by, fields, "b"), _depth(fields)
        )

        def do(work: Work) -> Findings:
            folder = work.keeps.enter_context(scratch_folder())
            return compare_and_keep(
                settings, asked, folder / "comparison.csv", lambda at: _stands(work, at), work.stop
            )

        work = behind.background.ask(
            _("Comparison"), DONE, do, by=by.name, at=behind.workplace.clock.now()
        )
    except DcmvaultError as error:
        return _form(request, behind, by, fields, error)
    return RedirectResponse(f"/work/{work.work_id}", 303)


@router.get("/compare/done/{work_id}")
def done(request: Request, behind: Behind, by: By, work_id: str) -> HTMLResponse:
    """Show what a comparison found."""
    work, found = result_of(behind.background, work_id, Findings)
    verdicts = found.tally.verdicts
    counted = [(verdict_word(one), verdicts[one]) for one in Verdict]
    drawn = [
        (_KINDS[one], verdict_word(one), float(verdicts[one]), format_number(verdicts[one]))
        for one in Verdict
        if verdicts[one]
    ]
    return page(
        request,
        "compare/done.html",
        work=work,
        found=found,
        counted=counted,
        drawn=bar(drawn),
        by_count=found.tally.same_by[Basis.COUNT] > 0,
        by_content=found.tally.same_by[Basis.CONTENT] == verdicts[Verdict.SAME],
        exceptions=[
            (one.study_instance_uid, verdict_word(one.verdict), how_it_differs(one), one)
            for one in found.exceptions
        ],
        more=max(0, found.exceptions_in_all - MOST_NAMED),
        names=names_for(behind, by),
    )


@router.get("/compare/done/{work_id}/comparison.csv")
def csv_taken(behind: Behind, steered: Steered, work_id: str) -> Response:
    """Give every study as CSV to take along; the audit journal tells who took it."""
    _work, found = result_of(behind.background, work_id, Findings)
    path = Path(found.csv)
    with steered("compare", kind=AuditKind.EXPORT):
        if not path.is_file():
            raise UsageError(_("The file is not there."), hint=_("Compare once more."))
    return FileResponse(path, media_type="text/csv; charset=utf-8", filename="comparison.csv")


@router.get("/compare/act/{work_id}")
def act_page(request: Request, behind: Behind, by: By, work_id: str) -> HTMLResponse:
    """Show what would be delivered; nothing is."""
    work, found = result_of(behind.background, work_id, Findings)
    delivery = delivery_of(behind.workplace.settings, found)
    names = names_for(behind, by)
    return page(request, "compare/act.html", work=work, found=found, delivery=delivery, names=names)


@router.post("/compare/act/{work_id}")
def act(behind: Behind, steered: Steered, work_id: str) -> Response:
    """Deliver what is missing, by runs that go on by themselves."""
    _work, found = result_of(behind.background, work_id, Findings)
    if not found.missing:
        raise UsageError(_("Nothing is missing there."))
    with steered("compare", kind=AuditKind.RUN_ASKED, place=found.a, b=found.b):
        delivery = delivery_of(behind.workplace.settings, found)
        started = start_delivery(behind.workplace, delivery)
    return RedirectResponse(f"/runs/{started[0].run_id}" if len(started) == 1 else "/runs", 303)


def _stands(work: Work, progress: CompareProgress) -> None:
    studies = ngettext("%s study", "%s studies", progress.done) % format_number(progress.done)
    side = {"a": "A", "b": "B"}.get(progress.stage, "")
    work.progress = Progress(f"{side}: {studies}" if side else studies)


def _side(behind: Backstage, by: Visitor, fields: Mapping[str, str], side: str) -> str:
    """Return the name of a side, or its address with a snapshot."""
    settings = behind.workplace.settings
    chosen, typed = fields.get(side, ""), fields.get(f"{side}_typed", "")
    place = chosen_place(behind, by, chosen, typed, readable_places(settings))
    snapshot = fields.get(f"{side}_snapshot", "").strip()[:_LONGEST]
    if not snapshot:
        return place
    section = readable_section(settings, place)
    if not isinstance(section, VaultSourceSection):
        raise UsageError(
            _("Only a vault has snapshots, and %s is none.") % place,
            hint=_("Leave the snapshot empty."),
        )
    return section.model_copy(update={"snapshot": snapshot}).address


def _depth(fields: Mapping[str, str]) -> Depth:
    try:
        return Depth(fields.get("depth", "") or Depth.STUDY)
    except ValueError:
        raise UsageError(
            _("This is no depth of a comparison."), hint=_("Choose one of the list.")
        ) from None


def _form(
    request: Request,
    behind: Backstage,
    by: Visitor,
    fields: Mapping[str, str],
    error: DcmvaultError | None = None,
) -> HTMLResponse:
    settings = behind.workplace.settings
    may_type = by.role.may(Role.ADMINISTRATOR)
    offered = readable_places(settings)
    values = {name: fields.get(name, "")[:_LONGEST] for name in _FIELDS}
    sources = [*settings.sources, *offered, OTHER]
    values["a"] = values["a"] or sources[0]
    values["b"] = values["b"] or next((one for one in offered if one != values["a"]), OTHER)
    places = [(name, name) for name in offered]
    if may_type:
        places.append((OTHER, _("Another place, typed below")))
    return page(
        request,
        "compare/compare.html",
        status=422 if error else 200,
        values=values,
        places=places,
        depths=[
            (Depth.STUDY.value, _("Studies: are all of them there, with as many instances?")),
            (Depth.SERIES.value, _("Series: which of them lack something?")),
            (Depth.INSTANCE.value, _("Instances: which one lacks, or has other bytes?")),
        ],
        may_type=may_type,
        problem=(error.message, error.hint) if error else None,
        works=behind.background.of(DONE),
    )
