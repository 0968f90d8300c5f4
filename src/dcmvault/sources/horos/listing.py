"""What the index names, by study: one line per file, kept beside the index's private copy."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dcmvault.errors import SourceUnavailableError
from dcmvault.model.instance import Claim
from dcmvault.sources.horos.paths import DATABASE_FOLDER, file_of_row
from dcmvault.sources.horos.uid import decode_uid
from dcmvault.sources.local_files import escape

#: Without these columns there is no way from a study to its files.
_NEEDED: Mapping[str, tuple[str, ...]] = {
    "ZSTUDY": ("Z_PK", "ZSTUDYINSTANCEUID"),
    "ZSERIES": ("Z_PK", "ZSTUDY"),
    "ZIMAGE": ("Z_PK", "ZSERIES"),
}
#: Before the SOP Instance UID of a row that names no file: an entry that cannot be read.
NO_FILE = "no-file/"
#: Columns that older or newer versions may lack; NULL stands for them.
_WANTED = ("ZPATHNUMBER", "ZPATHSTRING", "ZSTOREDFILETYPE", "ZCOMPRESSEDSOPINSTANCEUID")


@dataclass(frozen=True, slots=True)
class IndexedFile:
    """One file that the index names. `locator` is empty when the row names none."""

    locator: str
    claim: Claim
    sop_instance_uid: str


class IndexListing:
    """The files of an index by study, each file once, in a stable order.

    The lines lie in a database of their own in the copy's folder, not in memory: a library may
    name millions of files. A file that rows of several studies name (its number was used again)
    belongs to the first of them; the file itself says what it is.
    """

    def __init__(
        self, connection: sqlite3.Connection, folder: str, *, data: str, folder_size: int
    ) -> None:
        self._connection = connection
        self._data = data
        self._folder_size = folder_size
        columns = _columns(connection)
        # A file beside the copy, which stays as SQLite recovered it.
        connection.execute("ATTACH DATABASE ? AS listing", (os.path.join(folder, "listing.sql"),))  # noqa: PTH118
        connection.execute("PRAGMA listing.journal_mode = OFF")
        connection.execute("PRAGMA listing.synchronous = OFF")
        connection.execute(
            "CREATE TABLE listing.file (number INTEGER PRIMARY KEY, study TEXT NOT NULL,"
            " locator TEXT NOT NULL UNIQUE, is_dicom INTEGER NOT NULL, sop TEXT NOT NULL)"
        )
        connection.execute("BEGIN")
        self._fill(columns)
        connection.execute("CREATE INDEX listing.file_by_study ON file (study, number)")
        connection.execute("COMMIT")
        connection.execute("PRAGMA query_only = ON")

    def studies(self) -> list[str]:
        """List the Study Instance UIDs as the index has them, sorted; empty for rows without.

        Several rows of one UID (other demographics) are one study.
        """
        found = {
            _clean(row[0])
            for row in self._connection.execute(
                "SELECT CAST(ZSTUDYINSTANCEUID AS TEXT) FROM main.ZSTUDY"
            )
        }
        detached = self._connection.execute("SELECT 1 FROM listing.file WHERE study = ''")
        if detached.fetchone() is None:
            found.discard("")
        else:
            found.add("")
        return sorted(found)

    def files(self, study: str) -> Iterator[IndexedFile]:
        """List the files of one study."""
        for locator, is_dicom, sop in self._connection.execute(
            "SELECT locator, is_dicom, sop FROM listing.file WHERE study = ? ORDER BY number",
            (study,),
        ):
            yield IndexedFile(locator, Claim.DICOM if is_dicom else Claim.OTHER, sop)

    def names(self, locator: str) -> bool:
        """Say whether the index names this file."""
        found = self._connection.execute(
            "SELECT 1 FROM listing.file WHERE locator = ?", (locator,)
        ).fetchone()
        return found is not None

    def files_in_library(self) -> int:
        """Count the files that should lie in DATABASE.noindex."""
        row = self._connection.execute(
            "SELECT COUNT(*) FROM listing.file WHERE locator >= ? AND locator < ?",
            (f"{DATABASE_FOLDER}/", f"{DATABASE_FOLDER}0"),
        ).fetchone()
        return int(row[0])

    def _fill(self, columns: frozenset[str]) -> None:
        number, text, kind, sop = (f"im.{name}" if name in columns else "NULL" for name in _WANTED)
        # Rows are frames: N rows of a multi-frame file have one path. An index may have rows
        # whose series or study is gone; their files are listed under an empty study.
        rows = self._connection.execute(
            "SELECT CAST(st.ZSTUDYINSTANCEUID AS TEXT) AS uid,"  # noqa: S608  (names are ours)
            f" {number} AS number, {text} AS path,"
            f" MAX({kind} IS NULL OR UPPER({kind}) LIKE 'DICOM%'), MAX({sop})"
            " FROM main.ZIMAGE im LEFT JOIN main.ZSERIES se ON im.ZSERIES = se.Z_PK"
            " LEFT JOIN main.ZSTUDY st ON se.ZSTUDY = st.Z_PK"
            " GROUP BY uid, number, path ORDER BY uid, number, path"
        )
        self._connection.executemany(
            "INSERT OR IGNORE INTO listing.file (study, locator, is_dicom, sop)"
            " VALUES (?, ?, ?, ?)",
            filter(None, map(self._line, rows)),
        )

    def _line(self, row: tuple[object, ...]) -> tuple[str, str, object, str] | None:
        study, number, text, is_dicom, packed = row
        sop = decode_uid(packed)
        path = file_of_row(number, text, self._folder_size)
        if path:
            # The application also accepts an absolute path to a file of its own.
            locator = escape(path.removeprefix(f"{self._data}/"))
        elif sop:
            locator = f"{NO_FILE}{sop}"
        else:
            return None
        return _clean(study), locator, is_dicom, sop


def _columns(connection: sqlite3.Connection) -> frozenset[str]:
    """Look up the columns of ZIMAGE; SourceUnavailableError for an index of another kind."""
    found: frozenset[str] = frozenset()
    for table, needed in _NEEDED.items():
        rows = connection.execute(f"PRAGMA main.table_info({table})")
        found = frozenset(row[1].upper() for row in rows)
        if not found.issuperset(needed):
            raise _foreign_layout()
    if found.isdisjoint({"ZPATHNUMBER", "ZPATHSTRING"}):
        raise _foreign_layout()
    return found


def _foreign_layout() -> SourceUnavailableError:
    return SourceUnavailableError(
        "The library's index (Database.sql) is not of a layout that dcmvault knows.",
        hint="Open the library once with a current Horos or OsiriX, which converts it.",
    )


def _clean(uid: object) -> str:
    return escape(uid.strip(" \0")) if isinstance(uid, str) else ""
