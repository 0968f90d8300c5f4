"""`dcmvault state`: where an installation keeps what it knows."""

from __future__ import annotations

from typing import Any

import click

from dcmvault.app.state_move import move_state
from dcmvault.cli.building import ExampleCommand, FamilyGroup, json_option
from dcmvault.cli.output import print_json, say, tell
from dcmvault.cli.session import begin_log, current_settings
from dcmvault.config.places import state_folder
from dcmvault.i18n import format_number, ngettext
from dcmvault.i18n import gettext as _
from dcmvault.ports.moving import MovedTable


def command() -> click.Command:
    """Build the group in the language in use."""
    return FamilyGroup(
        "state",
        text=_("Where an installation keeps what it knows."),
        members=[_move_command()],
    )


def _move_command() -> click.Command:
    return ExampleCommand(
        "move",
        callback=_move,
        text=_(
            "Move an installation from its state folder to PostgreSQL, so that several hosts can "
            "share it.\n\n"
            "All rows of the catalogue and of the queued work are copied in one transaction, read "
            "again and compared; only then is anything there. The state folder is not changed, "
            "and nothing may run in it meanwhile."
        ),
        params=[
            click.Option(
                ["--to"],
                required=True,
                metavar="DATABASE",
                help=_(
                    "An empty database: postgresql://user@host/name, or env:NAME or file:PATH of "
                    "such a URL with a password."
                ),
            ),
            json_option(),
        ],
        examples=[
            (_("With a password from a file"), "dcmvault state move --to file:/etc/dcmvault/url"),
        ],
    )


def _move(to: str, as_json: bool) -> int:
    home = state_folder()
    begin_log(home)

    def told(table: MovedTable) -> None:
        if not as_json:
            rows = ngettext("%s row", "%s rows", table.rows) % format_number(table.rows)
            tell(_("%(table)s: %(rows)s, the same") % {"table": table.name, "rows": rows})

    moved = move_state(home, current_settings(), to, told)
    if as_json:
        tables: list[dict[str, Any]] = [
            {"name": table.name, "rows": table.rows, "digest": table.digest}
            for table in moved.tables
        ]
        print_json({"tables": tables, "rows": moved.rows, "exit_status": 0})
        return 0
    say(_("All was moved: %s rows, compared.") % format_number(moved.rows))
    say(_("Now write into the configuration: database = “%s”") % to)
    say(_("The state folder is as it was; its two databases are not used any more then."))
    return 0
