"""`dcmvault schedule`: when plans run by themselves."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, tzinfo

import click

from dcmvault.app import schedules
from dcmvault.app.as_data import schedule_data
from dcmvault.cli.building import ExampleCommand, FamilyGroup, json_option
from dcmvault.cli.output import format_age, print_json, say, table
from dcmvault.cli.schedule_suggest import suggest_command
from dcmvault.cli.session import current_settings, opened
from dcmvault.config.time_zones import local_zone
from dcmvault.i18n import gettext as _
from dcmvault.i18n import sentence
from dcmvault.model.schedule import ScheduledRun
from dcmvault.reports.escaping import visible


def command() -> click.Command:
    """Build the group in the language in use."""
    return FamilyGroup(
        "schedule",
        text=_("When plans run by themselves, while the daemon does (dcmvault serve)."),
        members=[
            _list_command(),
            _next_command(),
            _enabling_command(
                "enable",
                _("Enable a schedule, whatever the configuration says. What it missed is past."),
                _enable,
            ),
            _enabling_command(
                "disable",
                _("Disable a schedule, until it is enabled again."),
                _disable,
            ),
            suggest_command(),
        ],
    )


def _list_command() -> click.Command:
    return ExampleCommand(
        "list",
        callback=_list,
        text=_("List the schedules: when each is due, and what came of the last time."),
        params=[json_option()],
        examples=[(_("What runs by itself"), "dcmvault schedule list")],
    )


def _next_command() -> click.Command:
    return ExampleCommand(
        "next",
        callback=_next,
        text=_("Show when schedules are due next, in order, in this machine's time."),
        params=[
            click.Option(
                ["--count"],
                type=click.IntRange(1, 1000),
                default=10,
                show_default=True,
                help=_("How many times to show."),
            ),
            json_option(),
        ],
        examples=[(_("The next five"), "dcmvault schedule next --count 5")],
    )


def _enabling_command(name: str, text: str, callback: Callable[..., int]) -> click.Command:
    return ExampleCommand(
        name,
        callback=callback,
        text=text,
        params=[click.Argument(["name"], metavar="SCHEDULE"), json_option()],
        examples=[(_("By its configured name"), f"dcmvault schedule {name} nightly")],
    )


def _list(as_json: bool) -> int:
    with opened(current_settings()) as session:
        views = schedules.views(session.workplace)
    if as_json:
        print_json({"schedules": [schedule_data(view) for view in views], "exit_status": 0})
        return 0
    if not views:
        say(_("No schedule is configured. Write one into the configuration: [schedules.NAME]."))
        return 0
    head = [_("Schedule"), _("Plan"), _("When"), _("Next"), _("Last")]
    zone = local_zone()
    say(table(head, [_row(view, zone) for view in views], right=frozenset()))
    for view in views:
        for run in view.last_runs:
            if run.problem:
                say(f"{visible(view.name)}: {sentence(visible(run.problem))}")
    return 0


def _row(view: schedules.ScheduleView, zone: tzinfo) -> list[str]:
    section = view.section
    when = section.cron or _("every %s") % section.every
    if section.time_zone:
        when = f"{when} ({section.time_zone})"
    state = view.state
    if not view.enabled:
        following = _("disabled")
    elif state is None or state.definition != section.definition:
        following = _("when the daemon runs")
    elif state.waiting_since is not None:
        following = _("as soon as its plan has ended")
    else:
        following = _shown(state.next_at, zone)
    last = view.last_runs[0] if view.last_runs else None
    return [view.name, section.plan, when, following, _outcome(last)]


def _outcome(run: ScheduledRun | None) -> str:
    if run is None:
        return _("never")
    if run.problem:
        return _("could not begin")
    ago = format_age(run.due_at)
    return f"{ago}, {run.run_id}" + ("" if run.settled else ", " + _("at work"))


def _shown(moment: datetime | None, zone: tzinfo) -> str:
    return _("never") if moment is None else f"{moment.astimezone(zone):%a %Y-%m-%d %H:%M %Z}"


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _next(count: int, as_json: bool) -> int:
    with opened(current_settings()) as session:
        times = schedules.coming(session.workplace, datetime.now(UTC), count)
    if as_json:
        due = [{"at": _text(moment), "schedule": name} for moment, name in times]
        print_json({"due": due, "exit_status": 0})
        return 0
    zone = local_zone()
    for moment, name in times:
        say(f"{_shown(moment, zone)}  {name}")
    if not times:
        say(_("No schedule is due."))
    return 0


def _enable(name: str, as_json: bool) -> int:
    return _set(name, enabled=True, as_json=as_json)


def _disable(name: str, as_json: bool) -> int:
    return _set(name, enabled=False, as_json=as_json)


def _set(name: str, *, enabled: bool, as_json: bool) -> int:
    settings = current_settings()
    schedules.schedule_of(settings, name)
    with opened(settings) as session:
        view = schedules.set_enabled(
            session.workplace, name, enabled=enabled, now=datetime.now(UTC)
        )
    if as_json:
        print_json({**schedule_data(view), "exit_status": 0})
    elif enabled:
        moment = view.state.next_at if view.state else None
        say(
            _("%(name)s is enabled; it is due next: %(time)s")
            % {"name": name, "time": _shown(moment, local_zone())}
        )
    else:
        say(_("%s is disabled.") % name)
    return 0
