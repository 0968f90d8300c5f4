"""`dcmvault vault hold`: studies that must not be forgotten, whatever rules say."""

from __future__ import annotations

import click

from dcmvault.app.vault_retention import held_studies, hold, release
from dcmvault.cli.building import ExampleCommand, json_option
from dcmvault.cli.output import print_json, say, table
from dcmvault.cli.session import current_settings, opened
from dcmvault.cli.vault_views import vault_argument
from dcmvault.errors import UsageError
from dcmvault.i18n import gettext as _
from dcmvault.reports.escaping import visible


def command() -> click.Command:
    """Build the command in the language in use."""
    return ExampleCommand(
        "hold",
        callback=_hold,
        text=_(
            "Put a study under legal hold: nothing of it is forgotten or pruned until it is "
            "released. Without an option, list the studies under legal hold."
        ),
        params=[
            vault_argument(),
            click.Option(
                ["--study"], default="", metavar="UID", help=_("Put this study under legal hold.")
            ),
            click.Option(["--reason"], default="", help=_("Why; it is kept with the hold.")),
            click.Option(
                ["--release", "release_uid"], default="", metavar="UID", help=_("End a legal hold.")
            ),
            click.Option(["--list", "listed"], is_flag=True, help=_("List what is held.")),
            json_option(),
        ],
        examples=[
            (
                _("A lawsuit"),
                'dcmvault vault hold vault:/backup --study 1.2.3 --reason "case 12/2026"',
            ),
            (_("It has ended"), "dcmvault vault hold vault:/backup --release 1.2.3"),
        ],
    )


def _hold(
    vault: str, study: str, reason: str, release_uid: str, listed: bool, as_json: bool
) -> int:
    if (study and release_uid) or (listed and (study or release_uid)):
        raise UsageError(_("Hold, release or list: one of them at a time."))
    if study and not reason.strip():
        raise UsageError(_("A legal hold needs a reason."), hint=_("Name the case: --reason TEXT."))
    if study or release_uid:
        with opened(current_settings()) as session:
            if study:
                hold(session.workplace, vault, study, reason.strip())
                done = _("The study %s is under legal hold.") % visible(study)
            else:
                release(session.workplace, vault, release_uid)
                done = _("The legal hold of the study %s is ended.") % visible(release_uid)
        if not as_json:
            say(done)
            return 0
    _list(vault, as_json=as_json)
    return 0


def _list(vault: str, *, as_json: bool) -> None:
    address, held = held_studies(current_settings(), vault)
    if as_json:
        holds = [
            {
                "study_instance_uid": uid,
                "reason": one.get("reason", ""),
                "placed_at": one.get("placed_at", ""),
            }
            for uid, one in sorted(held.items())
        ]
        print_json({"vault": address, "holds": holds, "exit_status": 0})
    elif not held:
        say(_("No study is under legal hold."))
    else:
        rows = [
            [visible(uid or "-"), one.get("placed_at", "")[:10], visible(one.get("reason", ""))]
            for uid, one in sorted(held.items())
        ]
        head = [_("Study Instance UID"), _("Since"), _("Reason")]
        say(table(head, rows, right=frozenset()))
