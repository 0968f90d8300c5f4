"""`dcmvault ls`: the studies that a vault holds, or the series and instances of one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import click

from dcmvault.app.vault_contents import Contents, SeriesView, open_contents
from dcmvault.cli.building import ExampleCommand, json_option
from dcmvault.cli.output import print_json, say
from dcmvault.cli.session import current_settings
from dcmvault.cli.vault_views import (
    as_of_option,
    asked_moment,
    losses_object,
    patient,
    record_object,
    snapshot_line,
    snapshot_option,
    study_date,
    study_object,
    study_table,
    tell_losses,
    vault_argument,
)
from dcmvault.i18n import format_bytes, format_number, ngettext
from dcmvault.i18n import gettext as _
from dcmvault.reports.escaping import visible
from dcmvault.vault.state import VaultState


def command() -> click.Command:
    """Build the command in the language in use."""
    return ExampleCommand(
        "ls",
        callback=_ls,
        text=_(
            "List the studies that VAULT holds, or the series and instances of STUDY.\n\n"
            "Names of patients are shown: the data is yours. Files that are no instances are in "
            "the study “-”."
        ),
        params=[
            vault_argument(),
            click.Argument(["study"], metavar="[STUDY]", required=False, default=""),
            snapshot_option(),
            as_of_option(),
            json_option(),
        ],
        examples=[
            (_("What is in it now"), "dcmvault ls vault:/backup"),
            (_("One study, as a snapshot has it"), "dcmvault ls disk 1.2.3 --snapshot 414e4c68"),
            (_("What was in it at the end of a day"), "dcmvault ls disk --as-of 2026-01-31"),
        ],
    )


def _ls(vault: str, study: str, snapshot: str, as_of: str, as_json: bool) -> int:
    moment = asked_moment(as_of)
    contents = open_contents(current_settings(), vault)
    state = contents.state(snapshot, moment)
    answer = _list_study(contents, state, study) if study else _list_studies(contents, state)
    if as_json:
        print_json(
            {
                "vault": contents.address,
                "snapshots": [link.name for link in state.links],
                **answer.objects,
                "damage": losses_object(contents),
                "exit_status": contents.exit_status,
            }
        )
        return contents.exit_status
    if snapshot or moment:
        say(_("Snapshot %s") % snapshot_line(state.links))
    for line in answer.lines():
        say(line)
    tell_losses(contents)
    return contents.exit_status


@dataclass(frozen=True, slots=True)
class _Answer:
    """What was found: for JSON, and as lines for people."""

    objects: Mapping[str, object]
    lines: Callable[[], Iterable[str]]


def _list_studies(contents: Contents, state: VaultState) -> _Answer:
    studies = list(contents.studies(state))

    def lines() -> Iterator[str]:
        if not studies:
            yield _("The vault holds nothing.")
            return
        yield study_table(studies)
        count = ngettext("%s study", "%s studies", len(studies)) % format_number(len(studies))
        instances = sum(study.instances for study in studies)
        files = ngettext("%s file", "%s files", instances) % format_number(instances)
        size = format_bytes(sum(study.bytes for study in studies))
        yield f"{count}, {files}, {size}"

    return _Answer({"studies": [study_object(study) for study in studies]}, lines)


def _list_study(contents: Contents, state: VaultState, word: str) -> _Answer:
    study, every = contents.study(state, word)

    def lines() -> Iterator[str]:
        about = study.about
        facts = (patient(about), study_date(about), about.get("study_description", ""))
        yield click.style(visible(study.word), bold=True)
        if told := "  ".join(fact for fact in facts if fact):
            yield visible(told)
        for series in every:
            yield from _series_lines(series)

    objects = [
        {
            "series_instance_uid": one.series_instance_uid,
            **one.attributes._asdict(),
            "instances": [record_object(record) for record in one.records],
        }
        for one in every
    ]
    return _Answer({"study": {**study_object(study), "series": objects}}, lines)


def _series_lines(series: SeriesView) -> Iterator[str]:
    attributes = series.attributes
    facts = (attributes.series_number, attributes.modality, attributes.series_description)
    told = "  ".join(fact for fact in facts if fact)
    count = len(series.records)
    instances = ngettext("%s instance", "%s instances", count) % format_number(count)
    size = format_bytes(sum(record.size for record in series.records))
    yield f"  {visible(series.series_instance_uid)}  {visible(told)}  {instances}, {size}"
    for record in series.records:
        number = record.instance_number.rjust(5)
        yield (
            f"  {visible(number)}  {visible(record.sop_instance_uid)}  "
            f"{format_bytes(record.size)}  {visible(record.locator)}"
        )
