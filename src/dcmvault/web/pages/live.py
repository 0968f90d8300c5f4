"""Live: what goes on at each destination, and the means to steer it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import quote

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from markupsafe import Markup

from dcmvault.app import queue, slowing
from dcmvault.app.place_names import PlaceNames
from dcmvault.app.wiring.workplace import Workplace
from dcmvault.app.workers import workers
from dcmvault.i18n import language, sentence
from dcmvault.model.job import JobState, Priority
from dcmvault.model.live import RecentFailure
from dcmvault.model.report import RunState
from dcmvault.reports import overview_words as words
from dcmvault.reports.wording import cause_title, state_label
from dcmvault.web.backstage import Backstage, Behind
from dcmvault.web.forms import Fields
from dcmvault.web.fragments import CSRF_MARK
from dcmvault.web.frame import csrf_of, page, state_now
from dcmvault.web.rendering import render
from dcmvault.web.roles import Role, needs
from dcmvault.web.steered import Steered
from dcmvault.web.visitors import By, Visitor

#: Jobs that wait, as many as are looked at and shown.
_LOOKED_AT = 60
_WAITING = 6
_AT_REST = frozenset({JobState.PENDING, JobState.QUEUED, JobState.RETRYING})

router = APIRouter(include_in_schema=False)


@router.get("/live", dependencies=[Depends(needs(Role.VIEWER))])
def live(request: Request, behind: Behind, by: By) -> HTMLResponse:
    """Show what goes on."""
    return page(request, "live/live.html", now=_now(request, behind, by))


@router.get("/live/now", dependencies=[Depends(needs(Role.VIEWER))])
def now(request: Request, behind: Behind, by: By) -> HTMLResponse:
    """Return the part of the page that changes: made once a second for all who look."""
    return HTMLResponse(state_now(request) + _now(request, behind, by))


def _now(request: Request, behind: Backstage, by: Visitor) -> Markup:
    make: Callable[[], str] = lambda: _made(behind, by)  # noqa: E731 - made if needed
    made = request.app.state.fragments.get(("live", language(), by.role.value), make)
    # Rendered by a template, which escaped it.
    return Markup(made.replace(CSRF_MARK, csrf_of(request)))  # noqa: S704


def _made(behind: Backstage, by: Visitor) -> str:
    seen = behind.live()
    may_steer = by.role.may(Role.OPERATOR)
    names = PlaceNames(behind.workplace, shows_addresses=may_steer)
    called = {lane.name: names(lane.address) if lane.address else lane.name for lane in seen.lanes}
    return render(
        "live/now.html",
        live=seen,
        lanes=[(lane, called[lane.name]) for lane in seen.lanes],
        names=lambda name: called.get(name, name),
        waiting=_waiting(behind, names) if may_steer and seen.runs else [],
        failures=[_failure(one, called) for one in seen.failures],
        workers=workers(behind.workplace),
        words=words,
        state_label=lambda state: state_label(RunState(state)),
        may_steer=may_steer,
        csrf=CSRF_MARK,
        quote=lambda text: quote(text, safe=""),
    )


def _waiting(behind: Backstage, names: PlaceNames) -> list[tuple[object, str, str]]:
    jobs = queue.jobs(behind.workplace, _LOOKED_AT)
    waiting = [view for view in jobs if view.job.state in _AT_REST]
    return [
        (view.job, names(view.destination), words.priority_words(view.job.priority))
        for view in waiting[:_WAITING]
    ]


def _failure(one: RecentFailure, called: Mapping[str, str]) -> dict[str, object]:
    return {
        "title": cause_title(one.code),
        "count": one.instances,
        "studies": one.studies,
        "place": called.get(one.destination, one.destination),
        "status": one.status,
        "run_id": one.run_id,
        "hint": sentence(one.hint or one.message),
    }


def _skip(workplace: Workplace, which: str) -> None:
    queue.skip(workplace, which)


def _stop(workplace: Workplace, which: str) -> None:
    queue.stop_after_current(workplace, which)


def _first(workplace: Workplace, which: str) -> None:
    queue.prioritise(workplace, which, Priority.URGENT)


def _slow(workplace: Workplace, which: str) -> None:
    slowing.go_slow(workplace, which)


#: What can be done here: the command that the journal has for it, and what does it.
_DEEDS: Mapping[str, tuple[str, Callable[[Workplace, str], None]]] = {
    "pause": ("queue pause", queue.pause),
    "resume": ("queue resume", queue.resume),
    "cancel": ("queue cancel", queue.cancel),
    "stop": ("queue finish", _stop),
    "skip": ("queue skip", _skip),
    "first": ("queue prioritise", _first),
    "slow": ("queue slow", _slow),
    "full": ("queue slow", slowing.full_speed),
}
_ABOUT_PLACES = frozenset({"pause", "resume", "slow", "full"})


@router.post("/live", dependencies=[Depends(needs(Role.OPERATOR))], response_model=None)
def steer(
    request: Request, behind: Behind, by: By, steered: Steered, fields: Fields
) -> HTMLResponse | RedirectResponse:
    """Do one of the deeds to a destination, a run or a job, and show what goes on then."""
    deed, which = fields.get("do", ""), fields.get("which", "")
    if deed not in _DEEDS or not which:
        raise HTTPException(422)
    command, perform = _DEEDS[deed]
    place, work = (which, "") if deed in _ABOUT_PLACES else ("", which)
    with steered(command, place=place, which=work):
        perform(behind.workplace, which)
    behind.live(anew=True)
    behind.overview(anew=True)
    request.app.state.fragments.forget()
    if "hx-request" in request.headers:
        return now(request, behind, by)
    return RedirectResponse("/live", 303)
