"""`dcmvault schedule suggest`: windows by recorded history, with the evidence."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo

import click

from dcmvault.app.suggesting import suggest_windows
from dcmvault.cli.building import ExampleCommand, json_option
from dcmvault.cli.output import print_json, say, table
from dcmvault.cli.session import current_settings, opened
from dcmvault.config.time_zones import local_zone, time_zone
from dcmvault.errors import UsageError
from dcmvault.i18n import format_bytes, format_duration, format_number, ngettext
from dcmvault.i18n import gettext as _
from dcmvault.model.suggestion import SuggestedWindow, Suggestion


def suggest_command() -> click.Command:
    """Build the command."""
    return ExampleCommand(
        "suggest",
        callback=_suggest,
        text=_(
            "Suggest hours for the coming days, by what was recorded of arrivals, speed and "
            "failures in each hour of the week. With too little history it says so."
        ),
        params=[
            click.Option(
                ["--days"],
                type=click.IntRange(1, 31),
                default=7,
                show_default=True,
                help=_("For how many days."),
            ),
            click.Option(
                ["--time-zone", "zone"],
                default="",
                metavar=_("ZONE"),
                help=_("The zone whose hours are meant; by default this machine's."),
            ),
            json_option(),
        ],
        examples=[(_("For a week"), "dcmvault schedule suggest --days 7")],
    )


def _suggest(days: int, zone: str, as_json: bool) -> int:
    try:
        hours = time_zone(zone) if zone else local_zone()
    except ValueError as error:
        raise UsageError(str(error)) from None
    with opened(current_settings()) as session:
        found = suggest_windows(session.workplace, datetime.now(UTC), days, hours)
    if as_json:
        print_json(_object(found))
    else:
        _say(found, hours)
    return 0


def _say(found: Suggestion, zone: tzinfo) -> None:
    runs = ngettext("%s run that sent something", "%s runs that sent something", found.runs)
    days = ngettext("%s day", "%s days", found.observed_days)
    seen = _("Recorded: %(runs)s in %(days)s, %(studies)s studies came.") % {
        "runs": runs % format_number(found.runs),
        "days": days % format_number(found.observed_days),
        "studies": format_number(found.studies),
    }
    say(seen)
    if not found.is_founded:
        say(
            _(
                "That is too little to suggest hours: %(days)s days and %(runs)s runs are needed. "
                "Until then plans run at the hours that you choose."
            )
            % {"days": found.needed_days, "runs": found.needed_runs}
        )
        return
    say(_("Usual speed: %s per second.") % format_bytes(round(found.bytes_per_second)))
    head = [
        _("Window"),
        _("Expected"),
        _("Takes"),
        _("Studies per hour"),
        _("Speed then"),
        _("Failures then"),
    ]
    rows = [_row(window, zone) for window in found.windows]
    say(table(head, rows, right=frozenset({1, 2, 3, 4, 5})))
    say(
        _(
            "“Studies per hour” is how many come in these hours, and in an hour of that day. A "
            "schedule follows these hours with window = “suggested”."
        )
    )


def _row(window: SuggestedWindow, zone: tzinfo) -> list[str]:
    begins, ends = window.begins.astimezone(zone), window.ends.astimezone(zone)
    rate = window.bytes_per_second
    return [
        f"{begins:%a %Y-%m-%d %H:%M}–{ends:%H:%M}",
        format_bytes(window.expected_bytes),
        format_duration(window.expected_s),
        f"{window.arrivals_per_hour:.1f} / {window.usual_arrivals_per_hour:.1f}",
        "–" if rate is None else f"{format_bytes(round(rate))}/s",
        f"{format_number(window.failed)} / {format_number(window.instances)}",
    ]


def _object(found: Suggestion) -> dict[str, object]:
    return {
        "founded": found.is_founded,
        "observed_days": found.observed_days,
        "runs": found.runs,
        "studies": found.studies,
        "bytes_per_second": found.bytes_per_second,
        "needed_days": found.needed_days,
        "needed_runs": found.needed_runs,
        "windows": [
            {
                "begins": window.begins.isoformat(),
                "ends": window.ends.isoformat(),
                "expected_seconds": window.expected_s,
                "expected_bytes": window.expected_bytes,
                "arrivals_per_hour": window.arrivals_per_hour,
                "usual_arrivals_per_hour": window.usual_arrivals_per_hour,
                "bytes_per_second": window.bytes_per_second,
                "instances": window.instances,
                "failed": window.failed,
            }
            for window in found.windows
        ],
        "exit_status": 0,
    }
