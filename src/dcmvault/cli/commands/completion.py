"""`dcmvault completion`: what a shell reads to complete commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from dcmvault.cli.building import ExampleCommand
from dcmvault.cli.output import say
from dcmvault.cli.root import command_group
from dcmvault.i18n import gettext as _

SHELLS = ("bash", "zsh", "fish")


def command() -> click.Command:
    """Build the command in the language in use."""
    return ExampleCommand(
        "completion",
        callback=_completion,
        text=_(
            "Print what a shell reads to complete commands, options and their values.\n\n"
            "The shell asks dcmvault itself, so it stays right when dcmvault is upgraded."
        ),
        params=[click.Argument(["shell"], type=click.Choice(SHELLS))],
        examples=[
            (
                _("For bash"),
                "dcmvault completion bash > ~/.local/share/bash-completion/completions/dcmvault",
            ),
            (_("For zsh, in a folder of $fpath"), "dcmvault completion zsh > ~/.zfunc/_dcmvault"),
            (
                _("For fish"),
                "dcmvault completion fish > ~/.config/fish/completions/dcmvault.fish",
            ),
        ],
    )


def _completion(shell: str) -> int:
    kind = get_completion_class(shell)
    assert kind is not None
    completion = kind(command_group(), {}, "dcmvault", "_DCMVAULT_COMPLETE")
    # Not its `source()`: that looks for a bash on this machine, which need not be the reader's.
    say(completion.source_template % completion.source_vars())
    return 0
