"""Moving an embedded installation to PostgreSQL, so that several hosts can share it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dcmvault.app.wiring.moving import at_rest, move_rows
from dcmvault.config.settings import Settings
from dcmvault.errors import UsageError
from dcmvault.i18n import gettext as _
from dcmvault.ports.moving import MovedTable


@dataclass(frozen=True, slots=True)
class Moved:
    """What was moved, table by table."""

    tables: Sequence[MovedTable]

    @property
    def rows(self) -> int:
        """All rows."""
        return sum(table.rows for table in self.tables)


def move_state(
    home: Path, settings: Settings, to: str, told: Callable[[MovedTable], None]
) -> Moved:
    """Copy catalogue and durable work to an empty PostgreSQL database, all or nothing.

    `to` is a postgresql:// URL without a password, or a reference (env:NAME, file:PATH) to one.
    The state folder is not changed. UsageError where the installation is on a server already, has
    no catalogue, or the database is in use; StateError while a process works here, and where
    anything is not the same afterwards: then nothing was moved.
    """
    if settings.database:
        raise UsageError(
            _("This installation is on a database server already."),
            hint=_("What is to be moved is the state folder's own; see “database”."),
        )
    url = Settings(database=to).database_url()
    if not url.startswith("postgresql://"):
        raise UsageError(
            _("A move goes to a postgresql:// URL."),
            hint=_("Write --to postgresql://user@host/name, or env:NAME or file:PATH for it."),
        )
    if not (home / "catalogue.sqlite3").is_file():
        raise UsageError(
            _("There is nothing to be moved: the state folder has no catalogue."),
            hint=_("Write “database” into the configuration; the first command makes all."),
        )
    tables: list[MovedTable] = []

    def keep(table: MovedTable) -> None:
        tables.append(table)
        told(table)

    with at_rest(home):
        move_rows(home, url, keep)
    return Moved(tables)
