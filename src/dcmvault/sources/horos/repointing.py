"""An index that leads to files where they are now: of a library that was restored elsewhere.

Rows name files outside the library, and some reports, by absolute paths, which lead nowhere (or to
the old library) after a restore. Only a copy of an index is ever changed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from dcmvault.errors import SourceIndexError

#: Answers where a file is now that a row names by an absolute path; None if it is not known.
FindFile = Callable[[str], str | None]

_PATHS = (("ZIMAGE", "ZPATHSTRING"), ("ZSTUDY", "ZREPORTURL"))


def repoint_index(index: Path, find_linked: FindFile, find_report: FindFile) -> int:
    """Change the absolute paths in the index of a restored library; answer in how many rows.

    `find_linked` is asked for files outside the library, `find_report` for reports. An index
    without such rows is left as it is, byte for byte. Raises SourceIndexError if it cannot be
    read; then nothing was changed.
    """
    try:
        with closing(sqlite3.connect(index)) as connection, connection:
            # Paths need not be UTF-8.
            connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
            changes = [
                (table, column, new, key)
                for (table, column), find in zip(_PATHS, (find_linked, find_report), strict=True)
                for key, old in _absolute(connection, table, column)
                if (new := find(old)) is not None and new != old
            ]
            for table, column, new, key in changes:
                connection.execute(
                    f"UPDATE {table} SET {column} = ? WHERE Z_PK = ?",  # noqa: S608
                    (new, key),
                )
            return len(changes)
    except sqlite3.Error as error:
        raise SourceIndexError(
            f"The index of the restored library (Database.sql) cannot be read: {error}.",
            hint="Let the viewer rebuild its database.",
        ) from error


def _absolute(connection: sqlite3.Connection, table: str, column: str) -> list[tuple[int, str]]:
    columns = {row[1].upper() for row in connection.execute(f"PRAGMA table_info({table})")}
    if not columns.issuperset({"Z_PK", column}):
        return []
    rows = connection.execute(
        f"SELECT Z_PK, {column} FROM {table} WHERE {column} LIKE '/%'"  # noqa: S608
    )
    return [(key, path) for key, path in rows if isinstance(path, str)]
