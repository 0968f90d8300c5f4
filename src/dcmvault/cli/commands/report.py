"""`dcmvault report`: a run's report in the format asked for."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import click

from dcmvault.app.report import LATEST, render, run_report
from dcmvault.cli.building import ExampleCommand
from dcmvault.cli.output import say, write_private
from dcmvault.cli.session import current_settings, opened
from dcmvault.errors import StateError
from dcmvault.i18n import gettext as _
from dcmvault.model.report import Privacy

_FORMATS = ("html", "json", "csv", "text")
_STDOUT = "-"


def command() -> click.Command:
    """Build the command in the language in use."""
    return ExampleCommand(
        "report",
        callback=_report,
        text=_(
            "Show the report of RUN, or of the latest run.\n\n"
            "HTML goes to a file that only you may read, whose path is printed; other formats go "
            "to stdout. Patient data is left out unless --privacy asks for it."
        ),
        params=[
            click.Argument(["run"], metavar="[RUN]", default=LATEST),
            click.Option(
                ["--format", "format_"],
                type=click.Choice(_FORMATS),
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
        ],
    )


def _report(run: str, format_: str, output: str | None, open_it: bool, privacy: str | None) -> int:
    settings = current_settings()
    context = click.get_current_context()
    if open_it and context.get_parameter_source("format_") is click.core.ParameterSource.DEFAULT:
        format_ = "html"
    wanted = settings.privacy if privacy is None else Privacy(privacy)
    with opened(settings) as session:
        run_id = run_report(session.workplace, run).run_id
        text = render(session.workplace, run_id, format_, wanted)
        folder = session.home / "reports"
    if output == _STDOUT or (output is None and format_ != "html" and not open_it):
        click.echo(text, nl=not text.endswith("\n"))
        return 0
    path = Path(output) if output else folder / f"{run_id}.{_suffix(format_)}"
    try:
        write_private(path.absolute(), text)
    except OSError as error:
        raise StateError(
            _("The report cannot be written."), hint=f"{path}: {error.strerror}"
        ) from None
    say(str(path))
    if open_it:
        webbrowser.open(path.absolute().as_uri())
    return 0


def _suffix(format_: str) -> str:
    return "txt" if format_ == "text" else format_
