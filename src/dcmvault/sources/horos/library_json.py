"""`library.json`: what the index alone knows, in a stable shape.

The shape is documented in docs/reference/library-sidecar.md. Rows are written as they are read,
one a line, so that memory is bounded by one row; SQLite sorts on disk. Columns are looked up,
because generations of the applications differ: what a column that is not there would say is left
out, as is everything that was never set.
"""

from __future__ import annotations

import base64
import json
import math
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TextIO

from dcmvault.sources.horos.sidecar_names import describe_report
from dcmvault.sources.horos.uid import decode_uid

FORMAT = "dcmvault library"
VERSION = 1

#: Core Data counts seconds from here.
_EPOCH = datetime(2001, 1, 1, tzinfo=UTC)
#: A longer text or blob is not repeated here: the copy of the index has it. Bytes.
_LONGEST_VALUE = 1 << 20
_JOIN_TABLE = re.compile(r"Z_\d+(STUDIES|ALBUMS)")
_ALBUM_COLUMN = re.compile(r"Z_\d+ALBUMS\d*")
_STUDY_COLUMN = re.compile(r"Z_\d+STUDIES\d*")

#: Reads a column's value; None when it says nothing.
_Reader = Callable[[object], object]


def _text(value: object) -> object:
    """Give a text as it is, and what is no text (a keyed archive, say) as base64."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return _text(value.encode("utf-8", "surrogateescape"))
        return value or None
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()} if value else None
    return None if value is None else str(value)


def _as_it_is(value: object) -> object:
    return value or None


def _uid(value: object) -> object:
    return _text(value.strip(" \0") if isinstance(value, str) else value) or ""


def _flag(value: object) -> object:
    return True if isinstance(value, int) and value else None


def _number(value: object) -> object:
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return None


def _nonzero(value: object) -> object:
    return _number(value) or None


def _moment(value: object) -> object:
    """Turn a TIMESTAMP into UTC, ISO 8601 with microseconds."""
    seconds = _number(value)
    if not isinstance(seconds, int | float):
        return None
    try:
        moment = _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        return None
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ") if moment.year >= 1000 else None


#: Readers of texts, which are unset when empty; numbers are when 0.
_TEXTS = (_text, _as_it_is)


@dataclass(frozen=True, slots=True)
class _Member:
    """A member of an object: its name, the column it is read from, and how.

    `tells` says that the object is worth a line for this member alone.
    """

    name: str
    column: str
    read: _Reader
    tells: bool = True


_COMMENTS = tuple(
    _Member(name, f"Z{name.upper()}", _text)
    for name in ("comment", "comment2", "comment3", "comment4")
)
#: Zero is what the applications start with, but a level of 0 with a width is a setting.
_PRESENTATION = (
    _Member("window_level", "ZWINDOWLEVEL", _number, tells=False),
    _Member("window_width", "ZWINDOWWIDTH", _nonzero),
    _Member("scale", "ZSCALE", _nonzero),
    _Member("rotation_angle", "ZROTATIONANGLE", _nonzero),
    _Member("x_offset", "ZXOFFSET", _nonzero),
    _Member("y_offset", "ZYOFFSET", _nonzero),
    _Member("x_flipped", "ZXFLIPPED", _flag),
    _Member("y_flipped", "ZYFLIPPED", _flag),
)
_ALBUM = (
    _Member("name", "ZNAME", _text),
    _Member("smart", "ZSMARTALBUM", _flag),
    _Member("predicate", "ZPREDICATESTRING", _text),
    _Member("position", "ZINDEX", _number),
)
_STUDY = (
    *_COMMENTS,
    _Member("state", "ZSTATETEXT", _nonzero),
    _Member("locked", "ZLOCKEDSTUDY", _flag),
    _Member("report", "ZREPORTURL", _as_it_is),
    _Member("dictation", "ZDICTATEURL", _text),
    _Member("date_added", "ZDATEADDED", _moment),
    _Member("date_opened", "ZDATEOPENED", _moment),
    _Member("windows_state", "ZWINDOWSSTATE", _text),
)
_SERIES = (
    *_COMMENTS,
    _Member("state", "ZSTATETEXT", _nonzero),
    _Member("key_series", "ZKEYSERIES", _flag),
    _Member("date_opened", "ZDATEOPENED", _moment),
    *_PRESENTATION,
    _Member("display_style", "ZDISPLAYSTYLE", _nonzero),
)
_INSTANCE = (
    _Member("key_image", "ZSTOREDISKEYIMAGE", _flag),
    *_COMMENTS,
    _Member("state", "ZSTATETEXT", _text),
    *_PRESENTATION,
    _Member("zoom", "ZZOOM", _nonzero),
)


def write_library_json(
    connection: sqlite3.Connection, out: TextIO, *, base: str, data: str
) -> None:
    """Write what a copy of the index says.

    `base` and `data` are the library's folders, to tell its own report files from others.
    The same index gives the same text. Raises sqlite3.DatabaseError when the copy is damaged.
    """
    description = _Description(connection, base, data)
    out.write(f'{{"format": {json.dumps(FORMAT)}, "version": {VERSION},\n')
    out.write(f' "library_uuid": {_dump(description.library_uuid())},\n "albums": [')
    _write_albums(description, out)
    for name, rows in (
        ("studies", description.studies()),
        ("series", description.series()),
        ("instances", description.instances()),
    ):
        out.write(f'\n ],\n "{name}": [')
        _write_lines(map(_dump, rows), out)
    out.write(f'\n ],\n "values_left_out": {description.left_out}}}\n')


def _write_lines(lines: Iterable[str], out: TextIO) -> None:
    for number, line in enumerate(lines):
        out.write(",\n  " if number else "\n  ")
        out.write(line)


def _write_albums(description: _Description, out: TextIO) -> None:
    """Write the albums; an album may hold any number of studies, so these are streamed too."""
    for number, (key, album) in enumerate(description.albums()):
        out.write(",\n  " if number else "\n  ")
        out.write(_dump(album).removesuffix("}"))
        out.write(', "studies": [' if album else '"studies": [')
        for place, member in enumerate(description.members(key)):
            out.write(",\n    " if place else "\n    ")
            out.write(_dump(member))
        out.write("]}")


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


class _Tables:
    """Makes SQL for an index of whatever generation: columns that are not there are NULL."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._columns = {
            table: self._columns_of(table)
            for table in ("ZALBUM", "ZSTUDY", "ZSERIES", "ZIMAGE", "Z_METADATA")
        }

    def have(self, table: str, *columns: str) -> bool:
        """Say whether a table has all of these columns."""
        return self._columns[table].issuperset(columns)

    def join_of_albums(self) -> tuple[str, str, str] | None:
        """Find the table of albums and studies and its columns; the names' numbers differ."""
        for (table,) in self._connection.execute(
            "SELECT name FROM main.sqlite_master WHERE type = 'table' ORDER BY name"
        ):
            if not isinstance(table, str) or not _JOIN_TABLE.fullmatch(table.upper()):
                continue
            columns = sorted(self._columns_of(table))
            albums = [name for name in columns if _ALBUM_COLUMN.fullmatch(name)]
            studies = [name for name in columns if _STUDY_COLUMN.fullmatch(name)]
            if albums and studies:
                return table, albums[0], studies[0]
        return None

    def column(self, table: str, alias: str, column: str) -> str:
        """Name a column; a value too long to be repeated is NULL."""
        if not self.have(table, column):
            return "NULL"
        name = f"{alias}.{column}"
        return f"CASE WHEN length(CAST({name} AS BLOB)) <= {_LONGEST_VALUE} THEN {name} END"

    def select(self, table: str, alias: str, members: Sequence[_Member]) -> str:
        """Name the members' columns, and last how many values are too long."""
        names = [self.column(table, alias, member.column) for member in members]
        long = [
            f"(coalesce(length(CAST({alias}.{member.column} AS BLOB)), 0) > {_LONGEST_VALUE})"
            for member in members
            if self.have(table, member.column)
        ]
        return ", ".join([*names, " + ".join(long) or "0"])

    def tells(self, table: str, alias: str, members: Sequence[_Member]) -> str:
        """Select the rows in which some column is set."""
        conditions = [
            # A text "0" is a text; NULL is not unequal to anything.
            f"{alias}.{member.column} <> " + ("''" if member.read in _TEXTS else "0")
            for member in members
            if member.tells and self.have(table, member.column)
        ]
        return " OR ".join(conditions) or "0"

    def of_study(self) -> str:
        """Name the two columns that name a study."""
        uid = self.column("ZSTUDY", "st", "ZSTUDYINSTANCEUID")
        return f"{uid}, {self.column('ZSTUDY', 'st', 'ZPATIENTUID')}"

    def of_series(self) -> str:
        """Name the four columns that name a series and its study."""
        study = self.of_study() if self.have("ZSTUDY", "Z_PK") else "NULL, NULL"
        uid = self.column("ZSERIES", "se", "ZSERIESDICOMUID")
        return f"{study}, {uid}, {self.column('ZSERIES', 'se', 'ZSERIESINSTANCEUID')}"

    def join_study(self) -> str:
        """Join the study of a series, if there can be one."""
        if not self.have("ZSTUDY", "Z_PK"):
            return ""
        return " LEFT JOIN main.ZSTUDY st ON st.Z_PK = se.ZSTUDY"

    def _columns_of(self, table: str) -> frozenset[str]:
        rows = self._connection.execute(f"PRAGMA main.table_info({table})")
        return frozenset(row[1].upper() for row in rows)


class _Description:
    """Reads what is set, entity by entity."""

    def __init__(self, connection: sqlite3.Connection, base: str, data: str) -> None:
        self._connection = connection
        self._base = base
        self._data = data
        self._tables = _Tables(connection)
        self._has_studies = self._tables.have("ZSTUDY", "Z_PK", "ZSTUDYINSTANCEUID")
        self._join = self._tables.join_of_albums() if self._has_studies else None
        #: Values that were too long.
        self.left_out = 0

    def library_uuid(self) -> object:
        """Return the identity of the library; empty when the index has none."""
        if not self._tables.have("Z_METADATA", "Z_UUID"):
            return ""
        rows = self._connection.execute("SELECT Z_UUID FROM main.Z_METADATA ORDER BY 1 LIMIT 1")
        row = rows.fetchone()
        return (_text(row[0]) if row else None) or ""

    def albums(self) -> Iterator[tuple[object, dict[str, object]]]:
        """Read the albums, each with its key in the index."""
        tables = self._tables
        if not tables.have("ZALBUM", "Z_PK"):
            return
        for key, *values in self._connection.execute(
            f"SELECT al.Z_PK, {tables.select('ZALBUM', 'al', _ALBUM)} FROM main.ZALBUM al"  # noqa: S608
            f" ORDER BY {tables.column('ZALBUM', 'al', 'ZNAME')}, al.Z_PK"
        ):
            yield key, self._object(_ALBUM, values)

    def members(self, album: object) -> Iterator[dict[str, object]]:
        """Read the studies in an album."""
        if self._join is None:
            return
        table, albums, studies = self._join
        for row in self._connection.execute(
            f"SELECT {self._tables.of_study()} FROM main.{table} j JOIN main.ZSTUDY st"  # noqa: S608
            f" ON st.Z_PK = j.{studies} WHERE j.{albums} = ? ORDER BY 1, 2, st.Z_PK",
            (album,),
        ):
            yield _study_names(*row)

    def studies(self) -> Iterator[dict[str, object]]:
        """Read the studies of which the index knows something that their files do not."""
        if not self._has_studies:
            return
        tables = self._tables
        for uid, patient, *values in self._connection.execute(
            f"SELECT {tables.of_study()}, {tables.select('ZSTUDY', 'st', _STUDY)}"  # noqa: S608
            f" FROM main.ZSTUDY st WHERE {tables.tells('ZSTUDY', 'st', _STUDY)}"
            " ORDER BY 1, 2, st.Z_PK"
        ):
            found = self._object(_STUDY, values)
            if "report" in found:
                found["report"] = self._report(found["report"])
            if found:
                yield _study_names(uid, patient) | found

    def series(self) -> Iterator[dict[str, object]]:
        """Read the viewer's series (one DICOM series may be several, and the other way round)."""
        tables = self._tables
        if not tables.have("ZSERIES", "Z_PK", "ZSTUDY"):
            return
        for uid, patient, series, group, *values in self._connection.execute(
            f"SELECT {tables.of_series()}, {tables.select('ZSERIES', 'se', _SERIES)}"  # noqa: S608
            f" FROM main.ZSERIES se{tables.join_study()}"
            f" WHERE {tables.tells('ZSERIES', 'se', _SERIES)} ORDER BY 1, 2, 3, 4, se.Z_PK"
        ):
            if found := self._object(_SERIES, values):
                yield _study_names(uid, patient) | _series_names(series, group) | found

    def instances(self) -> Iterator[dict[str, object]]:
        """Read the instances; of one with several frames each frame that something is said of."""
        tables = self._tables
        if not tables.have("ZIMAGE", "Z_PK", "ZSERIES"):
            return
        series, joined = "NULL, NULL, NULL, NULL", ""
        if tables.have("ZSERIES", "Z_PK", "ZSTUDY"):
            series = tables.of_series()
            joined = f" LEFT JOIN main.ZSERIES se ON se.Z_PK = im.ZSERIES{tables.join_study()}"
        own = ", ".join(
            tables.column("ZIMAGE", "im", column)
            for column in ("ZCOMPRESSEDSOPINSTANCEUID", "ZFRAMEID")
        )
        for (
            uid,
            patient,
            series_uid,
            _group,
            packed,
            frame,
            *values,
        ) in self._connection.execute(
            f"SELECT {series}, {own}, {tables.select('ZIMAGE', 'im', _INSTANCE)}"  # noqa: S608
            f" FROM main.ZIMAGE im{joined} WHERE {tables.tells('ZIMAGE', 'im', _INSTANCE)}"
            " ORDER BY 1, 2, 3, 4, 5, 6, im.Z_PK"
        ):
            if not (found := self._object(_INSTANCE, values)):
                continue
            names = _study_names(uid, patient) | {"series_instance_uid": _uid(series_uid)}
            names["sop_instance_uid"] = decode_uid(packed)
            if (number := _nonzero(frame)) is not None:
                names["frame"] = number
            yield names | found

    def _object(self, members: Sequence[_Member], values: Sequence[object]) -> dict[str, object]:
        *values, long = values
        self.left_out += long if isinstance(long, int) else 0
        read = (
            (member.name, member.read(value)) for member, value in zip(members, values, strict=True)
        )
        found = {name: value for name, value in read if value is not None}
        if "window_width" not in found:
            found.pop("window_level", None)
        return found

    def _report(self, location: object) -> dict[str, object]:
        kind, name = describe_report(location, self._base, self._data)
        report = {"kind": kind.value, "location": _text(location)}
        return report | ({"name": name} if name else {})


def _study_names(uid: object, patient: object) -> dict[str, object]:
    """Name a study: several rows of one UID differ in their patient."""
    names = {"study_instance_uid": _uid(uid)}
    if (patient_uid := _text(patient)) is not None:
        names["patient_uid"] = patient_uid
    return names


def _series_names(series: object, group: object) -> dict[str, object]:
    names = {"series_instance_uid": _uid(series)}
    if (key := _text(group)) is not None:
        names["viewer_series"] = key
    return names
