"""`dcmvault metrics`: figures for monitoring systems, and what was measured before."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import click

from dcmvault.app.metrics import Span, export_samples, gather, write_textfile
from dcmvault.cli.building import ExampleCommand
from dcmvault.cli.durations import read_duration
from dcmvault.cli.session import current_settings, opened
from dcmvault.errors import StateError, UsageError
from dcmvault.i18n import gettext as _

#: Seconds of the spans that samples are kept for, and how long back they go.
_SPANS = {
    "second": (1, timedelta(hours=1)),
    "minute": (60, timedelta(weeks=1)),
    "hour": (3600, timedelta(days=366)),
}


def command() -> click.Command:
    """Build the command in the language in use."""
    return ExampleCommand(
        "metrics",
        callback=_metrics,
        text=_(
            "Print the figures of now in Prometheus' text format, or what was measured as CSV.\n\n"
            "There is no patient data in either, and no address. Samples are kept for each second "
            "of an hour, each minute of a week and each hour of a year."
        ),
        params=[
            click.Option(
                ["--textfile"],
                type=click.Path(dir_okay=False, path_type=Path),
                metavar="FILE",
                help=_("Write the figures into a file for node_exporter, in one piece."),
            ),
            click.Option(["--csv", "as_csv"], is_flag=True, help=_("Print samples as CSV.")),
            click.Option(
                ["--span"],
                type=click.Choice(tuple(_SPANS)),
                default="minute",
                show_default=True,
                help=_("With --csv: what each sample stands for."),
            ),
            click.Option(
                ["--since"],
                metavar=_("TIME"),
                help=_("With --csv: how far back, such as 30m, 24h or 7d; else as far as it goes."),
            ),
        ],
        examples=[
            (
                _("For node_exporter's textfile collector, from cron"),
                "dcmvault metrics --textfile /var/lib/node_exporter/dcmvault.prom",
            ),
            (_("What was measured in the last day"), "dcmvault metrics --csv --since 24h"),
        ],
    )


def _metrics(textfile: Path | None, as_csv: bool, span: str, since: str | None) -> int:
    if as_csv and textfile is not None:
        raise UsageError(_("--csv and --textfile do not go together."))
    if since is not None and not as_csv:
        raise UsageError(_("--since goes with --csv only."))
    span_s, whole = _SPANS[span]
    back = whole if since is None else min(read_duration(since), whole)
    with opened(current_settings()) as session:
        workplace = session.workplace
        if as_csv:
            wanted = Span(span_s, workplace.clock.now() - back)
            export_samples(workplace, wanted, lambda line: click.echo(line, nl=False))
            return 0
        text = gather(workplace)
    if textfile is None:
        click.echo(text, nl=False)
        return 0
    try:
        write_textfile(textfile, text)
    except OSError as error:
        raise StateError(
            _("The file of metrics cannot be written."), hint=f"{textfile}: {error.strerror}"
        ) from error
    return 0
