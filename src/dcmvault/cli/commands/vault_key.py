"""`dcmvault vault key`: who can open a vault, and when it changes its keys."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from dcmvault.app.vault_keys import (
    KeyRequest,
    add_key,
    change_rotation,
    keys_of,
    print_recovery_key,
    remove_key,
    rotate_keys,
)
from dcmvault.cli.building import ExampleCommand, FamilyGroup, json_option
from dcmvault.cli.output import print_json, say, table, tell
from dcmvault.cli.session import current_settings
from dcmvault.errors import UsageError
from dcmvault.i18n import format_bytes, ngettext
from dcmvault.i18n import gettext as _
from dcmvault.reports.escaping import visible
from dcmvault.reports.vault_words import key_kind
from dcmvault.vault.key_changes import VaultKeys
from dcmvault.vault.slots import Slot


def command() -> click.Group:
    """Build the group, a member of `dcmvault vault`, in the language in use."""
    return FamilyGroup(
        "key",
        text=_("Who can open a vault: passphrases, key files, age recipients, printed keys."),
        members=[
            _list_command(),
            _add_command(),
            _remove_command(),
            _rotate_command(),
            _recovery_command(),
        ],
    )


def _vault_argument() -> click.Argument:
    return click.Argument(["address"], metavar="VAULT")


def _label_option() -> click.Option:
    return click.Option(
        ["--label"],
        default="",
        help=_("Whose key it is, or where it is kept; everybody can read it in the vault."),
    )


def _list_command() -> click.Command:
    return ExampleCommand(
        "list",
        callback=_list,
        text=_("List the keys that open a vault, and its key epochs. No secret is shown."),
        params=[_vault_argument(), json_option()],
        examples=[(_("Who can open it"), "dcmvault vault key list vault:/backup")],
    )


def _add_command() -> click.Command:
    return ExampleCommand(
        "add",
        callback=_add,
        text=_(
            "Let another key open a vault. Without an option a passphrase is asked for. Secrets "
            "never stand on the command line."
        ),
        params=[
            _vault_argument(),
            click.Option(
                ["--passphrase"],
                default="",
                metavar="REFERENCE",
                help=_("Where the new passphrase is: env:NAME or file:PATH."),
            ),
            click.Option(
                ["--key-file"],
                type=click.Path(path_type=Path),
                help=_("A file of at least 32 random bytes."),
            ),
            click.Option(
                ["--age-recipient"], default="", help=_("An age recipient, which begins with age1.")
            ),
            _label_option(),
            json_option(),
        ],
        examples=[
            (_("Another passphrase, asked for"), "dcmvault vault key add vault:/backup"),
            (
                _("A key file"),
                "dcmvault vault key add vault:/backup --key-file vault.key --label safe",
            ),
        ],
    )


def _remove_command() -> click.Command:
    return ExampleCommand(
        "remove",
        callback=_remove,
        text=_(
            "Shut a key out. All others go on opening the vault, and what is written from now on "
            "has a key that the removed one never gave. What was written before, its holder may "
            "have read."
        ),
        params=[_vault_argument(), click.Argument(["slot"], metavar="SLOT"), json_option()],
        examples=[(_("As the list names it"), "dcmvault vault key remove vault:/backup 5e23685e")],
    )


def _rotate_command() -> click.Command:
    return ExampleCommand(
        "rotate",
        callback=_rotate,
        text=_(
            "Use a new key for what is written from now on; nothing is rewritten. With an option, "
            "change when this happens by itself instead."
        ),
        params=[
            _vault_argument(),
            click.Option(
                ["--days"],
                type=click.IntRange(0),
                help=_("Change: after so many days; 0 for never."),
            ),
            click.Option(
                ["--gb"],
                type=click.IntRange(0),
                help=_("Change: after so many GB written; 0 for never."),
            ),
            json_option(),
        ],
        examples=[
            (_("Now"), "dcmvault vault key rotate vault:/backup"),
            (_("Twice a year"), "dcmvault vault key rotate vault:/backup --days 182"),
        ],
    )


def _recovery_command() -> click.Command:
    return ExampleCommand(
        "recovery",
        callback=_recovery,
        text=_(
            "Make a recovery key: 24 words to print and keep in a safe. They are shown once and "
            "stored nowhere."
        ),
        params=[_vault_argument(), _label_option(), json_option()],
        examples=[(_("For the safe"), "dcmvault vault key recovery vault:/backup --label safe")],
    )


def _list(address: str, as_json: bool) -> int:
    keys = keys_of(current_settings(), address)
    if as_json:
        print_json(_keys_object(keys))
        return 0
    if not keys.config.encrypted:
        say(_("The vault is not encrypted: everybody who reads it opens it."))
        return 0
    say(
        table(
            [_("Slot"), _("Kind"), _("Since"), _("Label")],
            [
                [
                    slot.holder.slot,
                    key_kind(slot.holder.kind),
                    f"{slot.created_at:%Y-%m-%d}",
                    visible(slot.label),
                ]
                for slot in keys.slots
            ],
            right=frozenset(),
        )
    )
    _say_epoch(keys)
    return 0


def _add(
    address: str,
    passphrase: str,
    key_file: Path | None,
    age_recipient: str,
    label: str,
    as_json: bool,
) -> int:
    settings = current_settings()
    typed = "" if passphrase or key_file or age_recipient else _asked_passphrase()
    request = KeyRequest(passphrase, typed, key_file, age_recipient)
    keys, slot = add_key(settings, address, request, label)
    if as_json:
        print_json({"added": slot.holder.slot, **_keys_object(keys)})
        return 0
    _warn_of_leftovers(keys)
    say(_("The vault has a new key, in slot %s.") % slot.holder.slot)
    return 0


def _remove(address: str, slot: str, as_json: bool) -> int:
    keys = remove_key(current_settings(), address, slot)
    if as_json:
        print_json({"removed": slot, **_keys_object(keys)})
        return 0
    _warn_of_leftovers(keys)
    count = len(keys.slots)
    say(
        ngettext(
            "Slot %(slot)s is removed; %(count)d key opens the vault.",
            "Slot %(slot)s is removed; %(count)d keys open the vault.",
            count,
        )
        % {"slot": slot, "count": count}
    )
    return 0


def _rotate(address: str, days: int | None, gb: int | None, as_json: bool) -> int:
    settings = current_settings()
    if days is None and gb is None:
        keys = rotate_keys(settings, address)
    else:
        keys = change_rotation(settings, address, days, None if gb is None else gb * 1_000_000_000)
    if as_json:
        print_json(_keys_object(keys))
        return 0
    _warn_of_leftovers(keys)
    _say_epoch(keys)
    return 0


def _recovery(address: str, label: str, as_json: bool) -> int:
    keys, rows = print_recovery_key(current_settings(), address, label)
    if as_json:
        print_json({"recovery_key": rows, **_keys_object(keys)})
        return 0
    _warn_of_leftovers(keys)
    tell(_("Print these words, or write them down, and keep them in a safe place:"))
    for row in rows:
        say("  ".join(row))
    tell(_("They open the vault. They are stored nowhere and not shown again."))
    return 0


def _asked_passphrase() -> str:
    if not sys.stdin.isatty():
        raise UsageError(
            _("There is no terminal to ask for the new passphrase on."),
            hint=_("Name where it is: --passphrase env:NAME, or --passphrase file:PATH."),
        )
    typed = click.prompt(
        _("New passphrase"), hide_input=True, confirmation_prompt=_("Once more"), err=True
    )
    assert isinstance(typed, str)
    return typed


def _say_epoch(keys: VaultKeys) -> None:
    newest, rotation = keys.ring.newest, keys.ring.rotation
    say(
        _("Key epoch %(number)d since %(since)s.")
        % {
            "number": newest.number,
            "since": f"{newest.opened_at:%Y-%m-%d}",
        }
    )
    if rotation.days:
        say(
            ngettext(
                "The next one opens by itself after %d day.",
                "The next one opens by itself after %d days.",
                rotation.days,
            )
            % rotation.days
        )
    if rotation.bytes:
        say(_("The next one opens by itself after %s written.") % format_bytes(rotation.bytes))


def _warn_of_leftovers(keys: VaultKeys) -> None:
    if keys.left_behind:
        tell(
            _(
                "Older keys of the vault could not be removed; a key that was removed may still "
                "open them. The next change of keys removes them."
            )
        )


def _keys_object(keys: VaultKeys) -> dict[str, Any]:
    ring = keys.ring
    return {
        "encrypted": keys.config.encrypted,
        "generation": ring.generation,
        "slots": [_slot_object(slot) for slot in keys.slots],
        "epochs": [
            {"epoch": epoch.number, "opened_at": epoch.opened_at.isoformat()}
            for epoch in ring.epochs
        ],
        "rotation": {"days": ring.rotation.days, "bytes": ring.rotation.bytes},
        "left_behind": list(keys.left_behind),
    }


def _slot_object(slot: Slot) -> dict[str, str]:
    return {
        "slot": slot.holder.slot,
        "kind": slot.holder.kind.value,
        "label": slot.label,
        "created_at": slot.created_at.isoformat(),
    }
