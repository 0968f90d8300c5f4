"""`dcmvault backup`: deliver what is due, and verify what arrived."""

from __future__ import annotations

import click

from dcmvault.app.backup import make_request, preview
from dcmvault.cli.building import (
    PRIORITIES,
    ExampleCommand,
    json_option,
    level_of,
    level_option,
    priority_of,
    progress_option,
)
from dcmvault.cli.output import print_json, say
from dcmvault.cli.runs import carry_out
from dcmvault.cli.session import Session, current_settings, opened
from dcmvault.cli.words import reason_word
from dcmvault.i18n import format_bytes, format_number, ngettext, sentence
from dcmvault.i18n import gettext as _
from dcmvault.model.plan import RunKind, RunRequest, Strategy
from dcmvault.reports.escaping import visible


def command() -> click.Command:
    """Build the command in the language in use."""
    return ExampleCommand(
        "backup",
        callback=_backup,
        text=_(
            "Back up SOURCE to one or more destinations, and verify what arrived.\n\n"
            "Only what evidence does not show as held is sent. Run the same command again after "
            "an interruption: it continues. Exit status: 0 if every instance reached the level, "
            "3 if some did not."
        ),
        params=_params(),
        examples=[
            (
                _("A Horos library to a PACS"),
                'dcmvault backup "~/Documents/Horos Data" --to dicom://ORTHANC@pacs:4242',
            ),
            (
                _("To a PACS and a disk, both by their configured names"),
                "dcmvault backup main --to pacs --to disk",
            ),
            (
                _("What would be sent, and why"),
                "dcmvault backup main --to pacs --dry-run --explain",
            ),
        ],
    )


def _params() -> list[click.Parameter]:
    return [
        click.Argument(["source"], metavar="SOURCE"),
        click.Option(
            ["--to"],
            multiple=True,
            required=True,
            metavar="DESTINATION",
            help=_("Where to: an address or a configured name. May be given several times."),
        ),
        click.Option(
            ["--strategy"],
            type=click.Choice([strategy.value for strategy in Strategy]),
            default=Strategy.INCREMENTAL.value,
            show_default=True,
            help=_(
                "incremental: what is new, changed or not held. full: everything; what is held is "
                "verified again, not sent again. differential: what is new since the last full."
            ),
        ),
        level_option("--verify"),
        click.Option(
            ["--priority"],
            type=click.Choice(PRIORITIES),
            default="normal",
            show_default=True,
            help=_("Place in the destination's queue."),
        ),
        click.Option(
            ["--include-other-files"],
            is_flag=True,
            help=_("Back up files that are not DICOM, too (a PACS cannot take them)."),
        ),
        click.Option(
            ["--explain"], is_flag=True, help=_("Say of every instance why it is due, first.")
        ),
        click.Option(
            ["--dry-run"], is_flag=True, help=_("Say what would be done, and send nothing.")
        ),
        json_option(),
        progress_option(),
    ]


def _backup(
    source: str,
    to: tuple[str, ...],
    strategy: str,
    level: str | None,
    priority: str,
    include_other_files: bool,
    explain: bool,
    dry_run: bool,
    as_json: bool,
    progress: str,
) -> int:
    settings = current_settings()
    request = make_request(
        settings,
        kind=RunKind.BACKUP,
        source=source,
        destinations=to,
        level=level_of(level),
        strategy=Strategy(strategy),
        priority=priority_of(priority),
        include_other_files=include_other_files,
    )
    with opened(settings) as session:
        if not explain and not dry_run:
            return carry_out(session, request, as_json=as_json, progress=progress)
        foretold = _foretell(session, request, explain=explain, as_json=as_json)
        if dry_run:
            if as_json:
                print_json({"dry_run": True, **foretold, "exit_status": 0})
            return 0
        explanation = {"explanation": foretold["explanation"]}
        return carry_out(session, request, as_json=as_json, progress=progress, extra=explanation)


def _foretell(
    session: Session, request: RunRequest, *, explain: bool, as_json: bool
) -> dict[str, object]:
    """Look at what would be done; show it to people, or return it for JSON."""
    seen = preview(session.workplace, request)
    explanation: list[dict[str, str]] = []
    if explain:
        for destination, item in seen.items():
            if as_json:
                explanation.append(
                    {
                        "study_instance_uid": item.identity.study_instance_uid,
                        "series_instance_uid": item.identity.series_instance_uid,
                        "sop_instance_uid": item.identity.sop_instance_uid,
                        "destination": destination,
                        "reason": item.reason,
                    }
                )
            else:
                name = item.identity.sop_instance_uid or _("(no SOP Instance UID)")
                say(f"{name}  {visible(destination)}  {reason_word(item.reason)}")
    if as_json:
        return {
            "studies": seen.studies,
            "unreadable": seen.unreadable,
            "not_dicom": seen.not_dicom,
            "warnings": list(seen.warnings),
            "destinations": [
                {
                    "name": one.name,
                    "level": one.level.word,
                    "selected": one.selected,
                    "already_held": one.already_held,
                    "bytes": one.bytes,
                    "reasons": dict(one.reasons),
                }
                for one in seen.destinations
            ],
            "explanation": explanation,
        }
    for one in seen.destinations:
        due = ngettext("%s instance due", "%s instances due", one.selected)
        say(
            f"{visible(one.name)}: {due % format_number(one.selected)} "
            f"({format_bytes(one.bytes)}), "
            + _("%(held)s held already, level “%(level)s”")
            % {"held": format_number(one.already_held), "level": one.level.word}
        )
        for reason, count in one.reasons.items():
            say(f"    {format_number(count)}  {reason_word(reason)}")
    for count, text in (
        (seen.unreadable, _("Unreadable: %s")),
        (seen.not_dicom, _("Not DICOM: %s")),
    ):
        if count:
            say(text % format_number(count))
    for warning in seen.warnings:
        say(sentence(warning))
    return {"explanation": explanation}
