"""Schedules: what runs by itself and when, what became of it, and hours that history suggests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from dcmvault.app import schedules
from dcmvault.app.place_names import PlaceNames
from dcmvault.app.plan_runs import preview_plan, start_plan
from dcmvault.app.run_list import listed_run
from dcmvault.app.schedules import ScheduleView
from dcmvault.app.suggesting import suggest_windows, weekly_hours
from dcmvault.config.schedule_sections import SUGGESTED
from dcmvault.config.time_zones import local_zone
from dcmvault.i18n import gettext as _
from dcmvault.i18n import sentence
from dcmvault.model.audit import AuditKind
from dcmvault.model.schedule import ScheduledRun, WeekTable
from dcmvault.reports.wording import reason_word, verdict
from dcmvault.web.backstage import Backstage, Behind
from dcmvault.web.frame import page
from dcmvault.web.pages.run_words import run_line
from dcmvault.web.roles import Role, needs
from dcmvault.web.steered import Steered
from dcmvault.web.visitors import By, Visitor
from dcmvault.web.week_drawing import Week, day_names, draw_week

#: Runs of each schedule that are shown, and coming times of all.
_LAST_RUNS = 3
_COMING = 8
#: Begins of a schedule that are drawn into a week; who runs more often begins at all hours.
_MOST_DRAWN = 7 * 24
_WEEK = timedelta(days=7)

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class _LastRun:
    """What became of one run of a schedule, and why."""

    run_id: str
    source: str
    due_at: datetime
    tone: str
    result: str
    why: str


@dataclass(frozen=True, slots=True)
class _Line:
    """One schedule."""

    name: str
    plan: str
    when: str
    zone: str
    window: str
    enabled: bool
    #: When it is due next, as clocks of its zone show it; else in words.
    following: str
    next_at: datetime | None
    last_runs: Sequence[_LastRun]


@dataclass(frozen=True, slots=True)
class _Hours:
    """The week of one window, or of no window, and the schedules that keep to it."""

    name: str
    zone: str
    week: Week
    schedules: Sequence[str]


@router.get("/schedules", dependencies=[Depends(needs(Role.VIEWER))])
def list_schedules(request: Request, behind: Behind, by: By) -> HTMLResponse:
    """Show schedules, when they are due, what became of them, and the hours of the week."""
    workplace, now = behind.workplace, behind.workplace.clock.now()
    views = schedules.views(workplace, _LAST_RUNS)
    names = PlaceNames(workplace, shows_addresses=by.role.may(Role.OPERATOR))
    zones = {view.name: view.section.trigger.zone for view in views}
    return page(
        request,
        "schedules/list.html",
        lines=[_line(behind, by, view, names) for view in views],
        coming=[
            (moment, local_time(moment, zones[name]), zone_name(zones[name]), name)
            for moment, name in schedules.coming(workplace, now, _COMING)
        ],
        hours=list(_hours(behind, views, now)),
        plans=sorted(workplace.settings.plans),
        may_steer=by.role.may(Role.OPERATOR),
        suggested=SUGGESTED,
    )


def _line(behind: Backstage, by: Visitor, view: ScheduleView, names: PlaceNames) -> _Line:
    section, state = view.section, view.state
    zone = section.trigger.zone
    next_at = state.next_at if state is not None else None
    if not view.enabled:
        following, next_at = _("disabled"), None
    elif state is None or state.definition != section.definition:
        following, next_at = _("when the daemon runs"), None
    elif state.waiting_since is not None:
        following, next_at = _("as soon as its plan has ended"), None
    else:
        following = local_time(next_at, zone) if next_at else _("never")
    return _Line(
        view.name,
        section.plan,
        section.cron or _("every %s") % section.every,
        zone_name(zone),
        section.window,
        view.enabled,
        following,
        next_at,
        [_last_run(behind, by, run, names) for run in view.last_runs],
    )


def _last_run(behind: Backstage, by: Visitor, run: ScheduledRun, names: PlaceNames) -> _LastRun:
    source = names(run.source)
    if run.problem:
        # An error may tell an address, which may name a patient.
        why = sentence(run.problem) if by.role.may(Role.OPERATOR) else ""
        return _LastRun("", source, run.due_at, "bad", _("could not begin"), why)
    row = listed_run(behind.workplace, run.run_id)
    if row is None:
        return _LastRun("", source, run.due_at, "open", _("waits for its turn"), "")
    line = run_line(row, names)
    why = verdict(row.report).headline if line.tone == "bad" else ""
    return _LastRun(line.run_id, source, run.due_at, line.tone, line.result, why)


def _hours(behind: Backstage, views: Sequence[ScheduleView], now: datetime) -> Iterator[_Hours]:
    """Draw a week for each window (and zone) that schedules keep to."""
    groups: dict[tuple[str, str], list[ScheduleView]] = {}
    for view in views:
        if view.section.window != SUGGESTED:
            zone = "" if view.section.window else zone_name(view.section.trigger.zone)
            groups.setdefault((view.section.window, zone), []).append(view)
    windows = behind.workplace.settings.windows
    for (window, _zone), group in sorted(groups.items()):
        table = windows[window].table if window else WeekTable(group[0].section.trigger.zone)
        due = [moment for view in group for moment in _due_in_a_week(view, now)]
        names = [view.name for view in group]
        yield _Hours(window, zone_name(table.zone), draw_week(table, due), names)


def _due_in_a_week(view: ScheduleView, now: datetime) -> list[datetime]:
    times = schedules.coming_times(view, now, _MOST_DRAWN)
    return [moment for moment in times if moment < now + _WEEK]


@router.post("/schedules/{name}/enable", dependencies=[Depends(needs(Role.OPERATOR))])
def enable(behind: Behind, steered: Steered, name: str) -> Response:
    """Enable a schedule; what it missed is past."""
    with steered("schedule enable", name=name):
        return _set_enabled(behind, name, enabled=True)


@router.post("/schedules/{name}/disable", dependencies=[Depends(needs(Role.OPERATOR))])
def disable(behind: Behind, steered: Steered, name: str) -> Response:
    """Disable a schedule, until it is enabled again."""
    with steered("schedule disable", name=name):
        return _set_enabled(behind, name, enabled=False)


def _set_enabled(behind: Backstage, name: str, *, enabled: bool) -> Response:
    workplace = behind.workplace
    schedules.set_enabled(workplace, name, enabled=enabled, now=workplace.clock.now())
    return RedirectResponse("/schedules", 303)


@router.get("/schedules/plans/{name}", dependencies=[Depends(needs(Role.OPERATOR))])
def plan(request: Request, behind: Behind, name: str) -> HTMLResponse:
    """Show a plan before it is run by hand."""
    return _plan(request, behind, name)


@router.post("/schedules/plans/{name}/look", dependencies=[Depends(needs(Role.OPERATOR))])
def look(request: Request, behind: Behind, name: str) -> HTMLResponse:
    """List the sources of a plan and say what it would do; nothing is sent."""
    return _plan(request, behind, name, is_looked_at=True)


def _plan(
    request: Request, behind: Backstage, name: str, *, is_looked_at: bool = False
) -> HTMLResponse:
    workplace = behind.workplace
    names = PlaceNames(workplace, shows_addresses=True)
    section = workplace.settings.plan(name)
    return page(
        request,
        "schedules/plan.html",
        name=name,
        names=names,
        sources=[names(place) for place in section.sources],
        destinations=[names(place) for place in section.destinations],
        foretold=preview_plan(workplace, name) if is_looked_at else None,
        reason=reason_word,
    )


@router.post("/schedules/plans/{name}/run", dependencies=[Depends(needs(Role.OPERATOR))])
def run_now(behind: Behind, steered: Steered, name: str) -> Response:
    """Start a plan now: a run for each of its sources; unfinished ones are continued."""
    with steered("run", kind=AuditKind.RUN_ASKED, plan=name):
        started = start_plan(behind.workplace, name)
    where = f"/runs/{started[0].run_id}" if len(started) == 1 else "/runs"
    return RedirectResponse(where, 303)


@router.get("/schedules/suggestions", dependencies=[Depends(needs(Role.VIEWER))])
def suggestions(request: Request, behind: Behind) -> HTMLResponse:
    """Show hours for the coming week by what was recorded, beside those that hold now."""
    workplace = behind.workplace
    now, zone = workplace.clock.now(), local_zone()
    found = suggest_windows(workplace, now, _WEEK.days, zone)
    table = weekly_hours(found, zone)
    views = schedules.views(workplace)
    due = [moment for view in views for moment in _due_in_a_week(view, now)]
    return page(
        request,
        "schedules/suggestions.html",
        found=found,
        zone=zone_name(zone),
        windows=[
            (local_time(one.begins, zone), f"{one.ends.astimezone(zone):%H:%M}", one)
            for one in found.windows
        ],
        week=draw_week(table, due) if table else None,
        now_hours=list(_hours(behind, views, now)),
        following=[view.name for view in views if view.section.window == SUGGESTED],
        others=[view.name for view in views if view.section.window != SUGGESTED],
    )


def local_time(moment: datetime, zone: tzinfo) -> str:
    """Write a moment as clocks of a zone show it: Tue 2026-12-01 02:00."""
    local = moment.astimezone(zone)
    return f"{day_names()[local.weekday()]} {local:%Y-%m-%d %H:%M}"


def zone_name(zone: tzinfo) -> str:
    """Name a zone as the database of zones does."""
    return str(getattr(zone, "key", "")) or str(datetime.now(UTC).astimezone(zone).tzname())
