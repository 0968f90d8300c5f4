"""`dcmvault backup`: deliver what is due, and verify what arrived."""

from __future__ import annotations

from typing import Any

import click

from dcmvault.app.backup import make_requests
from dcmvault.cli.backups import How, begin, how_options
from dcmvault.cli.building import (
    PRIORITIES,
    ExampleCommand,
    level_of,
    level_option,
    priority_of,
)
from dcmvault.cli.session import current_settings
from dcmvault.i18n import gettext as _
from dcmvault.model.plan import Strategy


def command() -> click.Command:
    """Build the command in the language in use."""
    return ExampleCommand(
        "backup",
        callback=_backup,
        text=_(
            "Back up one or more sources to one or more destinations, and verify what arrived.\n\n"
            "Only what evidence does not show as held is sent. Run the same command again after "
            "an interruption: it continues. Several sources are backed up one after the other, "
            "each in a run of its own; an instance that two of them have is delivered once. Exit "
            "status: 0 if every instance reached the level, 3 if some did not."
        ),
        params=_params(),
        examples=[
            (
                _("A Horos library to a PACS"),
                'dcmvault backup "~/Documents/Horos Data" --to dicom://ORTHANC@pacs:4242',
            ),
            (
                _("To a PACS and a disk, both by their configured names"),
                "dcmvault backup main --to pacs --to disk",
            ),
            (
                _("Two sources that have some studies in common"),
                "dcmvault backup horos /Volumes/Studies --to vault",
            ),
            (
                _("What would be sent, and why"),
                "dcmvault backup main --to pacs --dry-run --explain",
            ),
        ],
    )


def _params() -> list[click.Parameter]:
    return [
        click.Argument(["source"], metavar="SOURCE...", nargs=-1, required=True),
        click.Option(
            ["--to"],
            multiple=True,
            required=True,
            metavar="DESTINATION",
            help=_("Where to: an address or a configured name. May be given several times."),
        ),
        click.Option(
            ["--strategy"],
            type=click.Choice([strategy.value for strategy in Strategy]),
            default=Strategy.INCREMENTAL.value,
            show_default=True,
            help=_(
                "incremental: what is new, changed or not held. full: everything; what is held is "
                "verified again, not sent again. differential: what is new since the last full. "
                "smart: as incremental, and what the rules call urgent comes first."
            ),
        ),
        level_option("--verify"),
        click.Option(
            ["--priority"],
            type=click.Choice(PRIORITIES),
            default="normal",
            show_default=True,
            help=_("Place in the destination's queue."),
        ),
        click.Option(
            ["--max-studies"],
            type=click.IntRange(1),
            metavar="N",
            help=_("Send at most N studies to each destination; the others come in later runs."),
        ),
        click.Option(
            ["--include-other-files"],
            is_flag=True,
            help=_("Back up files that are not DICOM, too (a PACS cannot take them)."),
        ),
        *how_options(),
    ]


def _backup(
    source: tuple[str, ...],
    to: tuple[str, ...],
    strategy: str,
    level: str | None,
    priority: str,
    max_studies: int | None,
    include_other_files: bool,
    **how: Any,
) -> int:
    settings = current_settings()
    requests = make_requests(
        settings,
        sources=source,
        destinations=to,
        level=level_of(level),
        strategy=Strategy(strategy),
        priority=priority_of(priority),
        include_other_files=include_other_files,
        max_studies=max_studies or 0,
        accept_changes=how["accept_changes"],
    )
    return begin(settings, requests, How(**how))
