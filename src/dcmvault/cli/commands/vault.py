"""`dcmvault vault`: what is done with a vault as a whole."""

from __future__ import annotations

import click

from dcmvault.cli.building import LazyGroup
from dcmvault.i18n import gettext as _


def N_(message: str) -> str:  # noqa: N802 - the usual name of the extraction mark
    """Mark a message for the catalogues; it is looked up when shown."""
    return message


_COMMANDS = {
    "key": ("dcmvault.cli.commands.vault_key", N_("Who can open a vault.")),
    "uncover": (
        "dcmvault.cli.commands.vault_uncover",
        N_("Bring back what was hidden in a bucket with Object Lock."),
    ),
}


def command() -> click.Group:
    """Build the group in the language in use."""
    return LazyGroup(
        "vault",
        text=_("Look after a vault: check it, repair it, and decide who can open it."),
        table=_COMMANDS,
    )
