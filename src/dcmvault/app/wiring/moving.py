"""Both parts of an installation's state, moved in one transaction of PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dcmvault.app.wiring.workplace import only_daemon
from dcmvault.errors import StateError
from dcmvault.i18n import gettext as _
from dcmvault.ports.moving import MovedTable


@contextmanager
def at_rest(home: Path) -> Iterator[None]:
    """Have nobody work in a state folder meanwhile; StateError where somebody does."""
    from dcmvault.engine.ownership import Ownership  # noqa: PLC0415 - imported when needed

    ownership = Ownership(home)
    with only_daemon(home):
        if not ownership.try_acquire():
            raise StateError(
                _("Another process works in this state folder."),
                hint=_("Let it end, or stop it; then move."),
            )
        try:
            yield
        finally:
            ownership.release()


def move_rows(home: Path, url: str, told: Callable[[MovedTable], None]) -> None:
    """Copy and compare all rows; nothing is there unless all is."""
    from dcmvault.catalogue.moving import copy_rows, moving  # noqa: PLC0415 - imported when needed
    from dcmvault.engine.moving import move_work, prepare_target  # noqa: PLC0415 - when needed

    prepare_target(url)
    with moving(home / "catalogue.sqlite3", url) as move:
        move.carry_out(told)
        work = home / "engine.sqlite3"
        if work.is_file():
            move_work(work, move.target, copy_rows, told)
