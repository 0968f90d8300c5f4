"""`dcmvault run`: what a configured plan says."""

from __future__ import annotations

from typing import Any

import click

from dcmvault.app.backup import requests_of_plan
from dcmvault.cli.backups import How, begin, how_options
from dcmvault.cli.building import ExampleCommand
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
            *how_options(),
        ],
        examples=[
            (_("The plan [plans.nightly] of the configuration"), "dcmvault run nightly"),
            (_("What it would send"), "dcmvault run nightly --dry-run"),
            (_("Again whenever a source changes, until Ctrl-C"), "dcmvault run nightly --watch"),
        ],
    )


def _run(plan: str, **how: Any) -> int:
    settings = current_settings()
    requests = requests_of_plan(settings, plan, accept_changes=how["accept_changes"])
    return begin(settings, requests, How(**how))
