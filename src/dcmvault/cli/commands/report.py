"""`dcmvault report`: a run, a period or a destination, in the format asked for."""

from __future__ import annotations

import sys
import webbrowser
from datetime import datetime
from pathlib import Path

import click

from dcmvault.app.periods import Period
from dcmvault.app.report import FORMATS, LATEST, period_report, rendered, run_report
from dcmvault.cli.building import ExampleCommand
from dcmvault.cli.output import say, write_private, write_private_bytes
from dcmvault.cli.periods import period_options
from dcmvault.cli.session import current_settings, opened
from dcmvault.errors import StateError, UsageError
from dcmvault.i18n import gettext as _
from dcmvault.model.report import Privacy, RunReport
from dcmvault.model.statistics import PeriodReport

_STDOUT = "-"
#: Formats that no terminal shows.
_TO_A_FILE = frozenset({"html", "pdf"})


def command() -> click.Command:
    """Build the command in the language in use."""
    return ExampleCommand(
        "report",
        callback=_report,
        text=_(
            "Show the report of RUN, or of the latest run; or of a period (--since, --until, "
            "--last), or of a destination.\n\n"
            "HTML and PDF go to a file that only you may read, whose path is printed; other "
            "formats go to stdout. Patient data is left out unless --privacy asks for it; reports "
            "of periods and destinations have none."
        ),
        params=[
            click.Argument(["run"], metavar="[RUN]", default=LATEST),
            *period_options(),
            click.Option(
                ["--destination"],
                default="",
                metavar="NAME",
                help=_("Only what concerns this destination, over all time or the period."),
            ),
            click.Option(
                ["--format", "format_"],
                type=click.Choice(FORMATS),
                default="text",
                show_default=True,
                help=_("Format of the report."),
            ),
            click.Option(
                ["--output"], metavar="FILE", help=_("Write to this file (mode 0600); - is stdout.")
            ),
            click.Option(
                ["--open", "open_it"],
                is_flag=True,
                help=_("Open the report in the browser (as HTML unless --format says else)."),
            ),
            click.Option(
                ["--privacy"],
                type=click.Choice([privacy.value for privacy in Privacy]),
                help=_("Patient data: none (off), patient IDs (ids), or all (full)."),
            ),
        ],
        examples=[
            (_("The latest run, in the browser"), "dcmvault report --open"),
            (
                _("Every failure as a table"),
                "dcmvault report 20260131-020000-9f3c61d2 --format csv --output failures.csv",
            ),
            (_("The last week, on paper"), "dcmvault report --last 7d --format pdf"),
            (
                _("How a destination fared in January"),
                "dcmvault report --destination pacs --since 2026-01-01 --until 2026-01-31",
            ),
        ],
    )


def _report(
    run: str,
    since: str | None,
    until: str | None,
    last: str | None,
    destination: str,
    format_: str,
    output: str | None,
    open_it: bool,
    privacy: str | None,
) -> int:
    settings = current_settings()
    context = click.get_current_context()
    if open_it and context.get_parameter_source("format_") is click.core.ParameterSource.DEFAULT:
        format_ = "html"
    period = Period.asked(since, until, last)
    is_period = not period.is_open or bool(destination)
    if is_period and context.get_parameter_source("run") is not click.core.ParameterSource.DEFAULT:
        raise UsageError(_("Name a run, or a period or destination; not both."))
    wanted = settings.privacy if privacy is None else Privacy(privacy)
    with opened(settings) as session:
        report: RunReport | PeriodReport
        if is_period:
            report = period_report(session.workplace, period.since, period.until, destination)
        else:
            report = run_report(session.workplace, run)
        content = rendered(report, format_, wanted)
        path = Path(output) if output else session.home / "reports" / _name(report, format_)
    if output == _STDOUT or (output is None and format_ not in _TO_A_FILE and not open_it):
        _print(content)
        return 0
    try:
        if isinstance(content, bytes):
            write_private_bytes(path.absolute(), content)
        else:
            write_private(path.absolute(), content)
    except OSError as error:
        raise StateError(
            _("The report cannot be written."), hint=f"{path}: {error.strerror}"
        ) from None
    say(str(path))
    if open_it:
        webbrowser.open(path.absolute().as_uri())
    return 0


def _print(content: str | bytes) -> None:
    if isinstance(content, bytes):
        sys.stdout.buffer.write(content)
    else:
        click.echo(content, nl=not content.endswith("\n"))


def _name(report: RunReport | PeriodReport, format_: str) -> str:
    suffix = "txt" if format_ == "text" else format_
    if isinstance(report, RunReport):
        return f"{report.run_id}.{suffix}"
    since = "" if report.since is None else f"{_day(report.since)}-"
    kind = "period" if report.destination is None else "destination"
    return f"{kind}-{since}{_day(report.until)}.{suffix}"


def _day(moment: datetime) -> str:
    return f"{moment:%Y%m%d}"
