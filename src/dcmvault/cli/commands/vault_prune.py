"""`dcmvault vault prune`: space of what no snapshot needs comes back."""

from __future__ import annotations

import click

from dcmvault.app.vault_upkeep import prune_vault
from dcmvault.cli.building import ExampleCommand, json_option, progress_option
from dcmvault.cli.durations import read_duration
from dcmvault.cli.output import print_json, say, tell
from dcmvault.cli.phase_progress import phases_shown
from dcmvault.cli.session import current_settings
from dcmvault.cli.vault_views import local_time, vault_argument
from dcmvault.i18n import format_bytes, format_number, ngettext, sentence
from dcmvault.i18n import gettext as _
from dcmvault.reports.escaping import visible
from dcmvault.vault.prune import MOST_DROPPED, PruneRequest, PruneResult


def command() -> click.Command:
    """Build the command in the language in use."""
    return ExampleCommand(
        "prune",
        callback=_prune,
        text=_(
            "Give back the space of what no snapshot needs any more. It goes in two steps: packs "
            "that nothing needs are condemned, and a prune after the grace time removes them, if "
            "nothing needs them by then. Backups may run at the same time."
        ),
        params=[
            vault_argument(),
            click.Option(["--dry-run"], is_flag=True, help=_("Change nothing; say what would be.")),
            click.Option(
                ["--grace"],
                default="24h",
                metavar="TIME",
                help=_(
                    "How long condemned packs stay. Less than an hour only while "
                    "no backup runs; with 0 everything goes at once."
                ),
            ),
            max_drop_option(),
            json_option(),
            progress_option(),
        ],
        examples=[
            (_("What it would do"), "dcmvault vault prune vault:/backup --dry-run"),
            (_("A full disk, and no backup runs"), "dcmvault vault prune vault:/backup --grace 0"),
        ],
    )


def max_drop_option() -> click.Option:
    """Build --max-drop."""
    return click.Option(
        ["--max-drop"],
        type=click.FloatRange(0, 100),
        default=100 * MOST_DROPPED,
        show_default=False,
        metavar="PERCENT",
        help=_("Refuse to drop more than so many per cent of what is stored: 20 by default."),
    )


def _prune(
    vault: str, dry_run: bool, grace: str, max_drop: float, as_json: bool, progress: str
) -> int:
    request = PruneRequest(read_duration(grace), max_drop / 100, dry_run)
    with phases_shown(progress) as told:
        result = prune_vault(current_settings(), vault, request, told)
    if as_json:
        print_json({**prune_object(result), "dry_run": dry_run, "exit_status": 0})
    else:
        say_prune(result, dry_run=dry_run)
    return 0


def prune_object(result: PruneResult) -> dict[str, object]:
    """Return what a prune did for JSON."""
    until = result.waiting_until
    return {
        "packs": result.packs,
        "stored_bytes": result.stored_bytes,
        "needed_bytes": result.needed_bytes,
        "dropped_bytes": result.dropped_bytes,
        "refused": result.is_refused,
        "removed": {"packs": result.removed_packs, "bytes": result.removed_bytes},
        "condemned": {"packs": result.condemned_packs, "bytes": result.condemned_bytes},
        "waiting": {
            "packs": result.waiting_packs,
            "bytes": result.waiting_bytes,
            "until": until.isoformat() if until else None,
        },
        "spared_packs": result.spared_packs,
        "rewritten_packs": result.rewritten_packs,
        "removed_snapshots": result.removed_snapshots,
        "locked": {"packs": result.locked_packs, "snapshots": result.locked_snapshots},
        "notes": result.notes,
    }


def say_prune(result: PruneResult, *, dry_run: bool = False) -> None:
    """Say what a prune did, or would do."""
    lines = [
        (
            result.removed_packs,
            result.removed_bytes,
            _("would be removed") if dry_run else _("removed"),
        ),
        (
            result.condemned_packs,
            result.condemned_bytes,
            _("would be condemned") if dry_run else _("condemned"),
        ),
        (result.waiting_packs, result.waiting_bytes, _waiting(result)),
        (result.locked_packs, 0, _("locked by the store")),
        (result.rewritten_packs, 0, _("written anew without what nothing needs")),
    ]
    told = False
    for packs, size, what in lines:
        if packs:
            told = True
            count = ngettext("%s pack", "%s packs", packs) % format_number(packs)
            say(f"{count}{f' ({format_bytes(size)})' if size else ''}: {what}")
    if result.removed_snapshots:
        told = True
        text = ngettext(
            "%s forgotten snapshot is gone.",
            "%s forgotten snapshots are gone.",
            result.removed_snapshots,
        )
        say(text % format_number(result.removed_snapshots))
    if not told:
        say(_("There is nothing to prune."))
    figures = {
        "needed": format_bytes(result.needed_bytes),
        "stored": format_bytes(result.stored_bytes),
    }
    say(_("Before, %(needed)s of %(stored)s in packs were needed.") % figures)
    if result.is_refused:
        tell(_("It would be refused, because it drops too much at once; see --max-drop."))
    for note in result.notes:
        tell(visible(sentence(note)))


def _waiting(result: PruneResult) -> str:
    if result.waiting_until is None:
        return _("waiting")
    return _("waiting until %s") % local_time(result.waiting_until)
