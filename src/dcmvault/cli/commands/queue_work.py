"""`dcmvault queue finish`, `skip` and `slow`: steer work that goes on, as the Live page does."""

from __future__ import annotations

from datetime import timedelta

import click

from dcmvault.app import queue, slowing
from dcmvault.cli.building import ExampleCommand, json_option
from dcmvault.cli.output import print_json, say
from dcmvault.cli.session import current_settings, opened
from dcmvault.i18n import format_bytes, format_duration, format_number, ngettext
from dcmvault.i18n import gettext as _
from dcmvault.reports.escaping import visible


def commands() -> list[click.Command]:
    """Build the commands in the language in use."""
    return [
        ExampleCommand(
            "finish",
            callback=_finish,
            text=_(
                "Let what is at work of a RUN end, and leave out the rest, which is due in the "
                "next run. The run ends as one that did not reach everything."
            ),
            params=[click.Argument(["run"], metavar="RUN"), json_option()],
            examples=[(_("After what is under way"), "dcmvault queue finish RUN")],
        ),
        ExampleCommand(
            "skip",
            callback=_skip,
            text=_("Leave the study of a JOB out of its run; it is due again in the next."),
            params=[click.Argument(["job"], metavar="JOB"), json_option()],
            examples=[(_("A study that is in the way"), "dcmvault queue skip JOB")],
        ),
        ExampleCommand(
            "slow",
            callback=_slow,
            text=_(
                "Send to DESTINATION slowly for a while: a quarter of what is usual. It ends by "
                "itself, and survives restarts."
            ),
            params=[
                click.Argument(["destination"], metavar="DESTINATION"),
                click.Option(
                    ["--minutes"],
                    type=click.IntRange(1, 7 * 24 * 60),
                    default=60,
                    show_default=True,
                    help=_("For how long."),
                ),
                click.Option(["--end"], is_flag=True, help=_("End it now: full speed again.")),
                json_option(),
            ],
            examples=[
                (_("For an hour"), "dcmvault queue slow pacs"),
                (_("No longer"), "dcmvault queue slow pacs --end"),
            ],
        ),
    ]


def _finish(run: str, as_json: bool) -> int:
    with opened(current_settings()) as session:
        left = queue.stop_after_current(session.workplace, run)
    return _left_out(left, as_json=as_json)


def _skip(job: str, as_json: bool) -> int:
    with opened(current_settings()) as session:
        left = queue.skip(session.workplace, job)
    return _left_out(left, as_json=as_json)


def _left_out(count: int, *, as_json: bool) -> int:
    if as_json:
        print_json({"left_out": count, "exit_status": 0})
    else:
        words = ngettext(
            "%s instance is left for the next run.",
            "%s instances are left for the next run.",
            count,
        )
        say(words % format_number(count))
    return 0


def _slow(destination: str, minutes: int, end: bool, as_json: bool) -> int:
    with opened(current_settings()) as session:
        slowed = None
        if end:
            slowing.full_speed(session.workplace, destination)
        else:
            length = timedelta(minutes=minutes)
            slowed = slowing.go_slow(session.workplace, destination, length=length)
    if as_json:
        told: dict[str, object] = {"bytes_per_s": None, "until": None}
        if slowed is not None:
            told = {"bytes_per_s": slowed.bytes_per_s, "until": slowed.until.isoformat()}
        print_json({**told, "exit_status": 0})
    elif slowed is None:
        say(_("%s goes at full speed again.") % visible(destination))
    else:
        say(
            _("%(name)s goes slowly for %(length)s: %(rate)s at most.")
            % {
                "name": visible(destination),
                "length": format_duration(minutes * 60.0),
                "rate": f"{format_bytes(slowed.bytes_per_s)}/s",
            }
        )
    return 0
