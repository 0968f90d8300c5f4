"""`dcmvault demo`: the whole story on real studies, with a PACS in this process."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import click

from dcmvault.app.demo import run_demo
from dcmvault.cli.building import ExampleCommand
from dcmvault.cli.output import is_operators_screen, say
from dcmvault.cli.session import begin_log
from dcmvault.errors import UsageError
from dcmvault.i18n import gettext as _


def command() -> click.Command:
    """Build the command in the language in use."""
    return ExampleCommand(
        "demo",
        callback=_demo,
        text=_(
            "Show the whole story on real studies: back up to a PACS and a vault (both embedded), "
            "verify, lose an instance, flip a bit, find and mend both, restore. "
            "It touches nothing of yours."
        ),
        params=[
            click.Option(
                ["--open/--no-open", "open_it"],
                default=None,
                help=_("Open the report in the browser (by default where there is a screen)."),
            ),
            click.Option(
                ["--keep"],
                metavar="DIR",
                help=_("Do it in this new or empty folder; by default in a temporary one."),
            ),
        ],
        examples=[(_("Without a browser"), "dcmvault demo --no-open")],
    )


def _demo(open_it: bool | None, keep: str | None) -> int:
    home = _empty_folder(keep)
    begin_log(home / "state")
    run_demo(home, say, open_report=_has_screen() if open_it is None else open_it)
    say(_("Everything that the demonstration made is in %s; delete it when you like.") % home)
    return 0


def _empty_folder(keep: str | None) -> Path:
    if keep is None:
        return Path(tempfile.mkdtemp(prefix="dcmvault-demo-"))
    home = Path(keep).expanduser().absolute()
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        empty = not any(home.iterdir())
    except OSError as error:
        raise UsageError(
            _("The folder for the demonstration cannot be used."), hint=f"{home}: {error.strerror}"
        ) from None
    if not empty:
        raise UsageError(
            _("The folder for the demonstration is not empty."), hint=_("Name a new one.")
        )
    return home


def _has_screen() -> bool:
    """Say whether a browser would open on a screen, not inside this terminal."""
    shown = sys.platform == "darwin" or "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ
    return is_operators_screen() and shown
