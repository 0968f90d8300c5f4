"""The viewer at work: another process that has the index of a library open and is writing it."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from dcmvault.testing.horos_library import LibraryFacts, add_study_rows
from dcmvault.testing.horos_schema import create_index

_READY = "ready\n"


@contextmanager
def open_transaction(facts: LibraryFacts) -> Iterator[None]:
    """Hold a transaction that deletes every study and is not committed.

    Its pages have already been written into Database.sql, so that only the (hot) rollback
    journal tells what is true.
    """
    with _running("transaction", facts.base):
        yield


@contextmanager
def uncheckpointed_study(facts: LibraryFacts, key: str) -> Iterator[None]:
    """Keep a committed study in Database.sql-wal only, in a library of journal mode `wal`.

    `facts` is brought up to date.
    """
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as scratch:
        create_index(scratch, "")
        add_study_rows(scratch, facts, key)
    with _running("log", facts.base, key):
        yield


@contextmanager
def _running(*arguments: str | Path) -> Iterator[None]:
    # A process of its own: closing any descriptor of a file drops all locks that the same
    # process has on it (POSIX), so a writer in this one would lose what it is here to hold.
    command = [sys.executable, "-m", __name__, *map(str, arguments)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        if process.stdout.readline() != _READY:
            message = "the writing process did not start"
            raise RuntimeError(message)
        yield


def _write(connection: sqlite3.Connection, kind: str, base: Path, key: str) -> None:
    connection.execute("BEGIN IMMEDIATE")
    if kind == "log":
        add_study_rows(connection, LibraryFacts(base, base), key)
        connection.execute("COMMIT")
        return
    connection.execute("DELETE FROM ZSTUDY")
    connection.execute("UPDATE ZIMAGE SET ZCOMMENT = hex(randomblob(4000))")


def _main(kind: str, base: str, key: str = "") -> None:
    with closing(sqlite3.connect(Path(base, "Database.sql"), isolation_level=None)) as connection:
        # One page of memory makes SQLite write pages before the commit.
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        _write(connection, kind, Path(base), key)
        sys.stdout.write(_READY)
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    _main(*sys.argv[1:])
