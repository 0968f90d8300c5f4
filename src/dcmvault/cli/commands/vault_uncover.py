"""`dcmvault vault uncover`: what was hidden in a bucket with Object Lock comes back."""

from __future__ import annotations

import click

from dcmvault.app.vault_uncover import Uncovered, uncover
from dcmvault.cli.building import ExampleCommand, json_option
from dcmvault.cli.output import print_json, say, tell
from dcmvault.cli.session import current_settings
from dcmvault.cli.vault_views import vault_argument
from dcmvault.i18n import format_number, ngettext
from dcmvault.i18n import gettext as _


def command() -> click.Command:
    """Build the command in the language in use."""
    return ExampleCommand(
        "uncover",
        callback=_uncover,
        text=_(
            "Bring back what somebody hid or covered in a bucket with Object Lock. Locked objects "
            "cannot be removed before their time, but delete markers can hide them, and other "
            "bytes can be put on top. The first version of every object becomes the present one "
            "again. No key of the vault is needed; afterwards `dcmvault vault check` says what is "
            "there. Use credentials that the intruder never had."
        ),
        params=[vault_argument(), json_option()],
        examples=[(_("A configured vault"), "dcmvault vault uncover cloud")],
    )


def _uncover(vault: str, as_json: bool) -> int:
    done = uncover(current_settings(), vault)
    status = 1 if done.failed else 0
    if as_json:
        print_json(
            {"uncovered": list(done.objects), "failed": list(done.failed), "exit_status": status}
        )
        return status
    _say(done)
    return status


def _say(done: Uncovered) -> None:
    if not done.objects and not done.failed:
        say(_("Nothing was hidden or covered."))
        return
    brought = ngettext("%s object is back.", "%s objects are back.", len(done.objects))
    say(brought % format_number(len(done.objects)))
    if done.failed:
        failed = ngettext(
            "%s object is still hidden or covered; the store refused to change it.",
            "%s objects are still hidden or covered; the store refused to change them.",
            len(done.failed),
        )
        tell(failed % format_number(len(done.failed)))
