"""`dcmvault run`: what a configured plan says."""

from __future__ import annotations

import click

from dcmvault.app.backup import requests_of_plan
from dcmvault.cli.backups import carry_out_all, dry_run_option, explain_option
from dcmvault.cli.building import ExampleCommand, json_option, progress_option
from dcmvault.cli.session import current_settings
from dcmvault.i18n import gettext as _


def command() -> click.Command:
    """Build the command in the language in use."""
    return ExampleCommand(
        "run",
        callback=_run,
        text=_(
            "Carry out a configured plan: back up each of its sources to every destination.\n\n"
            "The sources are backed up one after the other, each in a run of its own; an instance "
            "that two of them have is delivered once. Exit status as of `dcmvault backup`."
        ),
        params=[
            click.Argument(["plan"], metavar="PLAN"),
            explain_option(),
            dry_run_option(),
            json_option(),
            progress_option(),
        ],
        examples=[
            (_("The plan [plans.nightly] of the configuration"), "dcmvault run nightly"),
            (_("What it would send"), "dcmvault run nightly --dry-run"),
        ],
    )


def _run(plan: str, explain: bool, dry_run: bool, as_json: bool, progress: str) -> int:
    settings = current_settings()
    return carry_out_all(
        settings,
        requests_of_plan(settings, plan),
        explain=explain,
        dry_run=dry_run,
        as_json=as_json,
        progress=progress,
    )
