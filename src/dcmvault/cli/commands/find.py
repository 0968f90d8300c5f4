"""`dcmvault find`: which studies of a vault are meant, and what it holds more than once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click

from dcmvault.app.vault_comparison import Duplicates, HeldFile, find_duplicates
from dcmvault.app.vault_contents import (
    Contents,
    Found,
    StudyQuery,
    find_studies,
    open_contents,
)
from dcmvault.cli.building import ExampleCommand, json_option
from dcmvault.cli.output import print_json, say
from dcmvault.cli.session import current_settings
from dcmvault.cli.vault_views import (
    as_of_option,
    asked_moment,
    losses_object,
    record_object,
    snapshot_line,
    snapshot_option,
    study_object,
    study_table,
    tell_losses,
    vault_argument,
)
from dcmvault.errors import UsageError
from dcmvault.i18n import format_bytes, format_number, ngettext
from dcmvault.i18n import gettext as _
from dcmvault.reports.escaping import visible
from dcmvault.vault.state import VaultState


def command() -> click.Command:
    """Build the command in the language in use."""
    return ExampleCommand(
        "find",
        callback=_find,
        text=_(
            "Find studies in VAULT: all of what is asked must be true of one.\n\n"
            "TEXT is looked for in everything that a study is known by: name and id of the "
            "patient, descriptions, accession number, UIDs. Case and accents do not count. With "
            "--duplicates: what is held more than once."
        ),
        params=_params(),
        examples=[
            (_("By name"), 'dcmvault find vault:/backup "silva maria"'),
            (_("All CT of a month"), "dcmvault find disk --modality CT --date 2026-01"),
            (_("Where an instance is"), "dcmvault find disk --uid 1.2.3.4.5"),
            (_("What is there twice"), "dcmvault find disk --duplicates"),
        ],
    )


def _params() -> list[click.Parameter]:
    return [
        vault_argument(),
        click.Argument(["text"], metavar="[TEXT]", required=False, default=""),
        click.Option(
            ["--patient"],
            metavar="TEXT",
            default="",
            help=_("In the name or the id of the patient."),
        ),
        click.Option(
            ["--date"],
            metavar="DATE",
            default="",
            help=_("Study date: 2026, 2026-01, 2026-01-31, or FIRST..LAST (one may be left out)."),
        ),
        click.Option(["--modality"], metavar="CODE", default="", help=_("CT, MR ...")),
        click.Option(
            ["--accession"], metavar="TEXT", default="", help=_("In the accession number.")
        ),
        click.Option(
            ["--description"], metavar="TEXT", default="", help=_("In the study description.")
        ),
        click.Option(
            ["--uid"],
            metavar="UID",
            default="",
            help=_("Of a study, a series or an instance (all records are read for the last two)."),
        ),
        click.Option(
            ["--duplicates"],
            is_flag=True,
            help=_(
                "What is held more than once: equal files under several names, and different files "
                "of one SOP Instance UID."
            ),
        ),
        snapshot_option(),
        as_of_option(),
        json_option(),
    ]


def _find(
    vault: str,
    text: str,
    patient: str,
    date: str,
    modality: str,
    accession: str,
    description: str,
    uid: str,
    duplicates: bool,
    snapshot: str,
    as_of: str,
    as_json: bool,
) -> int:
    query = StudyQuery(text, patient, date, modality, accession, description, uid)
    if duplicates and query != StudyQuery():
        raise UsageError(
            _("--duplicates looks through everything; it cannot be combined with a search.")
        )
    moment = asked_moment(as_of)
    contents = open_contents(current_settings(), vault)
    state = contents.state(snapshot, moment)
    if not as_json and (snapshot or moment):
        say(_("Snapshot %s") % snapshot_line(state.links))
    found = (
        _duplicates(contents, state, as_json=as_json)
        if duplicates
        else _studies(contents, state, query, as_json=as_json)
    )
    if as_json:
        print_json(
            {
                "vault": contents.address,
                "snapshots": [link.name for link in state.links],
                **found,
                "damage": losses_object(contents),
                "exit_status": contents.exit_status,
            }
        )
    else:
        tell_losses(contents)
    return contents.exit_status


def _studies(
    contents: Contents, state: VaultState, query: StudyQuery, *, as_json: bool
) -> dict[str, object]:
    found = list(find_studies(contents, state, query))
    if as_json:
        return {"studies": [_found_object(one) for one in found]}
    if not found:
        say(_("Nothing was found."))
        return {}
    say(study_table([one.study for one in found]))
    for one in found:
        if one.records:
            say(click.style(visible(one.study.word), bold=True))
        for record in one.records:
            say(f"  {visible(record.sop_instance_uid)}  {visible(record.locator)}")
    return {}


def _found_object(found: Found) -> dict[str, object]:
    return {
        **study_object(found.study),
        "found_instances": [record_object(record) for record in found.records],
    }


def _duplicates(contents: Contents, state: VaultState, *, as_json: bool) -> dict[str, object]:
    found = find_duplicates(contents, state)
    if as_json:
        return {
            "duplicates": {
                "same_content": [_group_object(group) for group in found.same_content],
                "same_uid": [_group_object(group) for group in found.same_uid],
            }
        }
    for line in _duplicate_lines(found):
        say(line)
    return {}


def _group_object(group: Sequence[HeldFile]) -> list[dict[str, object]]:
    return [
        {"study_instance_uid": held.study_instance_uid, **record_object(held.record)}
        for held in group
    ]


def _duplicate_lines(found: Duplicates) -> Iterator[str]:
    if not found.same_content and not found.same_uid:
        yield _("Nothing is held more than once.")
        return
    if found.same_content:
        count = len(found.same_content)
        text = ngettext(
            "%s content is held under several names (its bytes are stored once):",
            "%s contents are held under several names (their bytes are stored once):",
            count,
        )
        yield click.style(text % format_number(count), bold=True)
        yield from _group_lines(found.same_content)
    if found.same_uid:
        count = len(found.same_uid)
        text = ngettext(
            "%s SOP Instance UID is held with different contents:",
            "%s SOP Instance UIDs are held with different contents:",
            count,
        )
        yield click.style(text % format_number(count), bold=True)
        yield from _group_lines(found.same_uid)


def _group_lines(groups: Sequence[Sequence[HeldFile]]) -> Iterator[str]:
    for group in groups:
        name = group[0].record.sop_instance_uid or _("(no SOP Instance UID)")
        yield f"  {visible(name)}"
        for held in group:
            record = held.record
            digest = record.file_sha256.hex()[:8]
            where = visible(f"{record.source}  {record.locator}")
            yield f"    {digest}  {format_bytes(record.size)}  {where}"
