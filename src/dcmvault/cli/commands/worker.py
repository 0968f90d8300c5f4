"""`dcmvault worker`: one of several hosts that share the work of one database."""

from __future__ import annotations

import json

import click

from dcmvault.app.worker import keep_working, worker_of
from dcmvault.cli.building import ExampleCommand
from dcmvault.cli.interrupts import stoppable
from dcmvault.cli.output import say
from dcmvault.cli.session import begin_log, current_settings
from dcmvault.config.places import state_folder
from dcmvault.i18n import gettext as _


def command() -> click.Command:
    """Build the command in the language in use."""
    return ExampleCommand(
        "worker",
        callback=_worker,
        text=_(
            "Work for an installation of several hosts: take runs and jobs from the PostgreSQL "
            "database that they share, until Ctrl-C or SIGTERM.\n\n"
            "Any number of them may work, each with a state folder of its own. Limits of "
            "destinations, priorities and pauses hold for all together. What a worker leaves "
            "unfinished, or one that died, is taken up by the others. “dcmvault top” shows them."
        ),
        params=[
            click.Option(
                ["--name"],
                metavar="NAME",
                default="",
                help=_("How this host is called. Default: as configured, else its own name."),
            ),
            click.Option(
                ["--json", "as_json"],
                is_flag=True,
                help=_("Print one JSON object per event and line on stdout, and nothing else."),
            ),
        ],
        examples=[
            (_("Work until it is stopped"), "dcmvault worker"),
            (_("Under another name than the host's"), "dcmvault worker --name reading-room"),
        ],
    )


def _worker(name: str, as_json: bool) -> int:
    settings = current_settings()
    home = state_folder()
    begin_log(home)
    with stoppable() as stop, worker_of(home, settings, name) as workplace:
        called = workplace.together.reach.name
        if as_json:
            say(json.dumps({"event": "working", "name": called}))
        else:
            say(_("%s works. Ctrl-C ends it.") % called)
        keep_working(workplace, stop)
    if as_json:
        say(json.dumps({"event": "stopped"}))
    else:
        say(_("Stopped. Other workers go on with what is unfinished."))
    return 0
