"""Rows of one source's entries, read ahead in the order in which sources list their files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, NamedTuple

import sqlalchemy as sa

from dcmvault.catalogue.bulk import among, slices
from dcmvault.catalogue.tables import entries
from dcmvault.model.identifiers import SourceId


class ListedRow(NamedTuple):
    """The columns of an entry that a pass looks at, as the driver gives them."""

    id: int
    locator: str
    size: int
    mtime_ns: int
    inode: int  #: signed
    claim: str
    state: str
    version_id: int | None
    problem_code: str


#: Rows read ahead: at first, and at most.
_FIRST_PAGE, _LARGEST_PAGE = 500, 10_000
#: Look-ups by name between tries to read ahead, at most.
_LONGEST_DOUBT = 64


class ListedRows:
    """Finds entries by locator, by one thread.

    A folder's files are listed nearly in the order of their locators. So whole stretches of the
    catalogue are read in that order and compared in memory, as long as that serves; a source that
    lists in another order is looked up name by name.
    """

    def __init__(self, source_id: SourceId) -> None:
        self._query = _select_rows().where(entries.c.source_id == source_id)
        self._stretch = (
            self._query.where(entries.c.locator >= sa.bindparam("first"))
            .order_by(entries.c.locator)
            .limit(sa.bindparam("page"))
        )
        self._ahead: dict[str, Any] = {}
        #: How many rows the stretch had that `_ahead` is what is left of.
        self._read = 0
        self._page = _FIRST_PAGE
        #: Whether the stretch before this one was of use.
        self._trusted = False
        #: Look-ups by name before reading ahead is tried again, and how many there were last.
        self._doubt = self._last_doubt = 0

    def find(self, connection: sa.Connection, locators: Sequence[str]) -> dict[str, Any]:
        """Return the rows (as `ListedRow` has them) of these locators that have one."""
        found: dict[str, Any] = {}
        missing = self._take(locators, found)
        while missing and not self._doubt:
            if 2 * len(self._ahead) > self._read:
                self._lose_trust()
                break
            self._read_ahead(connection, missing[0])
            before = len(missing)
            missing = self._take(missing, found)
            if len(missing) == before:
                self._lose_trust()
        if missing:
            self._doubt = max(self._doubt - 1, 0)
        for some in slices(missing):
            query = self._query.where(among(connection, entries.c.locator, some))
            found |= {row[1]: row for row in connection.execute(query)}
        return found

    def forget(self, locators: Iterable[str]) -> None:
        """Read these anew when they are asked for: their rows are about to change."""
        for locator in locators:
            self._ahead.pop(locator, None)

    def _take(self, locators: Sequence[str], found: dict[str, Any]) -> list[str]:
        """Move what was read ahead to `found`; return what was not."""
        missing = []
        take = self._ahead.pop
        for locator in locators:
            row = take(locator, None)
            if row is None:
                missing.append(locator)
            else:
                found[locator] = row
        return missing

    def _read_ahead(self, connection: sa.Connection, first: str) -> None:
        """Read a stretch, longer than the one before, which served well."""
        rows = connection.execute(self._stretch, {"first": first, "page": self._page}).all()
        self._ahead = {row[1]: row for row in rows}
        self._read = len(self._ahead)
        self._page = min(2 * self._page, _LARGEST_PAGE)
        self._last_doubt = 0 if self._trusted else self._last_doubt
        self._trusted = True

    def _lose_trust(self) -> None:
        """Look up by name for a while, longer each time."""
        self._ahead, self._read, self._page = {}, 0, _FIRST_PAGE
        self._doubt = self._last_doubt = min(2 * self._last_doubt + 1, _LONGEST_DOUBT)
        self._trusted = False


@cache
def _select_rows() -> sa.Select[Any]:
    return sa.select(
        entries.c.id,
        entries.c.locator,
        entries.c.size,
        entries.c.mtime_ns,
        sa.type_coerce(entries.c.inode, sa.BigInteger),
        entries.c.claim,
        sa.type_coerce(entries.c.state, sa.Text),
        entries.c.version_id,
        sa.type_coerce(entries.c.problem_code, sa.Text),
    )
