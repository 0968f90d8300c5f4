"""What is done to all studies that match: counted first, asked for, then started."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from dcmvault.app.study_actions import BulkRuns, back_up_studies, verify_studies
from dcmvault.i18n import gettext as _
from dcmvault.model.audit import AuditKind
from dcmvault.model.evidence import Level
from dcmvault.web.backstage import Backstage, Behind
from dcmvault.web.forms import Fields
from dcmvault.web.frame import page
from dcmvault.web.pages.study_asking import Asked, asked
from dcmvault.web.roles import Role, needs
from dcmvault.web.steered import Steered
from dcmvault.web.visitors import By

#: Levels that can be asked for; below them nothing is verified.
_LEVELS = {one.word: one for one in Level if one > Level.SENT}

router = APIRouter(include_in_schema=False, dependencies=[Depends(needs(Role.OPERATOR))])


@router.get("/studies/actions/{action}")
def ask_for_action(request: Request, behind: Behind, by: By, action: str) -> HTMLResponse:
    """Say what would be done to all that matches, and ask."""
    what = asked(request, behind, by)
    counted = _action(action)(behind, what, None, dry_run=True)
    return _asking(request, what, action, counted)


@router.post("/studies/actions/{action}")
def do_action(
    request: Request, behind: Behind, by: By, steered: Steered, fields: Fields, action: str
) -> Response:
    """Start it, and show what goes on; what cannot be started is said with its reason."""
    do = _action(action)
    what = asked(request, behind, by)
    level = fields.get("level", "")
    if level and level not in _LEVELS:
        raise HTTPException(422)
    with steered(action, kind=AuditKind.RUN_ASKED):
        done = do(behind, what, _LEVELS.get(level), dry_run=False)
    behind.overview(anew=True)
    request.app.state.fragments.forget()
    if done.left_out or not done.started:
        return _asking(request, what, action, done)
    return RedirectResponse("/live", 303)


_Action = Callable[..., BulkRuns]


def _action(name: str) -> _Action:
    found = {"backup": _back_up, "verify": _verify}.get(name)
    if found is None:
        raise HTTPException(404)
    return found


def _back_up(behind: Backstage, what: Asked, level: Level | None, *, dry_run: bool) -> BulkRuns:
    del level
    return back_up_studies(behind.workplace, what.query, _where(what), dry_run=dry_run)


def _verify(behind: Backstage, what: Asked, level: Level | None, *, dry_run: bool) -> BulkRuns:
    return verify_studies(behind.workplace, what.query, _where(what), level, dry_run=dry_run)


def _where(what: Asked) -> list[str]:
    return [what.query.destination] if what.query.destination else []


def _asking(request: Request, what: Asked, action: str, runs: BulkRuns) -> HTMLResponse:
    return page(
        request,
        "studies/action.html",
        what=what,
        runs=runs,
        is_verify=action == "verify",
        levels=[("", _("each destination's own")), *((word, word) for word in _LEVELS)],
        # What was asked for: several runs may be for one source.
        places=[
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
        ],
        here=what.address(f"/studies/actions/{action}"),
        back=what.address("/studies"),
    )
