"""`dcmvault diff`: what came, went and changed between two snapshots."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import click

from dcmvault.app.restore_plan import study_word
from dcmvault.app.vault_comparison import StudyDifference, differences
from dcmvault.app.vault_contents import open_contents
from dcmvault.cli.building import ExampleCommand, json_option
from dcmvault.cli.output import print_json, say
from dcmvault.cli.session import current_settings
from dcmvault.cli.vault_views import (
    about_object,
    losses_object,
    patient,
    record_object,
    snapshot_line,
    study_date,
    tell_losses,
    vault_argument,
)
from dcmvault.i18n import format_number, ngettext
from dcmvault.i18n import gettext as _
from dcmvault.reports.escaping import visible
from dcmvault.vault.records import InstanceRecord

_SIGNS = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow")}


def command() -> click.Command:
    """Build the command in the language in use."""
    return ExampleCommand(
        "diff",
        callback=_diff,
        text=_(
            "Compare two snapshots of VAULT: studies and instances that were added (+), removed "
            "(-) or changed (~) from the first to the second."
        ),
        params=[
            vault_argument(),
            click.Argument(["first"], metavar="SNAPSHOT"),
            click.Argument(["second"], metavar="SNAPSHOT"),
            click.Option(["--instances"], is_flag=True, help=_("Name the instances, too.")),
            json_option(),
        ],
        examples=[
            (_("Since a snapshot"), "dcmvault diff vault:/backup 414e4c68 latest"),
            (
                _("With every instance"),
                "dcmvault diff vault:/backup 414e4c68 5e23685e --instances",
            ),
        ],
    )


def _diff(vault: str, first: str, second: str, instances: bool, as_json: bool) -> int:
    contents = open_contents(current_settings(), vault)
    before, after = contents.state(first), contents.state(second)
    found = differences(contents, before, after)
    if as_json:
        print_json(
            {
                "vault": contents.address,
                "first": before.links[0].name,
                "second": after.links[0].name,
                "studies": [_object(one) for one in found],
                "damage": losses_object(contents),
                "exit_status": contents.exit_status,
            }
        )
        return contents.exit_status
    say(_("From %s") % snapshot_line(before.links))
    say(_("to %s") % snapshot_line(after.links))
    kinds: Counter[str] = Counter()
    for one in found:
        kinds[one.kind] += 1
        for line in _lines(one, instances=instances):
            say(line)
    say(_total(kinds))
    tell_losses(contents)
    return contents.exit_status


def _total(kinds: Counter[str]) -> str:
    if not kinds:
        return _("They hold the same.")
    texts = {
        "added": ngettext("%s study added", "%s studies added", kinds["added"]),
        "removed": ngettext("%s study removed", "%s studies removed", kinds["removed"]),
        "changed": ngettext("%s study changed", "%s studies changed", kinds["changed"]),
    }
    return ", ".join(text % format_number(kinds[kind]) for kind, text in texts.items())


def _lines(one: StudyDifference, *, instances: bool) -> Iterator[str]:
    sign, colour = _SIGNS[one.kind]
    counts = (("+", one.added), ("-", one.removed), ("~", one.changed))
    figures = " ".join(f"{mark}{format_number(len(some))}" for mark, some in counts if some)
    about = [study_date(one.about), patient(one.about)]
    told = "  ".join(visible(fact) for fact in about if fact)
    head = f"{sign} {visible(study_word(one.study_instance_uid))}"
    yield f"{click.style(head, fg=colour)}  {told}  {figures}"
    if instances:
        for mark, some in counts:
            for record in some:
                yield f"    {mark} {_instance(record)}"


def _instance(record: InstanceRecord) -> str:
    return visible(f"{record.sop_instance_uid}  {record.locator}".strip())


def _object(one: StudyDifference) -> dict[str, object]:
    return {
        "study_instance_uid": one.study_instance_uid,
        **about_object(one.about),
        "kind": one.kind,
        "added": [record_object(record) for record in one.added],
        "removed": [record_object(record) for record in one.removed],
        "changed": [record_object(record) for record in one.changed],
    }
