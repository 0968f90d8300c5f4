"""The overview: how everything is, in one look, and the one thing to do about each problem."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from markupsafe import Markup

from dcmvault.app.node import echo
from dcmvault.app.overview import STRIP_RUNS
from dcmvault.app.place_names import PlaceNames
from dcmvault.app.plan_runs import start_plan
from dcmvault.i18n import language
from dcmvault.model.audit import AuditKind
from dcmvault.model.overview import Need, Overview, Standing, Verdict
from dcmvault.reports import overview_words as words
from dcmvault.reports.alert_words import alert_advice, alert_remedy
from dcmvault.web import strips
from dcmvault.web.backstage import Backstage, Behind
from dcmvault.web.frame import page, state_now
from dcmvault.web.pages.leads import lead_of
from dcmvault.web.rendering import ago, render
from dcmvault.web.roles import Role, needs
from dcmvault.web.steered import Steered
from dcmvault.web.visitors import By, Visitor

_TONES = {
    Standing.NOTHING_CONFIGURED: "open",
    Standing.NEEDS_YOU: "claim",
    Standing.NEVER_RAN: "open",
    Standing.WORKING: "running",
    Standing.PAUSED: "claim",
    Standing.BEHIND: "claim",
    Standing.COUNTING: "running",
    Standing.ALL_WELL: "good",
}
_VERDICT_TONES = {Verdict.KEPT: "good", Verdict.BROKEN: "bad", Verdict.UNKNOWN: "open"}

router = APIRouter(include_in_schema=False)


@router.get("/", dependencies=[Depends(needs(Role.VIEWER))])
def overview(request: Request, behind: Behind, by: By) -> HTMLResponse:
    """Show how everything is."""
    return page(request, "overview/overview.html", now=_now(request, behind, by))


@router.get("/overview/now", dependencies=[Depends(needs(Role.VIEWER))])
def now(request: Request, behind: Behind, by: By) -> HTMLResponse:
    """Return the part of the page that changes: made once a second for all who look."""
    return HTMLResponse(state_now(request) + _now(request, behind, by))


def _now(request: Request, behind: Backstage, by: Visitor) -> Markup:
    make: Callable[[], str] = lambda: _made(request, behind, by)  # noqa: E731 - made if needed
    name = ("overview", language(), by.role.value)
    # Rendered by a template, which escaped it.
    return Markup(request.app.state.fragments.get(name, make))  # noqa: S704


def _made(request: Request, behind: Backstage, by: Visitor) -> str:
    seen = behind.overview()
    may_steer = by.role.may(Role.OPERATOR)
    names = PlaceNames(behind.workplace, shows_addresses=may_steer)
    tone = _TONES[seen.standing]
    if seen.standing is Standing.NEEDS_YOU and any(need.critical for need in seen.needs):
        tone = "bad"
    return render(
        "overview/now.html",
        seen=seen,
        tone=tone,
        headline=words.first_sentence(seen),
        then=words.then_sentence(seen, ago),
        needs=_needs(seen, request, may_steer=may_steer),
        proof=words.proof_sentence(seen.proof, seen.at),
        full=words.full_sentence(seen.full_in_days),
        protected=words.protected_words(seen),
        plans=[(plan, strips.strip(plan.runs, STRIP_RUNS)) for plan in seen.plans],
        rulings=[
            (
                one,
                _VERDICT_TONES[one.verdict],
                words.rule_title(one.rule),
                words.verdict_words(one.verdict),
                words.basis_words(one.basis),
                words.ruling_sentence(one),
            )
            for one in seen.rulings
        ],
        weeks=strips.weeks(seen.weeks),
        words=words,
        places=STRIP_RUNS,
        names=names,
        may_steer=may_steer,
        quote=lambda text: quote(text, safe=""),
    )


def _needs(seen: Overview, request: Request, *, may_steer: bool) -> list[dict[str, str]]:
    leads = [lead_of(need, request.app.state.pages, may_steer=may_steer) for need in seen.needs]
    return [
        {
            "tone": "bad" if need.critical else "claim",
            "words": words.need_sentence(need),
            "since": ago(need.since) if need.since is not None else "",
            "remedy": _remedy(need, lead),
            "verb": words.verb_words(need.verb),
            "to": lead,
        }
        for need, lead in zip(seen.needs, leads, strict=True)
    ]


def _remedy(need: Need, lead: str) -> str:
    if need.alert is None:
        return ""
    return alert_advice(need.alert.code) if lead else alert_remedy(need.alert.code)


@router.get("/plans/{name}/start", dependencies=[Depends(needs(Role.OPERATOR))])
def ask_to_start(request: Request, behind: Behind, by: By, name: str) -> HTMLResponse:
    """Say what a plan would do, and ask."""
    plan = behind.workplace.settings.plan(name)
    names = PlaceNames(behind.workplace, shows_addresses=by.role.may(Role.OPERATOR))
    return page(
        request,
        "overview/start.html",
        name=name,
        sources=[names(one) for one in plan.sources],
        destinations=[names(one) for one in plan.destinations],
        level=plan.level,
        max_studies=plan.max_studies,
    )


@router.post("/plans/{name}/start", dependencies=[Depends(needs(Role.OPERATOR))])
def start(request: Request, behind: Behind, steered: Steered, name: str) -> RedirectResponse:
    """Start a plan now, and show what goes on."""
    with steered("run", kind=AuditKind.RUN_ASKED, plan=name):
        start_plan(behind.workplace, name)
    behind.overview(anew=True)
    request.app.state.fragments.forget()
    return RedirectResponse("/live", 303)


@router.get("/destinations/{name}/try", dependencies=[Depends(needs(Role.OPERATOR))])
def ask_to_try(request: Request, behind: Behind, name: str) -> Response:
    """Ask whether to try a configured destination: never an address of somebody's own."""
    _known(behind, name)
    return page(request, "overview/try.html", name=name, steps=None, all_ok=False)


@router.post("/destinations/{name}/try", dependencies=[Depends(needs(Role.OPERATOR))])
def tried(request: Request, behind: Behind, name: str) -> Response:
    """Try it step by step, and say how each went."""
    _known(behind, name)
    steps = echo(behind.workplace.settings, name)
    all_ok = all(step.ok for step in steps)
    return page(request, "overview/try.html", name=name, steps=steps, all_ok=all_ok)


def _known(behind: Backstage, name: str) -> None:
    """Refuse what is not configured: a page tries no address that comes with a request."""
    if name not in behind.workplace.settings.destinations:
        raise HTTPException(404)
