"""`dcmvault vault stats`: what a vault stores for what it holds."""

from __future__ import annotations

import click

from dcmvault.app.vault_upkeep import vault_figures
from dcmvault.cli.building import ExampleCommand, json_option, progress_option
from dcmvault.cli.output import print_json, say, table
from dcmvault.cli.phase_progress import phases_shown
from dcmvault.cli.session import current_settings
from dcmvault.cli.vault_views import local_time, vault_argument
from dcmvault.i18n import format_bytes, format_number, ngettext
from dcmvault.i18n import gettext as _
from dcmvault.reports.vault_words import coding_word, content_kind, object_kind
from dcmvault.vault.repository import Vault
from dcmvault.vault.statistics import VaultFigures


def command() -> click.Command:
    """Build the command in the language in use."""
    return ExampleCommand(
        "stats",
        callback=_stats,
        text=_(
            "Show what a vault stores for what it holds: sizes, ratio, redundancy, and what a "
            "prune could give back."
        ),
        params=[vault_argument(), json_option(), progress_option()],
        examples=[(_("How small it is"), "dcmvault vault stats vault:/backup")],
    )


def _stats(vault: str, as_json: bool, progress: str) -> int:
    with phases_shown(progress) as told:
        address, opened, figures = vault_figures(current_settings(), vault, told)
    if as_json:
        print_json(_object(address, opened, figures))
    else:
        _say(figures)
    return 0


def _say(figures: VaultFigures) -> None:
    studies = ngettext("%s study", "%s studies", figures.studies)
    instances = ngettext("%s file", "%s files", figures.instances)
    say(
        table(
            ["", _("Size")],
            [
                [
                    f"{studies % format_number(figures.studies)}, "
                    f"{instances % format_number(figures.instances)}",
                    format_bytes(figures.source_bytes),
                ],
                *([object_kind(kind), format_bytes(size)] for kind, size in figures.stored.items()),
                [_("stored in all"), format_bytes(figures.stored_bytes)],
            ],
            right=frozenset({1}),
        )
    )
    say()
    if figures.ratio:
        say(
            _("%(ratio)s bytes of files for one byte in packs.")
            % {"ratio": format_number(figures.ratio, 2)}
        )
    say(
        table(
            [_("Content"), _("Parts"), _("Size"), _("Stored")],
            [
                [
                    content_kind(one.kind),
                    format_number(one.blobs),
                    format_bytes(one.content_bytes),
                    format_bytes(one.stored_bytes),
                ]
                for one in figures.blobs
            ],
            right=frozenset({1, 2, 3}),
        )
    )
    say()
    _say_codings(figures)
    snapshots = ngettext("%s snapshot", "%s snapshots", figures.snapshots)
    packs = ngettext("%s pack", "%s packs", figures.packs.packs)
    say(
        f"{snapshots % format_number(figures.snapshots)}, "
        f"{packs % format_number(figures.packs.packs)}"
    )
    say(_("%s of the packs is not needed by any snapshot.") % format_bytes(figures.waste_bytes))
    newest = figures.epochs[-1]
    say(
        _("Key epoch %(number)d since %(since)s.")
        % {"number": newest.number, "since": local_time(newest.opened_at)}
    )


def _say_codings(figures: VaultFigures) -> None:
    if not figures.space.codings:
        return
    say(
        table(
            [_("Coded as"), _("Parts"), _("Size"), _("Stored")],
            [
                [
                    coding_word(one.coding),
                    format_number(one.parts),
                    format_bytes(one.content_bytes),
                    format_bytes(one.stored_bytes),
                ]
                for one in figures.space.codings
            ],
            right=frozenset({1, 2, 3}),
        )
    )
    if not figures.space.is_whole:
        say(_("Not all of it was looked at."))
    say()


def _object(address: str, vault: Vault, figures: VaultFigures) -> dict[str, object]:
    return {
        "vault": address,
        "vault_id": vault.config.vault_id.hex(),
        "encrypted": vault.config.encrypted,
        "copies": vault.config.copies,
        "parity": vault.config.parity,
        "studies": figures.studies,
        "instances": figures.instances,
        "source_bytes": figures.source_bytes,
        "stored_bytes": figures.stored_bytes,
        "stored": dict(figures.stored),
        "ratio": round(figures.ratio, 4),
        "blobs": {
            one.kind.name.lower(): {
                "count": one.blobs,
                "content_bytes": one.content_bytes,
                "stored_bytes": one.stored_bytes,
            }
            for one in figures.blobs
        },
        "codings": {
            one.coding.value: {
                "count": one.parts,
                "content_bytes": one.content_bytes,
                "stored_bytes": one.stored_bytes,
            }
            for one in figures.space.codings
        },
        "codings_whole": figures.space.is_whole,
        "packs": {
            "count": figures.packs.packs,
            "bytes": figures.packs.stored_bytes,
            "needed_bytes": figures.packs.needed_bytes,
            "waste_bytes": figures.waste_bytes,
        },
        "snapshots": figures.snapshots,
        "journals": figures.journals,
        "epochs": [
            {"epoch": one.number, "opened_at": one.opened_at.isoformat()} for one in figures.epochs
        ],
        "exit_status": 0,
    }
