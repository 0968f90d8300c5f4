"""Schedules: start what is due, let a plan's sources take their turns, say what comes next.

`start_due` is a plain function of the time. What was missed while nothing ran is due once. A plan
never runs beside itself: what falls due meanwhile is kept, once, until its runs have ended.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from dcmvault.app.backup import requests_of, start
from dcmvault.app.wiring.workplace import Workplace
from dcmvault.config.addresses import did_you_mean
from dcmvault.config.schedule_sections import ScheduleSection
from dcmvault.config.settings import Settings
from dcmvault.errors import DcmvaultError, UsageError
from dcmvault.i18n import gettext as _
from dcmvault.model.identifiers import new_run_id
from dcmvault.model.plan import RunRequest
from dcmvault.model.report import RunState
from dcmvault.model.schedule import ScheduledRun, ScheduleState
from dcmvault.model.selection import Selection
from dcmvault.pipeline.scheduling import next_due

_log = logging.getLogger(__name__)

#: How long nothing need be looked at, at most; and while runs are to be followed.
_IDLE = timedelta(minutes=5)
_FOLLOWING = timedelta(seconds=5)
_ENDED = frozenset({RunState.FINISHED, RunState.FAILED, RunState.CANCELLED})


@dataclass(frozen=True, slots=True)
class ScheduleView:
    """A configured schedule, and where it stands."""

    name: str
    section: ScheduleSection
    enabled: bool
    state: ScheduleState | None
    last_runs: Sequence[ScheduledRun]


def start_due(workplace: Workplace, now: datetime) -> datetime:
    """Start what is due at `now`; return when to look again.

    Safe to repeat after a crash at any point: what was due begins once.
    """
    remembered = _define(workplace, now)
    waiting = False
    for name, section in sorted(workplace.settings.schedules.items()):
        state = remembered[name]
        if _is_enabled(section, state) and _is_due(state, now):
            waiting |= not _begin(workplace, section, state, now)
    open_runs = _take_turns(workplace)
    wakes = [now + (_FOLLOWING if waiting or open_runs else _IDLE)]
    for name, state in workplace.catalogue.schedules.schedules().items():
        scheduled = workplace.settings.schedules.get(name)
        if scheduled and state.next_at and _is_enabled(scheduled, state):
            wakes.append(state.next_at)
    return max(min(wakes), now)


def _is_enabled(section: ScheduleSection, state: ScheduleState | None) -> bool:
    return section.enabled if state is None or state.enabled is None else state.enabled


def _is_due(state: ScheduleState, now: datetime) -> bool:
    if state.waiting_since is not None:
        return True
    return state.next_at is not None and state.next_at <= now


def _define(workplace: Workplace, now: datetime) -> dict[str, ScheduleState]:
    """Work out when new and changed schedules are due; return the state of all."""
    book = workplace.catalogue.schedules
    states = dict(book.schedules())
    for name, section in workplace.settings.schedules.items():
        state = states.get(name)
        if state is None or state.definition != section.definition:
            book.define(name, section.definition, next_due(section.trigger, now))
        elif not _is_enabled(section, state) and _is_due(state, now):
            # What falls due while it is disabled is not missed.
            book.define(name, section.definition, next_due(section.trigger, now, state.next_at))
    return dict(book.schedules())


def _begin(
    workplace: Workplace, section: ScheduleSection, state: ScheduleState, now: datetime
) -> bool:
    """Write down the runs of a schedule that is due; False where its plan is still running."""
    due_at = state.waiting_since or state.next_at
    assert due_at is not None
    following = state.next_at
    if following is not None and following <= now:
        following = next_due(section.trigger, now, following)
    book = workplace.catalogue.schedules
    plan = workplace.settings.plans[section.plan]
    if any(run.plan == section.plan for run in book.open_runs()) or _runs_by_hand(
        workplace, section
    ):
        book.wait(state.name, due_at, following)
        return False
    runs = [
        ScheduledRun(state.name, section.plan, due_at, position, source, new_run_id(now))
        for position, source in enumerate(plan.sources)
    ]
    return book.claim(state, following, runs)


def _runs_by_hand(workplace: Workplace, section: ScheduleSection) -> bool:
    """Say whether somebody's own run of the same source and destinations has not ended."""
    try:
        requests = requests_of(workplace.settings, workplace.settings.plans[section.plan])
    except DcmvaultError:
        return False  # it is told when its turn comes
    plan = {(r.source, frozenset(d.address for d in r.destinations)) for r in requests}
    runs = workplace.catalogue.runs
    for run_id in workplace.catalogue.unfinished.unfinished():
        request = runs.run(run_id).request
        if request.kind.delivers and (
            (request.source, frozenset(d.address for d in request.destinations)) in plan
        ):
            return True
    return False


def _take_turns(workplace: Workplace) -> int:
    """Settle runs that ended and start those whose turn it is; return how many are open."""
    book = workplace.catalogue.schedules
    begun: set[tuple[str, datetime]] = set()
    open_runs = 0
    for run in book.open_runs():
        turn = (run.schedule, run.due_at)
        if turn in begun:  # one of the sources before it is at work
            open_runs += 1
            continue
        after = _after_a_look(workplace, run)
        if after != run:
            book.update_run(after)
        if not after.settled:
            begun.add(turn)
            open_runs += 1
    return open_runs


def _after_a_look(workplace: Workplace, run: ScheduledRun) -> ScheduledRun:
    """Start a run, or see whether it ended."""
    try:
        record = workplace.catalogue.runs.run(run.run_id)
        if record.state in _ENDED:
            return replace(run, settled=True)
        if workplace.queue.is_open(run.run_id):
            return run
    except KeyError:
        pass
    try:
        started = start(workplace, _request(workplace, run), run.run_id)
    except DcmvaultError as error:
        _log.error("a run of the plan “%s” cannot begin: %s", run.plan, error.code)
        return replace(run, settled=True, problem=f"{error.message} {error.hint}".strip())
    return replace(run, run_id=started.run_id)


def _request(workplace: Workplace, run: ScheduledRun) -> RunRequest:
    """Make the request of one source, as its schedule asks for it now."""
    settings = workplace.settings
    plan = settings.plan(run.plan)
    section = settings.schedules.get(run.schedule)
    changes: dict[str, object] = {"sources": (run.source,)}
    if section is not None and section.strategy:
        changes["strategy"] = section.strategy
    if section is not None and section.max_studies:
        changes["max_studies"] = section.max_studies
    [request] = requests_of(settings, plan.model_copy(update=changes))
    if section is not None and section.study_days:
        first = run.due_at.astimezone(section.trigger.zone) - timedelta(days=section.study_days)
        request = replace(request, selection=Selection(first_date=f"{first:%Y%m%d}"))
    return request


def views(workplace: Workplace, runs_each: int = 1) -> list[ScheduleView]:
    """List configured schedules by name, with their last runs."""
    book = workplace.catalogue.schedules
    states = book.schedules()
    return [
        ScheduleView(
            name,
            section,
            _is_enabled(section, states.get(name)),
            states.get(name),
            book.last_runs(name, runs_each),
        )
        for name, section in sorted(workplace.settings.schedules.items())
    ]


def coming(workplace: Workplace, now: datetime, count: int) -> list[tuple[datetime, str]]:
    """List the next times at which enabled schedules are due, in order, as (time, name)."""
    times = [
        (moment, view.name)
        for view in views(workplace)
        for moment in coming_times(view, now, count)
    ]
    return sorted(times)[:count]


def coming_times(view: ScheduleView, now: datetime, count: int) -> list[datetime]:
    """List the next times at which one schedule is due; none where it is disabled."""
    if not view.enabled:
        return []
    moment = view.state.next_at if view.state is not None else None
    known = view.state is not None and view.state.definition == view.section.definition
    if not known:
        moment = next_due(view.section.trigger, now)
    times: list[datetime] = []
    while moment is not None and len(times) < count:
        times.append(moment)
        moment = next_due(view.section.trigger, max(moment, now), moment)
    return times


def set_enabled(workplace: Workplace, name: str, *, enabled: bool, now: datetime) -> ScheduleView:
    """Enable or disable a schedule until it is said otherwise, whatever the configuration says.

    UsageError where there is none of this name.
    """
    section = schedule_of(workplace.settings, name)
    book = workplace.catalogue.schedules
    state = book.schedules().get(name)
    next_at = state.next_at if state is not None else None
    if state is None or state.definition != section.definition or next_at is None or next_at <= now:
        next_at = next_due(section.trigger, now)
        book.define(name, section.definition, next_at)
    book.set_enabled(name, enabled=enabled, next_at=next_at)
    return next(view for view in views(workplace) if view.name == name)


def schedule_of(settings: Settings, name: str) -> ScheduleSection:
    """Return a configured schedule; UsageError where there is none of this name."""
    if found := settings.schedules.get(name):
        return found
    if not settings.schedules:
        raise UsageError(
            _("No schedule is configured."),
            hint=_("Write one into the configuration: [schedules.NAME]."),
        )
    raise UsageError(
        _("There is no schedule “%s”.") % name,
        hint=did_you_mean(name, settings.schedules)
        or _("Configured schedules: %s.") % ", ".join(sorted(settings.schedules)),
    )
