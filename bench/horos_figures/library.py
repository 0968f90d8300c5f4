"""A library of as many rows as wanted, made fast: what planning looks at, and no more."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from dcmvault.testing.dicom_files import make_instance
from dcmvault.testing.horos_schema import create_index, pack_uid

IMAGES_PER_SERIES = 100
SERIES_PER_STUDY = 3
_FOLDER_SIZE = 10_000
#: File systems allow 65,000 names of one file, or fewer.
_NAMES_PER_FILE = 30_000
_ROOT = "1.2.826.0.1.3680043.8.498.77"


def make_library(base: Path, rows: int) -> None:
    """Make a library with `rows` images in `base`, each with a file: names of a few tiny ones."""
    database = base / "DATABASE.noindex"
    database.mkdir(parents=True)
    (base / "DB_VERSION").write_text("2.5")
    with closing(sqlite3.connect(base / "Database.sql", isolation_level=None)) as connection:
        create_index(connection, "0A0B0C0D-0000-4000-8000-000000000001")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN")
        _add_studies(connection, rows)
        connection.executemany(
            "INSERT INTO ZIMAGE (Z_PK, Z_ENT, Z_OPT, ZSERIES, ZPATHNUMBER, ZFRAMEID,"
            " ZINSTANCENUMBER, ZDATE, ZCOMPRESSEDSOPINSTANCEUID)"
            " VALUES (?, 2, 1, ?, ?, 0, ?, 0, ?)",
            _images(rows),
        )
        connection.execute("COMMIT")
    for number in range(1, rows + 1):
        if (number - 1) % _NAMES_PER_FILE == 0:
            tiny = base / f"tiny-{number}"
            make_instance(tiny, f"{_ROOT}.1", f"{_ROOT}.2", f"{_ROOT}.3.{number}")
        folder = database / str((number // _FOLDER_SIZE + 1) * _FOLDER_SIZE)
        if number == 1 or number % _FOLDER_SIZE == 0:
            folder.mkdir(exist_ok=True)
        os.link(tiny, f"{folder}/{number}.dcm")


def _add_studies(connection: sqlite3.Connection, rows: int) -> None:
    series = -(-rows // IMAGES_PER_SERIES)
    studies = -(-series // SERIES_PER_STUDY)
    connection.executemany(
        "INSERT INTO ZSTUDY (Z_PK, Z_ENT, Z_OPT, ZHASDICOM, ZMODALITY, ZNAME, ZPATIENTID,"
        " ZPATIENTSEX, ZSTUDYNAME, ZSTUDYINSTANCEUID)"
        " VALUES (?, 5, 1, 1, 'CT', ?, ?, 'O', 'Synthetic study', ?)",
        ((n, f"Doe {n}", f"P{n}", _study_uid(n)) for n in range(1, studies + 1)),
    )
    connection.executemany(
        "INSERT INTO ZSERIES (Z_PK, Z_ENT, Z_OPT, ZSTUDY, ZID, ZMODALITY, ZNAME, ZSERIESDICOMUID,"
        " ZSERIESINSTANCEUID) VALUES (?, 4, 1, ?, ?, 'CT', 'Synthetic series', ?, ?)",
        (
            (n, (n - 1) // SERIES_PER_STUDY + 1, n % SERIES_PER_STUDY + 1, uid, f"{1:08d} {uid}")
            for n in range(1, series + 1)
            for uid in (f"{_study_uid((n - 1) // SERIES_PER_STUDY + 1)}.{n}",)
        ),
    )


def _images(rows: int) -> Iterator[tuple[int, int, int, int, bytes]]:
    for number in range(1, rows + 1):
        series = (number - 1) // IMAGES_PER_SERIES + 1
        uid = f"{_ROOT}.9.{series}.{number}"
        yield number, series, number, (number - 1) % IMAGES_PER_SERIES + 1, pack_uid(uid)


def _study_uid(number: int) -> str:
    return f"{_ROOT}.5.{number}"
