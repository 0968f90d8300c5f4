"""`dcmvault queue exclude`, `include`, `excluded`: studies that are not to be backed up."""

from __future__ import annotations

from itertools import islice

import click

from dcmvault.app.auditing import cli_user
from dcmvault.app.study_exclusions import exclude, exclusions, include
from dcmvault.cli.building import ExampleCommand, json_option
from dcmvault.cli.output import format_age, print_json, say, table
from dcmvault.cli.session import current_settings, opened
from dcmvault.i18n import format_number, ngettext
from dcmvault.i18n import gettext as _
from dcmvault.reports.escaping import visible

_SHOWN = 1000


def commands() -> list[click.Command]:
    """Build the commands in the language in use."""
    studies = click.Argument(["studies"], metavar="STUDY...", nargs=-1, required=True)
    return [
        ExampleCommand(
            "exclude",
            callback=_exclude,
            text=_(
                "Leave studies out of backups from the next run on. Copies that there are stay; "
                "they do not count as protected, and every summary says how many are left out."
            ),
            params=[
                studies,
                click.Option(
                    ["--reason"], required=True, help=_("Why; it is kept with your name.")
                ),
                json_option(),
            ],
            examples=[(_("A phantom"), 'dcmvault queue exclude 1.2.3 --reason "a phantom"')],
        ),
        ExampleCommand(
            "include",
            callback=_include,
            text=_("Have excluded studies backed up again, from the next run on."),
            params=[studies, json_option()],
            examples=[(_("It is wanted after all"), "dcmvault queue include 1.2.3")],
        ),
        ExampleCommand(
            "excluded",
            callback=_excluded,
            text=_("List the studies that are left out of backups, with reason, who and when."),
            params=[json_option()],
            examples=[(_("What is left out"), "dcmvault queue excluded")],
        ),
    ]


def _exclude(studies: tuple[str, ...], reason: str, as_json: bool) -> int:
    with opened(current_settings()) as session:
        changed = exclude(session.workplace, studies, reason, cli_user().name)
    words = ngettext(
        "%s study is excluded from backups now.",
        "%s studies are excluded from backups now.",
        changed,
    )
    return _told(words, changed, as_json=as_json)


def _include(studies: tuple[str, ...], as_json: bool) -> int:
    with opened(current_settings()) as session:
        changed = include(session.workplace, studies)
    words = ngettext("%s study is included again.", "%s studies are included again.", changed)
    return _told(words, changed, as_json=as_json)


def _told(words: str, changed: int, *, as_json: bool) -> int:
    if as_json:
        print_json({"changed": changed, "exit_status": 0})
    else:
        say(words % format_number(changed))
    return 0


def _excluded(as_json: bool) -> int:
    with opened(current_settings()) as session:
        most = None if as_json else _SHOWN
        found = list(islice(exclusions(session.workplace), most))
    if as_json:
        print_json(
            {
                "studies": [
                    {
                        "study_instance_uid": one.study_instance_uid,
                        "reason": one.reason,
                        "excluded_by": one.excluded_by,
                        "excluded_at": one.excluded_at.isoformat(),
                    }
                    for one in found
                ],
                "exit_status": 0,
            }
        )
        return 0
    if not found:
        say(_("No study is excluded from backups."))
        return 0
    head = [_("Study"), _("When"), _("By"), _("Reason")]
    rows = [
        [
            visible(one.study_instance_uid),
            format_age(one.excluded_at),
            visible(one.excluded_by),
            visible(one.reason),
        ]
        for one in found
    ]
    say(table(head, rows, right=frozenset()))
    return 0
