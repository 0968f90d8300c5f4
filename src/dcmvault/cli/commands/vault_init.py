"""`dcmvault vault init`: make a vault."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path

import click

from dcmvault.app.vault_making import MadeVault, MakingRequest, make_vault, needs_passphrase
from dcmvault.cli.building import ExampleCommand, json_option
from dcmvault.cli.output import print_json, say, tell
from dcmvault.cli.session import current_settings
from dcmvault.cli.vault_views import vault_argument
from dcmvault.errors import UsageError
from dcmvault.i18n import gettext as _
from dcmvault.reports.escaping import visible


def command() -> click.Command:
    """Build the command in the language in use."""
    return ExampleCommand(
        "init",
        callback=_init,
        text=_(
            "Make a vault in an empty folder or bucket. It is encrypted: a passphrase is asked "
            "for, unless DCMVAULT_PASSPHRASE or the configuration has one, or another key is "
            "named. On disks and over SFTP packs get parity and everything else two further "
            "copies; services in the cloud take care of that themselves."
        ),
        params=[
            vault_argument(),
            click.Option(
                ["--no-encryption"],
                is_flag=True,
                help=_("Whoever reads the place can read the studies."),
            ),
            click.Option(
                ["--key-file"],
                type=click.Path(path_type=Path),
                multiple=True,
                help=_("A file of at least 32 random bytes that opens the vault."),
            ),
            click.Option(
                ["--age-recipient"],
                multiple=True,
                metavar="RECIPIENT",
                help=_("An age recipient, which begins with age1."),
            ),
            click.Option(
                ["--no-parity"],
                is_flag=True,
                help=_("Seven per cent smaller; a damaged pack cannot be mended then."),
            ),
            click.Option(
                ["--recovery"],
                is_flag=True,
                help=_("Make a recovery key, too: 24 words to print, shown once."),
            ),
            json_option(),
        ],
        examples=[
            (_("On a disk"), "dcmvault vault init vault:/backup --recovery"),
            (_("As configured"), "dcmvault vault init cloud"),
            (_("Opened by a key file"), "dcmvault vault init vault:/backup --key-file vault.key"),
        ],
    )


def _init(
    vault: str,
    no_encryption: bool,
    key_file: tuple[Path, ...],
    age_recipient: tuple[str, ...],
    no_parity: bool,
    recovery: bool,
    as_json: bool,
) -> int:
    settings = current_settings()
    request = MakingRequest(
        encrypted=not no_encryption,
        parity=not no_parity,
        key_files=key_file,
        age_recipients=age_recipient,
        recovery=recovery,
    )
    if needs_passphrase(settings, vault, request):
        request = replace(request, passphrase=_asked_passphrase())
    made = make_vault(settings, vault, request)
    if as_json:
        print_json(_object(made))
    else:
        _say(made)
    return 0


def _asked_passphrase() -> str:
    if not sys.stdin.isatty():
        raise UsageError(
            _("There is no terminal to ask for the new passphrase on."),
            hint=_("Set DCMVAULT_PASSPHRASE, or name a key: --key-file, --age-recipient."),
        )
    tell(_("Without its passphrase nobody can open the vault, not even its makers."))
    typed = click.prompt(
        _("New passphrase"), hide_input=True, confirmation_prompt=_("Once more"), err=True
    )
    assert isinstance(typed, str)
    return typed


def _say(made: MadeVault) -> None:
    config = made.vault.config
    name = visible(made.address)
    say(click.style(_("The vault %s is made.") % name, fg="green", bold=True))
    if config.encrypted:
        say("  " + _("It is encrypted."))
    else:
        say("  " + _("It is not encrypted: whoever reads the place can read the studies."))
    if config.parity:
        say("  " + _("Packs have parity, everything else two further copies."))
    elif config.copies > 1:
        say("  " + _("Packs have no parity; everything else has two further copies."))
    else:
        say("  " + _("Its place takes care of redundancy."))
    if made.recovery_rows:
        tell(_("Print these words, or write them down, and keep them in a safe place:"))
        for row in made.recovery_rows:
            say("  ".join(row))
        tell(
            _(
                "They open the vault when everything else is lost: set DCMVAULT_RECOVERY_KEY to "
                "them. They are stored nowhere and not shown again."
            )
        )
    quoted = shlex.quote(made.address)
    tell(_("Next:"))
    source = _("SOURCE")
    tell(f"  dcmvault backup {source} --to {quoted}")
    if config.encrypted and not made.recovery_rows:
        tell(f"  dcmvault vault key recovery {quoted}")


def _object(made: MadeVault) -> dict[str, object]:
    config, slots = made.vault.config, made.vault.sealing.keys.slots
    answer: dict[str, object] = {
        "vault": made.address,
        "vault_id": config.vault_id.hex(),
        "encrypted": config.encrypted,
        "copies": config.copies,
        "parity": config.parity,
        "slots": [{"slot": one.holder.slot, "kind": one.holder.kind.value} for one in slots],
    }
    if made.recovery_rows:
        answer["recovery_key"] = made.recovery_rows
    return {**answer, "exit_status": 0}
