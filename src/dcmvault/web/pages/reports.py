"""Reports of a period and of a destination: made for chosen dates, to read and to take along."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, Response

from dcmvault.app.periods import Period
from dcmvault.app.report import period_report, rendered
from dcmvault.errors import UsageError
from dcmvault.model.report import Privacy
from dcmvault.model.statistics import PeriodReport
from dcmvault.reports.period_document import period_document
from dcmvault.web.backstage import Backstage, Behind
from dcmvault.web.frame import page
from dcmvault.web.pages.runs import REPORT_POLICY
from dcmvault.web.roles import Role, needs

_TYPES = {
    "html": "text/html; charset=utf-8",
    "pdf": "application/pdf",
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
}
_LONGEST = 200

router = APIRouter(
    include_in_schema=False, dependencies=[Depends(needs(Role.OPERATOR))], prefix="/runs/reports"
)


@dataclass(frozen=True, slots=True)
class _Asked:
    """Which report is asked for, as the form says it."""

    since: Annotated[str, Query(max_length=_LONGEST)] = ""
    until: Annotated[str, Query(max_length=_LONGEST)] = ""
    destination: Annotated[str, Query(max_length=_LONGEST)] = ""

    @property
    def address(self) -> str:
        """The part of an address that asks for the same."""
        fields = {"since": self.since, "until": self.until, "destination": self.destination}
        return urlencode({name: value for name, value in fields.items() if value})

    def report(self, behind: Backstage) -> PeriodReport:
        """Make the report; UsageError for what is no period, or a destination never used."""
        period = Period.asked(self.since, self.until, None)
        return period_report(behind.workplace, period.since, period.until, self.destination)


@router.get("")
def choose(request: Request, behind: Behind, asked: Annotated[_Asked, Depends()]) -> HTMLResponse:
    """Ask which report is wanted, and show it."""
    problem, document = "", None
    try:
        document = period_document(asked.report(behind)) if asked.address else None
    except UsageError as error:
        problem = f"{error.message} {error.hint}".strip()
    return page(
        request,
        "runs/reports.html",
        asked=asked,
        problem=problem,
        document=document,
        destinations=[(name, name) for name in sorted(behind.workplace.settings.destinations)],
        formats=list(_TYPES),
    )


@router.get("/read")
def read(behind: Behind, asked: Annotated[_Asked, Depends()]) -> Response:
    """Show the whole report with its drawings, as it is sent to people."""
    body = rendered(asked.report(behind), "html", Privacy.OFF)
    headers = {"Content-Security-Policy": REPORT_POLICY}
    return Response(body, media_type=_TYPES["html"], headers=headers)


@router.get("/file.{format_}")
def take_along(behind: Behind, asked: Annotated[_Asked, Depends()], format_: str) -> Response:
    """Send the report as a file."""
    if format_ not in _TYPES:
        raise HTTPException(404)
    report = asked.report(behind)
    body = rendered(report, format_, Privacy.OFF)
    kind = "destination" if report.destination is not None else "period"
    # The name is ours, never what was asked for.
    headers = {"Content-Disposition": f'attachment; filename="dcmvault-{kind}.{format_}"'}
    return Response(body, media_type=_TYPES[format_], headers=headers)
