"""`dcmvault restore --drill`: whether everything would come back, and how long it would take."""

from __future__ import annotations

import click

from dcmvault.app.drills import carry_out_drill
from dcmvault.app.restore_report import RestoreRequest
from dcmvault.cli.interrupts import stoppable
from dcmvault.cli.output import print_json, say
from dcmvault.cli.restore_progress import restore_shown
from dcmvault.cli.session import opened
from dcmvault.config.settings import Settings
from dcmvault.i18n import format_bytes, format_duration, format_number, ngettext, sentence
from dcmvault.i18n import gettext as _
from dcmvault.model.drill import Drill
from dcmvault.reports.escaping import visible

_REACHED, _SOME_FAILED = 0, 3


def drill(
    settings: Settings, request: RestoreRequest, count: int, *, as_json: bool, progress: str
) -> int:
    """Carry a drill out, show it, and return the exit status."""
    with (
        opened(settings) as session,
        stoppable() as stop,
        restore_shown(progress) as watch,
    ):
        done = carry_out_drill(session.workplace, request, count, watch, stop)
    status = _REACHED if done.passed else _SOME_FAILED
    if as_json:
        print_json({**drill_object(done), "exit_status": status})
    else:
        _say(done)
    return status


def drill_object(done: Drill) -> dict[str, object]:
    """Return a drill for JSON."""
    return {
        "place": done.place,
        "drilled_at": done.drilled_at.isoformat(timespec="milliseconds"),
        "passed": done.passed,
        "studies": [
            {
                "study_instance_uid": one.study_instance_uid,
                "files": one.files,
                "bytes": one.bytes,
                "seconds": round(one.seconds, 3),
                "problem": one.problem,
            }
            for one in done.studies
        ],
        "whole_studies": done.whole_studies,
        "whole_bytes": done.whole_bytes,
        "recovery_s": None if done.recovery_s is None else round(done.recovery_s, 3),
    }


def drill_lines(done: Drill) -> list[str]:
    """Say in a line or two how a drill went."""
    good = sum(one.passed for one in done.studies)
    count = len(done.studies)
    words = {"good": format_number(good), "count": format_number(count)}
    text = ngettext(
        "%(good)s of %(count)s study came back as it was stored",
        "%(good)s of %(count)s studies came back as they were stored",
        count,
    )
    lines = [text % words]
    if done.recovery_s is not None:
        lines.append(
            _("all %(studies)s studies (%(size)s) would take about %(time)s")
            % {
                "studies": format_number(done.whole_studies),
                "size": format_bytes(done.whole_bytes),
                "time": format_duration(done.recovery_s),
            }
        )
    return lines


def _say(done: Drill) -> None:
    verdict, *more = drill_lines(done)
    say(click.style(f"{verdict}.", fg="green" if done.passed else "red", bold=True))
    for line in more:
        say(f"  {line}")
    for one in done.studies:
        told = f"{format_number(one.files)}, {format_bytes(one.bytes)}"
        problem = f"  {sentence(one.problem)}" if one.problem else ""
        name = visible(one.study_instance_uid or _("(not known which)"))
        say(f"  {name}  {told}, {format_duration(one.seconds)}{visible(problem)}")
