"""The overview: how everything is, in one look."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse

from dcmvault.app.place_names import PlaceNames
from dcmvault.app.run_list import run_rows
from dcmvault.app.status import status
from dcmvault.app.top import open_alerts
from dcmvault.reports.alert_words import alert_remedy, alert_title, severity_word, subject_words
from dcmvault.web.backstage import Behind
from dcmvault.web.frame import page
from dcmvault.web.pages.run_words import run_line
from dcmvault.web.roles import Role, needs
from dcmvault.web.visitors import By

_LATEST_RUNS = 5

router = APIRouter(include_in_schema=False)


@router.get("/", dependencies=[Depends(needs(Role.VIEWER))])
def overview(request: Request, behind: Behind, by: By) -> HTMLResponse:
    """Show what needs somebody, what is protected where, and what ran last."""
    workplace = behind.workplace
    names = PlaceNames(workplace, shows_addresses=by.role.may(Role.OPERATOR))
    rows, _more = run_rows(workplace, _LATEST_RUNS)
    alerts = [
        {
            "title": alert_title(one.code),
            "subject": subject_words(one.subject),
            "severity": severity_word(one.severity),
            "tone": "bad" if one.severity.value == "critical" else "claim",
            "since": one.raised_at,
            "remedy": alert_remedy(one.code),
        }
        for one in open_alerts(workplace)
    ]
    return page(
        request,
        "overview/overview.html",
        sources=status(workplace),
        alerts=alerts,
        runs=[run_line(row, names) for row in rows],
        names=names,
    )
