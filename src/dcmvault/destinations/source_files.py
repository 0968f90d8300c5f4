"""Reading a source's file for delivery: never another file than the one that was planned."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

from dcmvault.dicom.byte_source import FileBytes
from dcmvault.errors import EntryChangedError, EntryUnreadableError, EntryVanishedError
from dcmvault.model.instance import Fingerprint

_T = TypeVar("_T")


class HasDescriptor(Protocol):
    """An open file."""

    def fileno(self) -> int:
        """Return its descriptor."""
        ...


def open_source_file(path: Path) -> BinaryIO:
    """Open a file unbuffered; raises EntryVanishedError or EntryUnreadableError."""
    return _opened(lambda: path.open("rb", buffering=0))


def open_source_bytes(path: Path) -> FileBytes:
    """Open a file for reading at any place; raises as `open_source_file`."""
    return _opened(lambda: FileBytes(path))


def _opened(opening: Callable[[], _T]) -> _T:
    try:
        return opening()
    except (FileNotFoundError, NotADirectoryError):
        raise EntryVanishedError("The file is gone since it was listed.") from None
    except OSError as error:
        raise unreadable(error) from error


def require_unchanged(stream: HasDescriptor, planned: Fingerprint) -> None:
    """Raise EntryChangedError unless the open file still has the planned fingerprint."""
    try:
        status = os.fstat(stream.fileno())
    except OSError as error:
        raise unreadable(error) from error
    same = (status.st_size, status.st_mtime_ns) == (planned.size, planned.mtime_ns)
    if not same or planned.inode not in (0, status.st_ino):
        raise EntryChangedError("The file is not the one that was planned: it changed meanwhile.")


def unreadable(error: OSError) -> EntryUnreadableError:
    """Return what an error of the operating system means for one entry."""
    reason = os.strerror(error.errno or 0)
    return EntryUnreadableError(f"The file cannot be read: {reason}.")
