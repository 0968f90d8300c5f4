"""`dcmvault support-bundle`: what somebody who helps needs, without patient data."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from dcmvault.app.support_bundle import BundledFile, collect, default_name, write
from dcmvault.cli.building import ExampleCommand, json_option
from dcmvault.cli.output import print_json, say
from dcmvault.config.places import config_path, state_folder
from dcmvault.i18n import format_number
from dcmvault.i18n import gettext as _
from dcmvault.reports.escaping import visible


def command() -> click.Command:
    """Build the command in the language in use."""
    return ExampleCommand(
        "support-bundle",
        callback=_bundle,
        text=_(
            "Write a ZIP file for whoever helps: versions, the configuration, counts, schedules, "
            "what doctor found, the newest lines of the log.\n\n"
            "Without patient data, secrets, users and paths. Host names, AE titles, UIDs and the "
            "names that you gave to places are in it. Nothing is sent anywhere."
        ),
        params=[
            click.Option(
                ["--output"],
                type=click.Path(path_type=Path, dir_okay=False),
                metavar=_("FILE"),
                help=_("The file to write; by default one in the present folder, named by time."),
            ),
            click.Option(
                ["--dry-run"],
                is_flag=True,
                help=_("Show everything that would be in it; write nothing."),
            ),
            json_option(),
        ],
        examples=[
            (_("What would be in it"), "dcmvault support-bundle --dry-run"),
            (_("For a report of a defect"), "dcmvault support-bundle --output support.zip"),
        ],
    )


def _bundle(output: Path | None, dry_run: bool, as_json: bool) -> int:
    home = state_folder()
    path = (output or Path(default_name(datetime.now(UTC)))).absolute()
    files = collect(home, config_path(home))
    if not dry_run:
        write(files, path)
    if as_json:
        print_json(
            {
                "path": None if dry_run else str(path),
                "files": [{"name": file.name, "bytes": file.size} for file in files],
                "exit_status": 0,
            }
        )
    elif dry_run:
        _show(files)
    else:
        for file in files:
            say(f"  {file.name}  {format_number(file.size)} B")
        say(_("Written: %(path)s. Look through it before you pass it on.") % {"path": path})
    return 0


def _show(files: list[BundledFile]) -> None:
    for file in files:
        say(f"== {file.name}")
        for line in file.text.splitlines():
            say(visible(line))
