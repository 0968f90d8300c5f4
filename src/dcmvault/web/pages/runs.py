"""Runs and reports: every run, what became of it, and its report to read and to take along."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse, Response

from dcmvault.app.place_names import PlaceNames
from dcmvault.app.report import FORMATS, rendered, run_report
from dcmvault.app.run_list import RunFilter, run_row, run_rows
from dcmvault.i18n import format_number
from dcmvault.i18n import gettext as _
from dcmvault.model.report import DestinationReport, RunReport
from dcmvault.reports.as_html import facts, figures, stages_bar
from dcmvault.reports.bars import Bar, bar
from dcmvault.reports.grouping import by_cause, warning_sentences
from dcmvault.reports.redaction import redacted, with_names
from dcmvault.reports.spoken import spoken
from dcmvault.reports.wording import outcomes, verdict
from dcmvault.web.backstage import Backstage, Behind
from dcmvault.web.frame import page
from dcmvault.web.pages.run_words import kind_label, run_line
from dcmvault.web.roles import Role, needs
from dcmvault.web.visitors import By, Visitor

#: Runs on a page at first, how many more are shown each time, and how many at most.
_AT_FIRST = 25
_MOST = 500
#: Instances that are named for each cause; the report names all.
_MOST_NAMED = 20
#: A report shown by itself: its own policy, which it carries, lets in its one style.
REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "frame-ancestors 'none'; sandbox"
)
_TYPES = {
    "html": "text/html; charset=utf-8",
    "pdf": "application/pdf",
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
    "text": "text/plain; charset=utf-8",
}

router = APIRouter(include_in_schema=False)


@router.get("/runs", dependencies=[Depends(needs(Role.VIEWER))])
def runs(
    request: Request,
    behind: Behind,
    by: By,
    show: RunFilter = RunFilter.ALL,
    limit: Annotated[int, Query(ge=1, le=_MOST)] = _AT_FIRST,
) -> HTMLResponse:
    """List the newest runs."""
    rows, has_more = run_rows(behind.workplace, limit, show)
    names = _names(behind, by)
    return page(
        request,
        "runs/list.html",
        runs=[run_line(row, names) for row in rows],
        filters=[
            (RunFilter.ALL.value, _("All")),
            (RunFilter.GOING_ON.value, _("Going on")),
            (RunFilter.SHORT.value, _("Fell short")),
        ],
        show=show.value,
        next_limit=min(limit * 2, _MOST) if has_more and limit < _MOST else 0,
    )


@dataclass(frozen=True, slots=True)
class _Part:
    """One destination's part of a run."""

    name: str
    level: str
    bar: Bar
    source_bytes: int
    transferred_bytes: int
    snapshot: str


@router.get("/runs/{run_id}", dependencies=[Depends(needs(Role.VIEWER))])
def run(request: Request, behind: Behind, by: By, run_id: str) -> HTMLResponse:
    """Show what a run did, and what is to be done about what fell short."""
    names = _names(behind, by)
    row = run_row(behind.workplace, run_id)
    report = spoken(redacted(row.report, by.privacy(behind.workplace.settings.privacy)))
    if not names.shows_addresses:
        report = with_names(report, names.all_names())
    line = run_line(row, names)
    return page(
        request,
        "runs/run.html",
        line=line,
        names=names,
        kind=kind_label(report.request.kind),
        report=report,
        verdict=verdict(report),
        figures=figures(report),
        facts=facts(replace(report, request=replace(report.request, source=line.source))),
        parts=[_part(part, report, names) for part in report.destinations],
        stages=stages_bar(report),
        groups=by_cause(report.failures),
        most_named=_MOST_NAMED,
        warnings=warning_sentences(report),
        formats=[name for name in FORMATS if name != "html"],
    )


def _names(behind: Backstage, by: Visitor) -> PlaceNames:
    return PlaceNames(behind.workplace, shows_addresses=by.role.may(Role.OPERATOR))


def _part(part: DestinationReport, report: RunReport, names: PlaceNames) -> _Part:
    ends = [
        (one.kind, one.label, float(one.count), format_number(one.count))
        for one in outcomes(part, report)
    ]
    return _Part(
        names(part.address),
        part.level.word,
        bar(ends),
        part.source_bytes,
        part.transferred_bytes,
        part.snapshot or "",
    )


@router.get("/runs/{run_id}/report", dependencies=[Depends(needs(Role.OPERATOR))])
def report_shown(behind: Behind, by: By, run_id: str) -> Response:
    """Show the whole report with every study, as it is sent to people."""
    report = run_report(behind.workplace, run_id)
    body = rendered(report, "html", by.privacy(behind.workplace.settings.privacy))
    headers = {"Content-Security-Policy": REPORT_POLICY}
    return Response(body, media_type=_TYPES["html"], headers=headers)


@router.get("/runs/{run_id}/report.{format_}", dependencies=[Depends(needs(Role.OPERATOR))])
def report_to_take_along(behind: Behind, by: By, run_id: str, format_: str) -> Response:
    """Send the report as a file; UsageError for a format that there is not."""
    report = run_report(behind.workplace, run_id)
    body = rendered(report, format_, by.privacy(behind.workplace.settings.privacy))
    # The name is ours, never what was asked for.
    name = f"dcmvault-{report.run_id}.{'txt' if format_ == 'text' else format_}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(body, media_type=_TYPES[format_], headers=headers)
