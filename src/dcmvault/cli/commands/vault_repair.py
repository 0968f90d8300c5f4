"""`dcmvault vault repair`: what is damaged is set right, and what is lost is named."""

from __future__ import annotations

import click

from dcmvault.app.vault_care import Repaired, repair_vault
from dcmvault.cli.building import ExampleCommand, json_option, progress_option
from dcmvault.cli.interrupts import stoppable
from dcmvault.cli.output import print_json, say
from dcmvault.cli.phase_progress import phases_shown
from dcmvault.cli.session import current_settings
from dcmvault.cli.vault_findings import (
    command_word,
    damage,
    figures,
    lost_past,
    result_object,
    say_findings,
    say_how_to_go_on_without,
    say_studies,
    studies_object,
    tell_of_catalogue,
)
from dcmvault.cli.vault_views import vault_argument
from dcmvault.config.places import state_folder
from dcmvault.i18n import format_duration, format_number, ngettext, sentence
from dcmvault.i18n import gettext as _
from dcmvault.reports.escaping import visible
from dcmvault.vault.check import read_subset
from dcmvault.vault.repair import RepairRequest
from dcmvault.vault.snapshot import Link

#: Places that are shown by name; `--json` has all.
_SHOWN = 50


def command() -> click.Command:
    """Build the command in the language in use."""
    return ExampleCommand(
        "repair",
        callback=_repair,
        text=_(
            "Repair VAULT: read every byte, and set right what is damaged.\n\n"
            "Objects come back from their copies, packs from their parity, lists from the packs. "
            "What nothing gives back is named by study and instance, and stays as it is unless "
            "--drop-lost gives it up. A repair may be interrupted and asked for again. Exit "
            "status: 0 if the vault is sound afterwards, 3 if something is left."
        ),
        params=[
            vault_argument(),
            click.Option(
                ["--read-data-subset"],
                metavar="PART",
                default="",
                help=_("Read some of the packs only: a share, as 5%, or one part, as 3/10."),
            ),
            click.Option(
                ["--drop-lost"],
                is_flag=True,
                help=_(
                    "Give up what cannot be brought back: a snapshot without it is taken, and the "
                    "next backup stores it again where its source still has it."
                ),
            ),
            json_option(),
            progress_option(),
        ],
        examples=[
            (_("What can be mended"), "dcmvault vault repair vault:/backup"),
            (
                _("Go on without what is lost"),
                "dcmvault vault repair vault:/backup --drop-lost",
            ),
        ],
    )


def _repair(
    vault: str, read_data_subset: str, drop_lost: bool, as_json: bool, progress: str
) -> int:
    subset = read_subset(read_data_subset) if read_data_subset else None
    request = RepairRequest(subset=subset, drop_lost=drop_lost)
    settings = current_settings()
    with stoppable() as stop, phases_shown(progress) as told:
        repaired = repair_vault(settings, state_folder(), vault, request, told, stop)
    if as_json:
        print_json(_object(repaired))
        return repaired.exit_status
    _say(vault, repaired)
    tell_of_catalogue(repaired.catalogue_trouble)
    return repaired.exit_status


def _say(vault: str, repaired: Repaired) -> None:
    result = repaired.result
    if not result.after.is_sound:
        left = ngettext(
            "%s thing is still wrong.", "%s things are still wrong.", len(result.after.errors)
        )
        say(click.style(left % format_number(len(result.after.errors)), fg="red", bold=True))
    elif result.given_up:
        say(click.style(_("The vault is sound again, without what was lost."), bold=True))
    elif result.mended:
        say(click.style(_("The vault is sound again."), fg="green", bold=True))
    else:
        say(click.style(_("Nothing is damaged."), fg="green", bold=True))
    say("  " + ", ".join([*figures(result.before), format_duration(repaired.duration_s)]))
    _say_mended(result.mended)
    for note in result.notes:
        say(f"  {visible(sentence(note))}")
    say_studies(_("Given up; the next backup stores it again"), result.given_up)
    if result.after.is_sound:
        return
    say_findings(result.after.findings)
    say_studies(_("Lost, unless another copy has it"), result.lost)
    say()
    if damage(result.after):
        say(
            "→ "
            + _(
                "If no better copy of the vault exists: `dcmvault vault repair %s --drop-lost` "
                "goes on without what is lost, and the next backup stores it again."
            )
            % command_word(vault)
        )
    if lost_past(result.after):
        say_how_to_go_on_without(vault)


def _say_mended(mended: tuple[str, ...]) -> None:
    if not mended:
        return
    say()
    say(click.style(_("Mended"), bold=True) + f" ({format_number(len(mended))})")
    for place in mended[:_SHOWN]:
        say(f"  {visible(place)}")
    if (more := len(mended) - _SHOWN) > 0:
        say("  " + ngettext("and %s more", "and %s more", more) % format_number(more))


def _object(repaired: Repaired) -> dict[str, object]:
    result = repaired.result
    return {
        "vault": repaired.address,
        "before": result_object(result.before),
        "mended": list(result.mended),
        "snapshot": _name(result.snapshot),
        "given_up": studies_object(result.given_up),
        "lost": studies_object(result.lost),
        "notes": list(result.notes),
        "after": result_object(result.after),
        "duration_s": round(repaired.duration_s, 3),
        "exit_status": repaired.exit_status,
        "error": None,
    }


def _name(link: Link | None) -> str | None:
    return None if link is None else link.name
