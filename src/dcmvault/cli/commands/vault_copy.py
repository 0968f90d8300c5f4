"""`dcmvault vault copy`: the same vault at another place."""

from __future__ import annotations

import click

from dcmvault.app.vault_copying import CopiedVault, copy
from dcmvault.cli.building import ExampleCommand, json_option, progress_option
from dcmvault.cli.output import print_json, say, tell, tell_error
from dcmvault.cli.phase_progress import phases_shown
from dcmvault.cli.session import current_settings
from dcmvault.i18n import format_bytes, format_number, ngettext
from dcmvault.i18n import gettext as _
from dcmvault.reports.escaping import visible

_NAMED = 10


def command() -> click.Command:
    """Build the command in the language in use."""
    return ExampleCommand(
        "copy",
        callback=_copy,
        text=_(
            "Copy a vault to another place, which may be of another kind. Nothing is decoded: the "
            "copy is the same vault, with the same keys, and keeps as many copies and parity as "
            "VAULT does. Only what is missing is copied, so a copy that was interrupted goes on, "
            "and a later one takes little time. Every object is compared with its name. No key is "
            "needed unless snapshots are named."
        ),
        params=[
            click.Argument(["vault"], metavar="VAULT"),
            click.Argument(["target"], metavar="TARGET"),
            click.Option(
                ["--snapshot"],
                multiple=True,
                metavar="ID",
                help=_(
                    "Copy only what this snapshot needs; may be repeated. latest is the newest."
                ),
            ),
            json_option(),
            progress_option(),
        ],
        examples=[
            (
                _("A second place, in the cloud"),
                "dcmvault vault copy vault:/backup vault:s3://bucket/prefix",
            ),
            (
                _("The newest state on a disk to give away"),
                "dcmvault vault copy vault:/backup vault:/media/disk/vault --snapshot latest",
            ),
        ],
    )


def _copy(vault: str, target: str, snapshot: tuple[str, ...], as_json: bool, progress: str) -> int:
    with phases_shown(progress) as told:
        done = copy(current_settings(), vault, target, snapshot, told)
    if as_json:
        print_json(_object(done))
    else:
        _say(done)
    return done.exit_status


def _say(done: CopiedVault) -> None:
    result = done.result
    figures = {
        "objects": format_number(result.objects),
        "size": format_bytes(result.bytes),
        "there": format_number(result.there),
    }
    if result.objects:
        text = ngettext(
            "%(objects)s object (%(size)s) is copied; %(there)s were there.",
            "%(objects)s objects (%(size)s) are copied; %(there)s were there.",
            result.objects,
        )
        say(text % figures)
    else:
        say(_("The copy is up to date: all %(there)s objects were there.") % figures)
    if done.config.copies > 1:
        say(_("The copy keeps three copies of small objects, because the vault does."))
    if result.own_snapshots:
        tell(_("The copy has snapshots of its own; what it has forgotten stays forgotten there."))
    if result.is_behind:
        tell(_("The vault was written to all the time; run it again for what is newest."))
    if result.damaged:
        keys = ", ".join(visible(key) for key in result.damaged[:_NAMED])
        text = ngettext(
            "%(count)s object of the vault cannot be read any more: %(keys)s",
            "%(count)s objects of the vault cannot be read any more: %(keys)s",
            len(result.damaged),
        )
        tell_error(
            text % {"count": format_number(len(result.damaged)), "keys": keys},
            _("Run `dcmvault vault repair` there."),
        )


def _object(done: CopiedVault) -> dict[str, object]:
    result = done.result
    return {
        "vault": done.source,
        "target": done.target,
        "snapshots": list(done.snapshots),
        "objects": result.objects,
        "bytes": result.bytes,
        "already_there": result.there,
        "copies": done.config.copies,
        "parity": done.config.parity,
        "damaged": result.damaged,
        "behind": result.is_behind,
        "own_snapshots": result.own_snapshots,
        "exit_status": done.exit_status,
    }
