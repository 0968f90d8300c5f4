"""`dcmvault snapshots`: what a vault held, and when."""

from __future__ import annotations

import click

from dcmvault.app.vault_contents import (
    SnapshotView,
    files_without_snapshot,
    open_contents,
)
from dcmvault.cli.building import ExampleCommand, json_option
from dcmvault.cli.output import print_json, say, table
from dcmvault.cli.session import current_settings
from dcmvault.cli.vault_views import local_time, losses_object, tell_losses, vault_argument
from dcmvault.i18n import format_bytes, format_number, ngettext
from dcmvault.i18n import gettext as _
from dcmvault.reports.escaping import visible
from dcmvault.reports.vault_words import snapshot_kind
from dcmvault.vault.choosing import short_id


def command() -> click.Command:
    """Build the command in the language in use."""
    return ExampleCommand(
        "snapshots",
        callback=_snapshots,
        text=_(
            "List the snapshots of VAULT, oldest first. Each says what the whole vault held then, "
            "of all sources; what it added to the one before is in the last column."
        ),
        params=[vault_argument(), json_option()],
        examples=[(_("Of a vault on a disk"), "dcmvault snapshots vault:/backup")],
    )


def _snapshots(vault: str, as_json: bool) -> int:
    contents = open_contents(current_settings(), vault)
    views = contents.snapshots()
    waiting = files_without_snapshot(contents)
    if as_json:
        print_json(
            {
                "vault": contents.address,
                "snapshots": [_object(view) for view in views],
                "files_without_snapshot": waiting,
                "damage": losses_object(contents),
                "exit_status": contents.exit_status,
            }
        )
        return contents.exit_status
    if views:
        say(_table(views))
    else:
        say(_("The vault has no snapshot yet; the first backup into it takes one."))
    if waiting:
        files = ngettext(
            "%s file was stored since; the next snapshot will name it.",
            "%s files were stored since; the next snapshot will name them.",
            waiting,
        )
        say(files % format_number(waiting))
    tell_losses(contents)
    return contents.exit_status


def _table(views: list[SnapshotView]) -> str:
    return table(
        [
            _("Id"),
            _("Time"),
            _("Kind"),
            _("Source"),
            _("Studies"),
            _("Instances"),
            _("Size"),
            _("Added"),
        ],
        [_row(view) for view in views],
        right=frozenset({4, 5, 6, 7}),
    )


def _row(view: SnapshotView) -> list[str]:
    state = view.state
    head = [short_id(view.link.name), local_time(view.created_at)]
    if state is None:
        return [*head, _("damaged"), "", "", "", "", ""]
    return [
        *head,
        snapshot_kind(state.kind),
        visible(state.source),
        format_number(state.studies),
        format_number(state.instances),
        format_bytes(state.size),
        format_bytes(state.added.get("bytes", 0)),
    ]


def _object(view: SnapshotView) -> dict[str, object]:
    link, state = view.link, view.state
    about = {
        "id": link.name.rpartition("-")[2],
        "name": link.name,
        "generation": link.generation,
        "parents": list(link.parents),
        "created_at": link.created_at,
        "damaged": state is None,
    }
    if state is None:
        return about
    return {
        **about,
        "kind": state.kind,
        "run": state.run,
        "source": state.source,
        "studies": state.studies,
        "instances": state.instances,
        "bytes": state.size,
        "added": dict(state.added),
    }
