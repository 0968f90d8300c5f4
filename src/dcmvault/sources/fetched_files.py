"""Files that a source fetches one by one: private, within a budget, gone when they were used."""

from __future__ import annotations

import os
from collections import deque
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from weakref import WeakSet

from dcmvault.errors import EntryUnreadableError
from dcmvault.scratch import scratch_folder


class FetchedTooLargeError(EntryUnreadableError):
    """A peer sent more than one file may hold."""


class FetchedFiles:
    """A private folder (mode 0700) for files on their way from a peer to whoever reads them.

    File names are numbers: nothing that a peer says becomes part of a path. The files handed out
    last, `kept` of them, stay; older ones are removed. Used as a context, whose end removes all.
    """

    def __init__(self, *, kept: int, longest_file: int) -> None:
        self._kept = kept
        self._longest = longest_file
        self._until_end = ExitStack()
        self._folder: Path | None = None
        self._made = 0
        self._handed: deque[Path] = deque()
        self._begun: WeakSet[FetchedFile] = WeakSet()

    def __enter__(self) -> Self:
        self._folder = self._until_end.enter_context(scratch_folder())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for file in list(self._begun):  # whoever wrote it may have been stopped
            file.drop()
        self._folder = None
        self._until_end.close()

    def new(self) -> FetchedFile:
        """Begin a file; OSError where none can be made."""
        assert self._folder is not None
        self._made += 1
        file = FetchedFile(self._folder / f"{self._made}", self._longest)
        self._begun.add(file)
        return file

    def hand_out(self, path: Path) -> None:
        """Count a finished file as the newest that is in use, and remove what is so no longer."""
        self._handed.append(path)
        while len(self._handed) > self._kept:
            self._handed.popleft().unlink(missing_ok=True)


class FetchedFile:
    """One file (mode 0600) that is written from front to back."""

    def __init__(self, path: Path, longest: int) -> None:
        self.path = path
        self.size = 0  #: bytes written
        self._longest = longest
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._file = os.fdopen(os.open(path, flags, 0o600), "wb")

    def write(self, piece: bytes | bytearray | memoryview) -> None:
        """Append; FetchedTooLargeError, and nothing written, once the file would be too long."""
        if self.size + len(piece) > self._longest:
            raise FetchedTooLargeError(
                f"the peer sends more than {self._longest:,} bytes for one instance"
            )
        self._file.write(piece)
        self.size += len(piece)

    def empty(self) -> None:
        """Begin anew; OSError where that fails."""
        self._file.seek(0)
        self._file.truncate()
        self.size = 0

    def finish(self) -> Path:
        """Close the file, which others can read now."""
        self._file.close()
        return self.path

    def drop(self) -> None:
        """Remove what was begun; harmless after `finish`."""
        with suppress(OSError):  # what cannot be written is not wanted
            self._file.close()
        self.path.unlink(missing_ok=True)
