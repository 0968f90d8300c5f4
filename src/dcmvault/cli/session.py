"""What a command works in: the state folder, its settings and, where asked, the workplace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from dcmvault.app.wiring.workplace import Workplace, open_workplace
from dcmvault.cli.garbage import leave_out_what_stays
from dcmvault.cli.logs import start_log
from dcmvault.config.load import load_settings
from dcmvault.config.places import config_path, state_folder
from dcmvault.config.settings import Settings
from dcmvault.errors import StateError
from dcmvault.i18n import gettext as _


@dataclass(frozen=True, slots=True)
class Session:
    """An opened state folder for the time of one command."""

    home: Path
    settings: Settings
    workplace: Workplace


def current_settings() -> Settings:
    """Load the settings of the state folder; ConfigurationError as `load_settings`."""
    return load_settings(config_path(state_folder()))


@contextmanager
def opened(settings: Settings) -> Iterator[Session]:
    """Start the log and open the workplace; both are closed at the end.

    Raises StateError when the state folder cannot be used.
    """
    home = state_folder()
    begin_log(home)
    with open_workplace(home, settings) as workplace:
        leave_out_what_stays()
        yield Session(home, settings, workplace)


def begin_log(home: Path) -> None:
    """Start the log of a state folder; `--verbose` before the command shows warnings, too."""
    context = click.get_current_context(silent=True)
    verbose = bool(context and context.find_root().params.get("verbose"))
    try:
        start_log(home, verbose=verbose)
    except OSError as error:
        raise StateError(
            _("The state folder cannot be written to."),
            hint=_("%(folder)s: %(reason)s. Set DCMVAULT_HOME to a folder of your own.")
            % {"folder": home, "reason": error.strerror},
        ) from None
