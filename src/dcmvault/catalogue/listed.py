"""Rows of one source's entries, read ahead in the order in which sources list their files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import sqlalchemy as sa

from dcmvault.catalogue.database import chunks
from dcmvault.catalogue.tables import entries
from dcmvault.model.identifiers import SourceId

#: (id, locator, size, mtime_ns, inode, claim, state, version_id, problem_code); a plain row of the
#: database, because there is one per file: `inode` is signed, `state` a word.
ListedRow: TypeAlias = Sequence[Any]

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
        self._query = sa.select(
            entries.c.id,
            entries.c.locator,
            entries.c.size,
            entries.c.mtime_ns,
            sa.type_coerce(entries.c.inode, sa.BigInteger).label("inode"),
            entries.c.claim,
            sa.type_coerce(entries.c.state, sa.Text).label("state"),
            entries.c.version_id,
            entries.c.problem_code,
        ).where(entries.c.source_id == source_id)
        self._stretch = (
            self._query.where(entries.c.locator >= sa.bindparam("first"))
            .order_by(entries.c.locator)
            .limit(sa.bindparam("page"))
        )
        self._ahead: dict[str, ListedRow] = {}
        self._page = _FIRST_PAGE
        #: Look-ups by name before reading ahead is tried again, and how many there were last.
        self._doubt = self._last_doubt = 0

    def find(self, connection: sa.Connection, locators: Sequence[str]) -> dict[str, ListedRow]:
        """Return the rows of these locators; those without one are left out."""
        found: dict[str, ListedRow] = {}
        missing = self._take(locators, found)
        while missing and not self._doubt:
            before = len(missing)
            self._read_ahead(connection, missing[0])
            missing = self._take(missing, found)
            self._judge(served=before - len(missing), wanted=before)
        if missing:
            self._doubt = max(self._doubt - 1, 0)
        for some in chunks(missing):
            rows = connection.execute(self._query.where(entries.c.locator.in_(some)))
            found |= {row[1]: row for row in rows}
        return found

    def forget(self, locators: Iterable[str]) -> None:
        """Read these anew when they are asked for: their rows are about to change."""
        for locator in locators:
            self._ahead.pop(locator, None)

    def _take(self, locators: Sequence[str], found: dict[str, ListedRow]) -> list[str]:
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
        rows = connection.execute(self._stretch, {"first": first, "page": self._page})
        self._ahead = {row[1]: row for row in rows}

    def _judge(self, *, served: int, wanted: int) -> None:
        """Read more at once while it serves; else look up by name for a while."""
        if 2 * served >= wanted:
            self._page = min(2 * self._page, _LARGEST_PAGE)
            self._last_doubt = 0
        else:
            self._page = _FIRST_PAGE
            self._doubt = self._last_doubt = min(2 * self._last_doubt + 1, _LONGEST_DOUBT)
