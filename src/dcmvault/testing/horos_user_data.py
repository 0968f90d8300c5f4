"""What people add to a library: albums, comments, states, key images, reports, regions, presets."""

from __future__ import annotations

import plistlib
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from dcmvault.testing.dicom_files import make_instance, make_uid
from dcmvault.testing.horos_library import LibraryFacts
from dcmvault.testing.horos_schema import insert_row, timestamp

_OPENED = datetime(2020, 2, 3, 9, 30, 15, tzinfo=UTC)
#: Columns that version 2.5 of the model brought, and some forks have not.
_SINCE_2_5 = {
    "ZSTUDY": ("ZCOMMENT2", "ZCOMMENT3", "ZCOMMENT4"),
    "ZSERIES": ("ZCOMMENT2", "ZCOMMENT3", "ZCOMMENT4", "ZKEYSERIES"),
    "ZIMAGE": ("ZCOMMENT2", "ZCOMMENT3", "ZCOMMENT4", "ZGENERATEDBYOSIRIX"),
}


@dataclass(frozen=True, slots=True)
class UserData:
    """What was added, by name in the sidecar where it is a file."""

    ct_study: str
    us_study: str
    ct_series: str
    #: SOP Instance UID of the first CT instance (a key image), and of the cine.
    key_instance: str
    cine: str
    files: dict[str, bytes] = field(default_factory=dict)


def smart_predicate() -> bytes:
    """Make a predicate as an archived object: a binary property list, and no text."""
    archive = {
        "$archiver": "NSKeyedArchiver",
        "$objects": ["$null", {"NSPredicateOperator": plistlib.UID(2)}, b"\xff\x00"],
        "$top": {"root": plistlib.UID(1)},
        "$version": 100_000,
    }
    return plistlib.dumps(archive, fmt=plistlib.FMT_BINARY)


def add_user_data(facts: LibraryFacts) -> UserData:
    """Add all kinds of user data to a library of `build_library`, in its index and folders."""
    ct, us = make_uid("library", "ct"), make_uid("library", "us")
    instances = {x.locator: x.sop_instance_uid for x in facts.files.values()}
    added = UserData(
        ct,
        us,
        make_uid(ct, "series", 1),
        instances["DATABASE.noindex/10000/1.dcm"],
        instances["DATABASE.noindex/10000/100.dcm"],
    )
    linked = facts.base.parent.resolve() / f"{facts.base.name} dictated.rtf"
    linked.write_bytes(b"{\\rtf1 dictated elsewhere}")
    with closing(sqlite3.connect(facts.base / "Database.sql")) as connection, connection:
        _annotate(connection, added, linked)
        _add_albums(connection, added)
    _add_files(facts, added)
    return added


def to_model_2_4(facts: LibraryFacts) -> None:
    """Take the index back to version 2.4 of the model, with other entity numbers."""
    (facts.base / "DB_VERSION").write_text("2.4")
    with closing(sqlite3.connect(facts.base / "Database.sql")) as connection, connection:
        for table, columns in _SINCE_2_5.items():
            for column in columns:
                connection.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        connection.execute("ALTER TABLE Z_1STUDIES RENAME TO Z_3STUDIES")
        connection.execute("ALTER TABLE Z_3STUDIES RENAME COLUMN Z_1ALBUMS TO Z_3ALBUMS")
        connection.execute("ALTER TABLE Z_3STUDIES RENAME COLUMN Z_5STUDIES TO Z_7STUDIES1")


def _annotate(connection: sqlite3.Connection, added: UserData, linked: Path) -> None:
    ct, us, photograph = (
        _key(connection, "SELECT Z_PK FROM ZSTUDY WHERE ZSTUDYINSTANCEUID = ?", uid)
        for uid in (added.ct_study, added.us_study, "photograph")
    )
    _set(
        connection,
        "Study",
        ct,
        comment="Seen; “compare”",
        comment2="second",
        comment3="0",
        stateText=4,
        lockedStudy=1,
        reportURL="REPORTS/DOE JANE.pages",
        dateOpened=timestamp(_OPENED),
        windowsState=b"\x00\xffstate",
    )
    _set(connection, "Study", us, reportURL=str(linked), dictateURL="dictation.m4a")
    _set(connection, "Study", photograph, reportURL="https://ris.example/report?id=1")
    _set(
        connection,
        "Series",
        _key(connection, "SELECT Z_PK FROM ZSERIES WHERE ZSTUDY = ?", ct),
        comment="late phase",
        comment4="fourth",
        stateText=2,
        windowLevel=0,
        windowWidth=1500.5,
        keySeries=1,
        xFlipped=0,
    )
    first = _key(connection, "SELECT Z_PK FROM ZIMAGE WHERE ZPATHNUMBER = ?", 1)
    _set(
        connection,
        "Image",
        first,
        storedIsKeyImage=1,
        comment="lesion",
        zoom=2.5,
        windowWidth=0,
        windowLevel=0,
        xOffset=0.0,
    )
    for frame in (0, 3):
        query = "SELECT Z_PK FROM ZIMAGE WHERE ZPATHNUMBER = 100 AND ZFRAMEID = ?"
        _set(connection, "Image", _key(connection, query, frame), storedIsKeyImage=1)


def _key(connection: sqlite3.Connection, query: str, value: object) -> int:
    return int(connection.execute(query, (value,)).fetchone()[0])


def _set(connection: sqlite3.Connection, entity: str, key: int, **columns: object) -> None:
    """Save an object as Core Data does, which counts its saves."""
    values = ", ".join(f"Z{name.upper()} = ?" for name in columns)
    connection.execute(
        f"UPDATE Z{entity.upper()} SET Z_OPT = Z_OPT + 1, {values} WHERE Z_PK = ?",  # noqa: S608
        (*columns.values(), key),
    )


def _add_albums(connection: sqlite3.Connection, added: UserData) -> None:
    albums: dict[str, dict[str, object]] = {
        "Teaching": {"index": 1},
        "Just opened": {
            "smartAlbum": 1,
            "predicateString": '(dateOpened >= CAST($NSDATE_TODAY, "NSDate"))',
        },
        "Archived predicate": {"smartAlbum": 1, "predicateString": smart_predicate()},
        "Empty": {"smartAlbum": 0},
    }
    keys = {
        name: insert_row(connection, "Album", name=name, **columns)
        for name, columns in albums.items()
    }
    for uid in (added.us_study, added.ct_study, make_uid("library", "shared")):
        connection.execute(
            "INSERT INTO Z_1STUDIES SELECT ?, Z_PK FROM ZSTUDY WHERE ZSTUDYINSTANCEUID = ?",
            (keys["Teaching"], uid),
        )


def _add_files(facts: LibraryFacts, added: UserData) -> None:
    bundle = "REPORTS/DOE JANE.pages"
    contents = {
        f"{bundle}/Index.zip": ("reports/DOE JANE.pages/Index.zip", b"PK pages"),
        f"{bundle}/Data/1.jpg": ("reports/DOE JANE.pages/Data/1.jpg", b"\xff\xd8"),
        "REPORTS/not linked?.odt": ("reports/not linked%3F.odt", b"PK odt"),
        "CLUTs/Hot.plist": ("library/CLUTs/Hot.plist", b"<plist/>"),
        "3DSTATE/VR3DScissor-1.2.3 1": ("library/3DSTATE/VR3DScissor-1.2.3 1", b"scissor"),
        "3DPRESETS/Bones/p.plist": ("library/3DPRESETS/Bones/p.plist", b"<plist/>"),
        "PAGES/Basic.template": ("library/PAGES/Basic.template", b"template"),
        "HTML_TEMPLATES/patient.html": ("library/HTML_TEMPLATES/patient.html", b"<html>"),
        "AlbumSortDescriptors.plist": ("library/AlbumSortDescriptors.plist", b"<plist/>"),
    }
    for place, (name, content) in contents.items():
        path = facts.data / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        added.files[name] = content
    momd = facts.base / "Database.momd"
    momd.mkdir()
    (momd / "VersionInfo.plist").write_bytes(b"bplist00")
    added.files["library/Database.momd/VersionInfo.plist"] = b"bplist00"
    (facts.base / "ReportTemplate.rtf").write_bytes(b"{\\rtf1}")
    added.files["library/ReportTemplate.rtf"] = b"{\\rtf1}"
    # Named by the instance, its number and the frame, as older versions did.
    region = f"{added.key_instance} 1-0.dcm"
    made = make_instance(
        facts.data / "ROIs" / region,
        added.ct_study,
        make_uid(added.ct_study, "regions"),
        make_uid(added.ct_study, "region"),
        modality="SR",
    )
    added.files[f"rois/{region}"] = made.path.read_bytes()
