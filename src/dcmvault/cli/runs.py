"""What `backup` and `verify` share: carry a run out, show it on its way, and sum it up."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from dcmvault.app.backup import follow, start
from dcmvault.app.news import telling
from dcmvault.cli.interrupts import stoppable
from dcmvault.cli.output import is_operators_screen, say, tell, tell_error
from dcmvault.cli.progress import shown
from dcmvault.cli.session import Session
from dcmvault.cli.summary import summarise
from dcmvault.i18n import gettext as _
from dcmvault.model.identifiers import RunId
from dcmvault.model.plan import RunRequest
from dcmvault.model.report import Counts, Privacy, RunReport
from dcmvault.reports.escaping import visible
from dcmvault.reports.summary import summary


@dataclass(frozen=True, slots=True)
class Done:
    """A run that ended and was shown, unless its summary is to be printed as JSON."""

    run_id: RunId
    source: str
    exit_status: int
    counts: Counts
    summary: dict[str, object]


def carry_out(
    session: Session,
    request: RunRequest,
    *,
    as_json: bool,
    progress: str,
    briefly: bool = False,
) -> Done:
    """Start (or continue) a run, follow it to its end, and show its summary to people.

    `briefly`: one line of a run that had nothing to do.
    Raises RunInterruptedError on SIGINT and SIGTERM.
    """
    started = start(session.workplace, request)
    if started.continued and progress not in {"json", "none"}:
        tell(_("Continuing the unfinished run %s.") % started.run_id)
    with (
        telling(session.workplace),
        stoppable() as stop,
        shown(progress, request.kind) as watch,
    ):
        report = follow(session.workplace, started.run_id, watch, stop)
    if briefly and report.error is None and not (report.counts.selected or report.exit_status):
        time = datetime.now().astimezone().strftime("%H:%M:%S")
        say(f"{time}  {visible(report.request.source)}: " + _("nothing was left to do"))
    elif not as_json:
        _show(report)
    return Done(
        report.run_id,
        report.request.source,
        report.exit_status,
        report.counts,
        summary(report, Privacy.FULL),
    )


def _show(report: RunReport) -> None:
    if report.error is None or report.counts.selected:
        say(summarise(report, show_locators=is_operators_screen()))
    if report.error is not None:
        _code, message, hint = report.error
        tell_error(message, hint)
