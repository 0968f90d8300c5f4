"""Periods on the command line: --since and --until, or --last 7d."""

from __future__ import annotations

import click

from dcmvault.i18n import gettext as _


def period_options() -> list[click.Option]:
    """Build the options."""
    return [
        click.Option(
            ["--since"],
            metavar="TIME",
            help=_(
                "From this date or time on; in the local time zone if none is written. "
                "A date means its begin."
            ),
        ),
        click.Option(["--until"], metavar="TIME", help=_("Until then. A date means its end.")),
        click.Option(["--last"], metavar="AGE", help=_("The last so long, such as 7d, 12h or 8w.")),
    ]
