"""What is done to all studies that match, or to chosen ones: counted, asked for, then done."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from dcmvault.app.study_actions import BulkChange, BulkRuns
from dcmvault.errors import DcmvaultError, UsageError
from dcmvault.i18n import gettext as _
from dcmvault.model.job import Priority
from dcmvault.reports.overview_words import priority_words
from dcmvault.web.background import Work
from dcmvault.web.backstage import Behind
from dcmvault.web.forms import Fields
from dcmvault.web.frame import page
from dcmvault.web.pages.place_words import names_for
from dcmvault.web.pages.results import result_of
from dcmvault.web.pages.study_asking import LEVELS, Asked, asked
from dcmvault.web.pages.study_deeds import DEEDS, Deed, Order, order_of, vaults_of
from dcmvault.web.roles import Role, needs
from dcmvault.web.steered import Steered
from dcmvault.web.visitors import By

DONE = "/studies/done"

router = APIRouter(include_in_schema=False, dependencies=[Depends(needs(Role.OPERATOR))])


@router.get("/studies/actions/{action}")
def ask_for_action(request: Request, behind: Behind, by: By, action: str) -> Response:
    """Say what would be done to all that matches, or is chosen, and ask."""
    what = asked(request, behind, by)
    if action == "restore":
        query = urlencode({"matching": what.query_text})
        return RedirectResponse(f"/restore?{query}", 303)
    return _asking(request, behind, by, what, _deed(action), {})


@router.post("/studies/actions/{action}")
def do_action(
    request: Request, behind: Behind, by: By, steered: Steered, fields: Fields, action: str
) -> Response:
    """Have it done in the background, and show how far it is."""
    deed = _deed(action)
    what = asked(request, behind, by)
    try:
        order = order_of(behind, by, what, deed, fields)
        counted = deed.do(order, dry_run=True)
    except UsageError as error:
        return _asking(request, behind, by, what, deed, fields, error)
    if _is_nothing(counted):
        return _asking(request, behind, by, what, deed, fields)
    forget = request.app.state.fragments.forget

    def do(work: Work) -> BulkRuns | BulkChange:
        del work
        studies = str(counted.matched.studies)
        with steered(deed.command, kind=deed.kind, place=order.vault, studies=studies):
            done = deed.do(order, dry_run=False)
        behind.overview(anew=True)
        forget()
        return done

    work = behind.background.ask(
        deed.title(),
        DONE,
        do,
        by=by.name,
        at=behind.workplace.clock.now(),
        asked=(deed, what.address("/studies", study="")),
    )
    return RedirectResponse(f"/work/{work.work_id}", 303)


@router.get(DONE)
def back() -> Response:
    """Lead back from work that came to no result."""
    return RedirectResponse("/studies", 303)


@router.get(DONE + "/{work_id}")
def done(request: Request, behind: Behind, by: By, work_id: str) -> HTMLResponse:
    """Show what was done."""
    work = behind.background.find(work_id)
    kind = BulkRuns if isinstance(work.result, BulkRuns) else BulkChange
    _work, result = result_of(behind.background, work_id, kind)
    if not isinstance(work.asked, tuple):
        raise HTTPException(404)
    deed, where = work.asked
    return page(
        request,
        "studies/done.html",
        work=work,
        deed=deed,
        runs=result if isinstance(result, BulkRuns) else None,
        change=result if isinstance(result, BulkChange) else None,
        back=where,
        names=names_for(behind, by),
    )


def _deed(name: str) -> Deed:
    found = DEEDS.get(name)
    if found is None:
        raise HTTPException(404)
    return found


def _is_nothing(counted: BulkRuns | BulkChange) -> bool:
    """Say whether nothing can be begun: then it is said why, and asked again."""
    if isinstance(counted, BulkRuns):
        return not counted.requests
    return not counted.changed


def _asking(
    request: Request,
    behind: Behind,
    by: By,
    what: Asked,
    deed: Deed,
    fields: Mapping[str, str],
    error: DcmvaultError | None = None,
) -> HTMLResponse:
    counted = deed.do(Order(behind.workplace, what.query, by.name), dry_run=True)
    if fields and error is None:
        # What was asked for could not be begun: the same is counted as it was asked.
        counted = deed.do(order_of(behind, by, what, deed, fields), dry_run=True)
    runs = counted if isinstance(counted, BulkRuns) else None
    return page(
        request,
        "studies/action.html",
        status=422 if error else 200,
        what=what,
        deed=deed,
        matched=counted.matched,
        runs=runs,
        change=None if runs else counted,
        places=_places(what, runs) if runs else [],
        levels=[("", _("each destination's own")), *((word, word) for word in LEVELS)],
        vaults=vaults_of(behind, counted.matched) if deed.asks_vault else [],
        priorities=[(str(int(one)), priority_words(one)) for one in sorted(Priority, reverse=True)],
        typed=fields,
        problem=(error.message, error.hint) if error else None,
        here=what.address(f"/studies/actions/{deed.name}"),
        back=what.address("/studies", study=""),
    )


def _places(what: Asked, runs: BulkRuns) -> list[tuple[str, list[str], int]]:
    """Say what goes from where to where; several runs may be for one source."""
    return [
        (
            what.names(source),
            sorted(
                {
                    what.names(place.address)
                    for one in runs.requests
                    if one.source == source
                    for place in one.destinations
                }
            ),
            count,
        )
        for source, count in runs.matched.by_source.items()
        if any(one.source == source for one in runs.requests)
    ]
