"""A private, consistent copy of `Database.sql`: the live index is never opened or locked."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import tempfile
import time
from dataclasses import dataclass

from dcmvault.errors import SourceIndexError, SourceUnavailableError

_log = logging.getLogger(__name__)

INDEX_FILE = "Database.sql"
#: A rollback journal or a write-ahead log belongs to the database's state. The `-shm` file does
#: not: SQLite builds it anew from the log, and a copy taken at another moment would mislead it.
INDEX_PARTS = (INDEX_FILE, f"{INDEX_FILE}-journal", f"{INDEX_FILE}-wal")

#: Copies tried until one was taken while nothing changed.
_ATTEMPTS = 8
#: Seconds before the second copy; each further wait is twice the one before.
_FIRST_WAIT_S = 0.05
#: A file written less than this long ago (seconds) may be written again under the same mtime.
_CLOCK_GRAIN_S = 0.02
#: The largest value that is read: states of windows and thumbnails are far smaller.
_MAX_VALUE_BYTES = 32 << 20
#: The file change counter lies in bytes 24 to 27 of the header (SQLite file format, 1.3.7).
_HEADER_BYTES = 100


@dataclass(frozen=True, slots=True)
class _State:
    """What changes when the application writes: size, mtime and inode by part, and the header."""

    parts: tuple[tuple[int, int, int] | None, ...]
    header: bytes


def copy_index(base: str) -> tuple[sqlite3.Connection, str]:
    """Copy the index with its journals into a new private folder (0700) and open the copy.

    Answers the connection and the folder; the caller closes the one and removes the other.
    SQLite rolls the copy back, or recovers it from its log, as after a power cut: what was
    committed is there, what was not is not. Raises SourceIndexError when the index is missing or
    corrupt, SourceUnavailableError when it cannot be read or is never at rest.
    """
    folder = tempfile.mkdtemp(prefix="dcmvault-index-")
    try:
        return _open_stable_copy(base, folder), folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _open_stable_copy(base: str, folder: str) -> sqlite3.Connection:
    wait_s = _FIRST_WAIT_S
    damage = False
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(wait_s)
            wait_s *= 2
        if not _copy_at_rest(base, folder):
            damage = False
            continue
        connection = _open_copy(os.path.join(folder, INDEX_FILE))  # noqa: PTH118
        if connection is not None:
            return connection
        if damage:
            break
        # A write that the state did not show may have torn the copy: take one more.
        damage = True
    if damage:
        raise SourceIndexError(
            "The library's index (Database.sql) is corrupt.",
            hint="Let the viewer rebuild its database, or back up DATABASE.noindex as a folder.",
        )
    raise SourceUnavailableError(
        "The library's index (Database.sql) is being written all the time.",
        hint="Wait until the viewer has finished importing, then run again.",
    )


def _copy_at_rest(base: str, folder: str) -> bool:
    """Copy all parts; say whether nothing changed meanwhile."""
    try:
        before = _state(base)
        if _is_fresh(before):
            time.sleep(_CLOCK_GRAIN_S)
            if _state(base) != before:
                return False
        for part in INDEX_PARTS:
            target = os.path.join(folder, part)  # noqa: PTH118
            try:
                shutil.copyfile(os.path.join(base, part), target)  # noqa: PTH118
            except FileNotFoundError:
                if part == INDEX_FILE:
                    raise
                _remove(target)
        _remove(os.path.join(folder, f"{INDEX_FILE}-shm"))  # noqa: PTH118
        return _state(base) == before
    except FileNotFoundError:
        raise SourceIndexError(
            "The library has no index (Database.sql).",
            hint="Name the folder that contains Database.sql, and check that it is mounted.",
        ) from None
    except OSError as error:
        raise SourceUnavailableError(
            f"The library's index (Database.sql) cannot be copied: {error.strerror}.",
            hint="Check permissions (on macOS: Full Disk Access) and space for temporary files.",
        ) from None


def _state(base: str) -> _State:
    parts: list[tuple[int, int, int] | None] = []
    for part in INDEX_PARTS:
        try:
            status = os.stat(os.path.join(base, part))  # noqa: PTH116, PTH118
        except FileNotFoundError:
            if part == INDEX_FILE:
                raise
            parts.append(None)
        else:
            parts.append((status.st_size, status.st_mtime_ns, status.st_ino))
    with open(os.path.join(base, INDEX_FILE), "rb") as file:  # noqa: PTH118, PTH123
        return _State(tuple(parts), file.read(_HEADER_BYTES))


def _is_fresh(state: _State) -> bool:
    newest_ns = max(part[1] for part in state.parts if part is not None)
    return abs(time.time_ns() - newest_ns) < _CLOCK_GRAIN_S * 1e9


def _open_copy(path: str) -> sqlite3.Connection | None:
    """Open the copy, let SQLite recover it, and check it; None when it is damaged."""
    # Iterators may be closed by the garbage collector of another thread.
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    # What a damaged row claims to hold must not decide how much memory is taken.
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_VALUE_BYTES)
    # A path in the index need not be UTF-8, nor a name in a verdict on damage; surrogates (PEP 383)
    # keep the bytes.
    connection.text_factory = _text
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        verdict = connection.execute("PRAGMA quick_check(1)").fetchone()
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # its message need not be UTF-8
        _log.warning("the copy of the library's index cannot be opened: %s", error)
        connection.close()
        return None
    if verdict != ("ok",):
        connection.close()
        return None
    return connection


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _remove(path: str) -> None:
    try:
        os.unlink(path)  # noqa: PTH108
    except FileNotFoundError:
        return
