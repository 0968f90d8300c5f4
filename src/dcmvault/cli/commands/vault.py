"""`dcmvault vault`: what is done with a vault as a whole."""

from __future__ import annotations

import click

from dcmvault.cli.building import LazyGroup
from dcmvault.i18n import gettext as _


def N_(message: str) -> str:  # noqa: N802 - the usual name of the extraction mark
    """Mark a message for the catalogues; it is looked up when shown."""
    return message


_COMMANDS = {
    "init": ("dcmvault.cli.commands.vault_init", N_("Make a vault.")),
    "check": ("dcmvault.cli.commands.vault_check", N_("Is all of it there, and right?")),
    "repair": ("dcmvault.cli.commands.vault_repair", N_("Set right what is damaged.")),
    "stats": ("dcmvault.cli.commands.vault_stats", N_("What it stores for what it holds.")),
    "forget": (
        "dcmvault.cli.commands.vault_forget",
        N_("Forget snapshots by rules, or a study."),
    ),
    "hold": ("dcmvault.cli.commands.vault_hold", N_("Studies that must not be forgotten.")),
    "prune": (
        "dcmvault.cli.commands.vault_prune",
        N_("Give back the space of what nothing needs."),
    ),
    "copy": (
        "dcmvault.cli.commands.vault_copy",
        N_("The same vault at another place, without encoding anything again."),
    ),
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
