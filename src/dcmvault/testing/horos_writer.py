"""The viewer importing study after study: a process that changes an index until it is stopped.

Every transaction adds one study of two images and takes one away, so that each state of the index
at rest has as many of them. It says how often the index was locked against it.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from dcmvault.testing.dicom_files import make_uid
from dcmvault.testing.horos_schema import insert_row, pack_uid

#: Files are numbered from here; none of them exists.
FIRST_NUMBER = 700
#: Studies that are there at any time.
STUDIES = 3
IMAGES = 2
#: Seconds between two transactions: a viewer is not always writing.
_PAUSE_S = 0.05
_REMOVALS = (
    "DELETE FROM ZIMAGE WHERE ZSERIES IN (SELECT se.Z_PK FROM ZSERIES se"
    " JOIN ZSTUDY st ON st.Z_PK = se.ZSTUDY WHERE st.ZSTUDYINSTANCEUID = ?)",
    "DELETE FROM ZSERIES WHERE ZSTUDY IN (SELECT Z_PK FROM ZSTUDY WHERE ZSTUDYINSTANCEUID = ?)",
    "DELETE FROM ZSTUDY WHERE ZSTUDYINSTANCEUID = ?",
)


@dataclass(slots=True)
class WriterReport:
    """What the process said at its end."""

    transactions: int = 0
    locked: int = 0


@contextmanager
def writing(base: Path) -> Iterator[WriterReport]:
    """Have a process write into the index of the library in `base`; its report comes at the end."""
    report = WriterReport()
    command = [sys.executable, "-m", __name__, str(base)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        try:
            yield report
        finally:
            process.stdin.close()
            report.transactions, report.locked = map(int, process.stdout.readline().split())


def study_uid(number: int) -> str:
    """Return the UID of the study with this number."""
    return make_uid("writer", number)


def _add(connection: sqlite3.Connection, number: int) -> None:
    uid = study_uid(number)
    study = insert_row(connection, "Study", studyInstanceUID=uid, hasDICOM=1)
    series_uid = make_uid(uid, "series")
    series = insert_row(
        connection,
        "Series",
        study=study,
        seriesDICOMUID=series_uid,
        seriesInstanceUID=f"{1:08d} {series_uid}",
    )
    for image in range(IMAGES):
        insert_row(
            connection,
            "Image",
            series=series,
            pathNumber=FIRST_NUMBER + IMAGES * number + image,
            comment="x" * 2000,
            compressedSopInstanceUID=pack_uid(make_uid(uid, image)),
        )


def _remove(connection: sqlite3.Connection, number: int) -> None:
    uid = study_uid(number)
    for statement in _REMOVALS:
        connection.execute(statement, (uid,))


def _main(base: str) -> None:
    stopping = threading.Event()

    def wait_for_end() -> None:
        sys.stdin.read()
        stopping.set()

    threading.Thread(target=wait_for_end, daemon=True).start()
    transactions = locked = 0
    # Without a time-out: any lock of another process is noticed at once.
    with closing(
        sqlite3.connect(Path(base, "Database.sql"), isolation_level=None, timeout=0)
    ) as connection:
        connection.execute("PRAGMA cache_size = 2")
        connection.execute("PRAGMA wal_autocheckpoint = 20")
        number = 0
        while not stopping.wait(_PAUSE_S if transactions else 0):
            try:
                connection.execute("BEGIN EXCLUSIVE")
                if not number:
                    for first in range(STUDIES):
                        _add(connection, first)
                _add(connection, number + STUDIES)
                _remove(connection, number)
                connection.execute("COMMIT")
            except sqlite3.OperationalError:
                locked += 1
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                continue
            number += 1
            transactions += 1
            if transactions == 1:
                _say("writing")
    _say(f"{transactions} {locked}")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _main(*sys.argv[1:])
