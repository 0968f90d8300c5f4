"""`dcmvault top`: what goes on right now, whichever process works."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

import click
from rich.console import Console
from rich.live import Live

from dcmvault.app.top import Now, now
from dcmvault.cli.building import ExampleCommand, json_option
from dcmvault.cli.interrupts import stoppable
from dcmvault.cli.output import print_json, say
from dcmvault.cli.session import current_settings, opened
from dcmvault.cli.top_view import lines, now_object, screen
from dcmvault.errors import UsageError
from dcmvault.i18n import gettext as _

#: Seconds between looks on a terminal; elsewhere lines come less often.
_EACH_S = 1.0
_LINES_EACH_S = 5.0


def command() -> click.Command:
    """Build the command in the language in use."""
    return ExampleCommand(
        "top",
        callback=_top,
        text=_(
            "Show what goes on right now: throughput, associations, queues, what is left, the "
            "machine, disks, and what is wrong.\n\n"
            "It looks at whichever process works in the state folder, a daemon or a backup in "
            "another window, until Ctrl-C."
        ),
        params=[
            click.Option(["--once"], is_flag=True, help=_("Look once, and end.")),
            json_option(),
        ],
        examples=[
            (_("Until Ctrl-C"), "dcmvault top"),
            (_("The figures of now, for a program"), "dcmvault top --json"),
        ],
    )


def _top(once: bool, as_json: bool) -> int:
    if once and as_json:
        raise UsageError(_("--json looks once anyway; leave out --once."))
    with opened(current_settings()) as session:
        workplace = session.workplace

        def look() -> Now:
            return now(workplace)

        if as_json:
            print_json(now_object(look()))
        elif once:
            _show_once(look())
        else:
            with stoppable() as stop:
                if sys.stdout.isatty():
                    _show_live(look, stop)
                else:
                    _show_lines(look, stop)
    return 0


def _show_once(seen: Now) -> None:
    if sys.stdout.isatty():
        Console(highlight=False).print(screen(seen))
        return
    for line in lines(seen):
        say(line)


def _show_live(look: Callable[[], Now], stop: threading.Event) -> None:
    console = Console(highlight=False)
    with Live(screen(look()), console=console, auto_refresh=False, screen=True) as live:
        while not stop.wait(_EACH_S):
            live.update(screen(look()), refresh=True)


def _show_lines(look: Callable[[], Now], stop: threading.Event) -> None:
    while True:
        for line in lines(look()):
            say(line)
        if stop.wait(_LINES_EACH_S):
            return
