"""What the index names, by study: one line per file, kept beside the index's private copy."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from dcmvault.errors import SourceIndexError
from dcmvault.model.classification import StudyMarks
from dcmvault.model.identifiers import is_valid_uid
from dcmvault.model.instance import Claim, InstanceHeader, SeriesAttributes, StudyAttributes
from dcmvault.sources.horos.paths import (
    DATABASE_FOLDER,
    file_of_row,
    number_of_file,
    numbered_file,
    numbers_in,
)
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
_CORE_DATA_EPOCH = datetime(2001, 1, 1, tzinfo=UTC)
#: The study of rows whose series or study is gone.
_DETACHED = 0

_TABLES = """
CREATE TABLE listing.study (
  number INTEGER PRIMARY KEY, uid TEXT NOT NULL UNIQUE, name, patient, sex, description,
  accession, institution, spared, locked, in_album, at
);
CREATE TABLE listing.study_row (pk INTEGER PRIMARY KEY, study INTEGER NOT NULL);
CREATE TABLE listing.series (
  pk INTEGER PRIMARY KEY, study INTEGER NOT NULL, uid TEXT NOT NULL, modality, id, name
);
CREATE TABLE listing.numbered (
  number INTEGER PRIMARY KEY, study INTEGER NOT NULL, is_dicom INTEGER NOT NULL, sop BLOB,
  series INTEGER, instance INTEGER
);
CREATE TABLE listing.named (
  locator TEXT PRIMARY KEY, study INTEGER NOT NULL, is_dicom INTEGER NOT NULL, sop BLOB,
  series INTEGER, instance INTEGER
) WITHOUT ROWID;
"""
#: Columns of `numbered` and `named` but for their keys, from rows of ZIMAGE that name one file.
#: What they do not agree on is not told: its series is NULL then.
_FILE_COLUMNS = """
  COALESCE(MIN(se.study), 0),
  MAX({kind} IS NULL OR UPPER({kind}) LIKE 'DICOM%'),
  MAX({sop}),
  CASE WHEN COUNT({sop}) = COUNT(*) AND MIN({sop}) = MAX({sop}) AND COUNT(se.pk) = COUNT(*)
    AND MIN(se.pk) = MAX(se.pk) THEN MIN(se.pk) END,
  CASE WHEN COUNT(*) = 1 THEN MIN({instance}) END
"""
_INDEXES = """
CREATE INDEX listing.numbered_by_study ON numbered (study, number);
CREATE INDEX listing.named_by_study ON named (study, locator);
CREATE INDEX listing.series_by_study ON series (study);
"""
#: Columns that older or newer versions may lack; NULL stands for them.
_WANTED: Mapping[str, str] = {
    "number": "ZPATHNUMBER",
    "path": "ZPATHSTRING",
    "kind": "ZSTOREDFILETYPE",
    "sop": "ZCOMPRESSEDSOPINSTANCEUID",
    "instance": "ZINSTANCENUMBER",
}
_STUDY_TEXTS = (
    "ZNAME",
    "ZPATIENTID",
    "ZPATIENTSEX",
    "ZSTUDYNAME",
    "ZACCESSIONNUMBER",
    "ZINSTITUTIONNAME",
)
_STUDY_MARKS = ("ZLOCKEDSTUDY", "ZCOMMENT", "ZCOMMENT2", "ZCOMMENT3", "ZCOMMENT4")
#: Numbers of entities differ between models.
_JOIN_TABLE = re.compile(r"Z_[0-9]+(STUDIES|ALBUMS)")
_JOINED_STUDY = re.compile(r"Z_[0-9]+STUDIES[0-9]*")
_SERIES_TEXTS = ("ZMODALITY", "ZID", "ZNAME")


@dataclass(frozen=True, slots=True)
class IndexedFile:
    """One file that the index names. `indexed` is None where its rows leave any doubt.

    Its SOP Instance UID is as the index has it, and need not be valid.
    """

    locator: str
    claim: Claim
    sop_instance_uid: str
    indexed: InstanceHeader | None


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
        connection.create_function("clean", 1, _clean, deterministic=True)
        connection.create_function("own_uid", 2, _own_uid, deterministic=True)
        connection.executescript(_TABLES)
        connection.execute("BEGIN")
        self._fill_studies(columns["ZSTUDY"])
        self._fill_series(columns["ZSERIES"])
        self._fill_files(columns["ZIMAGE"])
        connection.execute("COMMIT")
        connection.executescript(_INDEXES)
        connection.execute("PRAGMA query_only = ON")

    def studies(self) -> list[str]:
        """List the Study Instance UIDs as the index has them; empty for rows without.

        Several rows of one UID (other demographics) are one study. First come those that the
        viewer's auto-clean may delete, as it would: those that were added to least recently.
        """
        rows = self._connection.execute(
            "SELECT uid FROM listing.study WHERE uid <> '' OR EXISTS (SELECT 1 FROM"
            " listing.numbered WHERE study = 0) OR EXISTS (SELECT 1 FROM listing.named"
            " WHERE study = 0) ORDER BY number"
        )
        return [uid for (uid,) in rows]

    def marks(self) -> dict[str, StudyMarks]:
        """Return what the index says of its studies, by UID."""
        rows = self._connection.execute(
            "SELECT uid, spared, locked, in_album, at FROM listing.study WHERE uid <> ''"
            " ORDER BY number"
        ).fetchall()
        threatened = sum(not spared for _uid, spared, *_others in rows)
        return {
            # What is spared comes last.
            uid: StudyMarks(
                bool(locked),
                bool(in_album),
                None if spared else rank,
                threatened,
                _moment(at),
            )
            for rank, (uid, spared, locked, in_album, at) in enumerate(rows)
        }

    def files(self, study: str) -> Iterator[IndexedFile]:
        """List the files of one study."""
        row = self._connection.execute(
            "SELECT * FROM listing.study WHERE uid = ?", (study,)
        ).fetchone()
        if row is None:
            return
        number = row[0]
        series = self._series(number) if is_valid_uid(study) else {}
        attributes = _study_attributes(row)
        for table, key in (("named", "locator"), ("numbered", "number")):
            for place, is_dicom, packed, series_row, instance in self._connection.execute(
                f"SELECT {key}, is_dicom, sop, series, instance FROM listing.{table}"  # noqa: S608
                f" WHERE study = ? ORDER BY {key}",
                (number,),
            ):
                sop = decode_uid(packed)
                header = None
                told = series.get(series_row)
                if told is not None and is_dicom and sop:
                    number_text = "" if instance is None else str(instance)
                    header = InstanceHeader(
                        "", sop, study, told[0], "", attributes, told[1], number_text, 0, 0
                    )
                yield IndexedFile(
                    place if isinstance(place, str) else numbered_file(place, self._folder_size),
                    Claim.DICOM if is_dicom else Claim.OTHER,
                    sop,
                    header,
                )

    def names_in(self, folder: str) -> set[str]:
        """List the locators in a folder (by its locator) that the index names."""
        found = {
            locator
            for (locator,) in self._connection.execute(
                "SELECT locator FROM listing.named WHERE locator >= ? AND locator < ?",
                (f"{folder}/", f"{folder}0"),
            )
        }
        for first, last in numbers_in(folder, self._folder_size):
            numbers = self._connection.execute(
                "SELECT number FROM listing.numbered WHERE number >= ? AND number <= ?",
                (first, last),
            )
            found.update(f"{folder}/{number}.dcm" for (number,) in numbers)
        return found

    def files_in_library(self) -> int:
        """Count the files that should lie in DATABASE.noindex."""
        row = self._connection.execute(
            "SELECT (SELECT COUNT(*) FROM listing.numbered)"
            " + (SELECT COUNT(*) FROM listing.named WHERE locator >= ? AND locator < ?)",
            (f"{DATABASE_FOLDER}/", f"{DATABASE_FOLDER}0"),
        ).fetchone()
        return int(row[0])

    def _series(self, study: int) -> dict[int, tuple[str, SeriesAttributes]]:
        """Say which series the rows of a study's series are, where that is certain."""
        return {
            pk: (uid, SeriesAttributes(_text(modality), _text(series_id), _text(name)))
            for pk, uid, modality, series_id, name in self._connection.execute(
                "SELECT pk, uid, modality, id, name FROM listing.series"
                " WHERE study = ? AND uid <> ''",
                (study,),
            )
        }

    def _fill_studies(self, columns: frozenset[str]) -> None:
        texts = ", ".join(name if name in columns else "NULL" for name in _STUDY_TEXTS)
        added = "ZDATEADDED" if "ZDATEADDED" in columns else "NULL"
        # What is locked, in an album, or has a comment is spared.
        marks = [name for name in _STUDY_MARKS if name in columns]
        spared = [f"CASE WHEN IFNULL({name}, '') IN ('', 0) THEN 0 ELSE 1 END" for name in marks]
        in_album = [
            f"Z_PK IN (SELECT {study} FROM main.{table})"  # noqa: S608  (names by _JOIN_TABLE)
            for table, study in self._albums()
        ]
        spared += in_album
        locked = "ZLOCKEDSTUDY <> 0" if "ZLOCKEDSTUDY" in columns else "0"
        made = "ZDATE" if "ZDATE" in columns else "NULL"
        self._connection.execute("INSERT INTO listing.study (number, uid) VALUES (0, '')")
        # Of rows with one UID the first one's texts.
        self._connection.execute(
            "INSERT INTO listing.study (uid, name, patient, sex, description, accession,"  # noqa: S608
            " institution, spared, locked, in_album, at) SELECT uid, name, patient, sex,"
            " description, accession, institution, spared, locked, in_album, at"
            " FROM (SELECT clean(CAST(ZSTUDYINSTANCEUID AS BLOB)) AS uid, MIN(Z_PK),"
            f" {_aliased(texts)}, MIN({' OR '.join(spared) or '0'}) AS spared,"
            f" MAX({locked}) AS locked, MAX({' OR '.join(in_album) or '0'}) AS in_album,"
            f" MAX({made}) AS at,"
            f" MIN({added}) AS added FROM main.ZSTUDY GROUP BY 1)"
            " WHERE uid <> '' ORDER BY spared, added, uid"
        )
        self._connection.execute(
            "INSERT INTO listing.study_row SELECT Z_PK, number FROM main.ZSTUDY"
            " JOIN listing.study ON uid = clean(CAST(ZSTUDYINSTANCEUID AS BLOB))"
        )

    def _albums(self) -> Iterator[tuple[str, str]]:
        """Find the table that joins albums and studies, and its column of studies."""
        tables = self._connection.execute(
            "SELECT name FROM main.sqlite_master WHERE type = 'table'"
        )
        for (table,) in tables.fetchall():
            if _JOIN_TABLE.fullmatch(str(table)):
                for column in self._connection.execute(f"PRAGMA main.table_info({table})"):
                    if _JOINED_STUDY.fullmatch(str(column[1])):
                        yield table, column[1]

    def _fill_series(self, columns: frozenset[str]) -> None:
        texts = ", ".join(f"se.{n}" if n in columns else "NULL" for n in _SERIES_TEXTS)
        dicom_uid, grouping = (
            f"se.{n}" if n in columns else "NULL" for n in ("ZSERIESDICOMUID", "ZSERIESINSTANCEUID")
        )
        self._connection.execute(
            "INSERT INTO listing.series (pk, study, uid, modality, id, name)"  # noqa: S608
            f" SELECT se.Z_PK, COALESCE(st.study, {_DETACHED}), own_uid("
            f" CAST({dicom_uid} AS BLOB), CAST({grouping} AS BLOB)), {texts}"
            " FROM main.ZSERIES se LEFT JOIN listing.study_row st ON st.pk = se.ZSTUDY"
        )

    def _fill_files(self, columns: frozenset[str]) -> None:
        names = {
            alias: f"im.{name}" if name in columns else "NULL" for alias, name in _WANTED.items()
        }
        number, path = names["number"], names["path"]
        is_numbered = f"WHERE (TYPEOF({number}) = 'integer' AND {number} >= 0)"
        rows = "FROM main.ZIMAGE im LEFT JOIN listing.series se ON im.ZSERIES = se.pk"
        # Rows are frames: N rows of a multi-frame file have one path.
        self._connection.execute(
            f"INSERT INTO listing.numbered SELECT {number}, {_FILE_COLUMNS.format(**names)} {rows}"
            f" {is_numbered} = 1 GROUP BY {number}"
        )
        others = self._connection.execute(
            f"SELECT {number}, {path}, {_FILE_COLUMNS.format(**names)} {rows}"
            f" {is_numbered} = 0"
            f" GROUP BY COALESCE(se.study, 0), {number}, {path},"
            f" CASE WHEN {path} IS NULL THEN {names['sop']} END"
            f" ORDER BY COALESCE(se.study, 0), {number}, {path}"
        )
        for row in others:
            self._add_named(row)

    def _add_named(self, row: tuple[object, ...]) -> None:
        number, text, *columns = row
        path = file_of_row(number, text, self._folder_size)
        if path:
            # The application also accepts an absolute path to a file of its own.
            locator = escape(path.removeprefix(f"{self._data}/"))
        elif sop := decode_uid(columns[2]):
            locator = f"{NO_FILE}{sop}"
        else:
            return
        place = number_of_file(locator, self._folder_size)
        table = "named" if place is None else "numbered"
        self._connection.execute(
            f"INSERT OR IGNORE INTO listing.{table} VALUES (?, ?, ?, ?, ?, ?)",  # noqa: S608
            (locator if place is None else place, *columns),
        )


def _moment(seconds: object) -> datetime | None:
    """Read a time of Core Data: seconds since 2001, UTC."""
    if not isinstance(seconds, int | float):
        return None
    try:
        return _CORE_DATA_EPOCH + timedelta(seconds=seconds)
    except (OverflowError, ValueError):
        return None


def _study_attributes(row: Sequence[object]) -> StudyAttributes:
    name, patient, sex, description, accession, institution = map(_text, row[2:8])
    return StudyAttributes(
        patient_name=name,
        patient_id=patient,
        patient_sex=sex,
        study_description=description,
        accession_number=accession,
        institution_name=institution,
    )


def _aliased(texts: str) -> str:
    names = ("name", "patient", "sex", "description", "accession", "institution")
    return ", ".join(
        f"{text} AS {name}" for text, name in zip(texts.split(", "), names, strict=True)
    )


def _columns(connection: sqlite3.Connection) -> dict[str, frozenset[str]]:
    """Look up the columns of each table; SourceIndexError for an index of another kind."""
    found: dict[str, frozenset[str]] = {}
    for table, needed in _NEEDED.items():
        rows = connection.execute(f"PRAGMA main.table_info({table})")
        found[table] = frozenset(row[1].upper() for row in rows)
        if not found[table].issuperset(needed):
            raise _foreign_layout()
    if found["ZIMAGE"].isdisjoint({"ZPATHNUMBER", "ZPATHSTRING"}):
        raise _foreign_layout()
    return found


def _foreign_layout() -> SourceIndexError:
    return SourceIndexError(
        "The library's index (Database.sql) is not of a layout that dcmvault knows.",
        hint="Open the library once with a current Horos or OsiriX, which converts it.",
    )


def _clean(raw: object) -> str:
    if not isinstance(raw, bytes):
        return ""
    return escape(raw.decode("utf-8", "surrogateescape").strip(" \0"))


def _own_uid(dicom_uid: object, grouping: object) -> str:
    """Return the Series Instance UID of all rows of a ZSERIES row; empty where that is in doubt.

    Rows are grouped by `"%08d <UID>"` and what splits a series further. Where the application
    merges series (localizers, projections), another name stands in the UID's place.
    """
    if not isinstance(dicom_uid, bytes) or not isinstance(grouping, bytes):
        return ""
    uid = dicom_uid.decode("ascii", "replace")
    named = grouping.decode("ascii", "replace").partition(" ")[2]
    rest = named.removeprefix(uid)
    is_own = named.startswith(uid) and not rest[:1].isdigit() and rest[:1] != "."
    return uid if is_own and is_valid_uid(uid) else ""


def _text(value: object) -> str:
    return str(value).strip() if isinstance(value, str | int) else ""
