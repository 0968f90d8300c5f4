"""Where the walker gets its bytes: windows of a file, or of an inflated data set.

Nothing here reads more than it is asked for plus one window, however large the file.
"""

from __future__ import annotations

import os
import tempfile
import zlib
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from dcmvault.errors import MalformedDicomError

#: Longest element header (PS3.5 7.1.2), bytes; a window holds at least this much or the end.
HEADER_BYTES = 12
_FIRST_WINDOW = 16 << 10
_NEXT_WINDOW = 64 << 10
#: After a jump over a large value, usually only a few headers are wanted.
_JUMP_WINDOW = 4 << 10
#: Inflated bytes kept in memory before they go to an unlinked temporary file.
_INFLATED_IN_MEMORY = 32 << 20
_INFLATE_STEP = 64 << 10
#: O_NONBLOCK: a named pipe without a writer is an OSError, not a wait.
_OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK


class ByteSource(Protocol):
    """Random access to the bytes of one data set."""

    @property
    def size(self) -> int:
        """Where the bytes end at the latest; an inflated data set learns it only at its end."""
        ...

    def window(self, position: int) -> tuple[bytes, int]:
        """Return a buffer and the position of its first byte.

        The buffer holds at least `HEADER_BYTES` from `position` on, or all that is left.
        """
        ...

    def read(self, start: int, length: int) -> bytes:
        """Return `length` bytes from `start`, fewer only at the end."""
        ...


class FileBytes:
    """A file read by pread; the last window is kept."""

    __slots__ = ("_base", "_descriptor", "_window", "size")

    def __init__(self, path: Path | int) -> None:
        """Open a file by path; a descriptor is duplicated, so that closing leaves it open."""
        self._descriptor = os.dup(path) if isinstance(path, int) else os.open(path, _OPEN_FLAGS)
        try:
            # Cheaper than fstat, and an OSError where pread would be one.
            self.size = os.lseek(self._descriptor, 0, os.SEEK_END)
            self._window = os.pread(self._descriptor, _FIRST_WINDOW, 0)
        except BaseException:
            os.close(self._descriptor)
            raise
        self._base = 0

    def window(self, position: int) -> tuple[bytes, int]:
        """Return a buffer around `position`; a large one while reading goes straight on."""
        end = self._base + len(self._window)
        if position < self._base or (position + HEADER_BYTES > end and end < self.size):
            step = _NEXT_WINDOW if self._base <= position <= end else _JUMP_WINDOW
            self._window = os.pread(self._descriptor, step, position)
            self._base = position
        return self._window, self._base

    def read(self, start: int, length: int) -> bytes:
        """Return `length` bytes from `start`, from the window where it has them."""
        at = start - self._base
        if at >= 0 and at + length <= len(self._window):
            return self._window[at : at + length]
        return os.pread(self._descriptor, length, start)

    def fileno(self) -> int:
        """Return the file's descriptor."""
        return self._descriptor

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class MemoryBytes:
    """Bytes in memory."""

    __slots__ = ("_data", "size")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def window(self, position: int) -> tuple[bytes, int]:  # noqa: ARG002 - the window is all
        """Return everything."""
        return self._data, 0

    def read(self, start: int, length: int) -> bytes:
        """Return a slice."""
        return self._data[start : start + length]


class ViewBytes:
    """A large buffer, of which no more is copied than what is looked at."""

    __slots__ = ("_data", "size")

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self.size = len(data)

    def window(self, position: int) -> tuple[bytes, int]:
        """Return a copy of what follows."""
        return bytes(self._data[position : position + _NEXT_WINDOW]), position

    def read(self, start: int, length: int) -> bytes:
        """Return a slice."""
        return bytes(self._data[start : start + length])


class InflatedBytes:
    """A deflated data set (PS3.5 A.5), inflated as far as somebody asks, and never further.

    Positions count inflated bytes from 0. More than `bound` bytes are refused: a megabyte can
    inflate to a gigabyte. What was inflated waits in memory, then in an unlinked temporary file.
    """

    def __init__(self, deflated: ByteSource, start: int, bound: int) -> None:
        self._deflated = deflated
        self._next = start
        self._bound = bound
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._store = tempfile.SpooledTemporaryFile(max_size=_INFLATED_IN_MEMORY)  # noqa: SIM115
        self._inflated = 0
        self._ended = False
        self._pending = b""
        self._window = b""
        self._base = 0

    @property
    def size(self) -> int:
        """The inflated size once it is known, the bound until then."""
        return self._inflated if self._ended else self._bound

    def window(self, position: int) -> tuple[bytes, int]:
        """Return a buffer around `position`."""
        end = self._base + len(self._window)
        if position < self._base or position + HEADER_BYTES > end:
            self._window = self.read(position, _NEXT_WINDOW)
            self._base = position
        return self._window, self._base

    def read(self, start: int, length: int) -> bytes:
        """Return inflated bytes.

        Raises MalformedDicomError past the bound, for a damaged stream, and when `start` lies
        past the end of the stream.
        """
        while self._inflated < start + length and not self._ended:
            self._inflate()
        if start > self._inflated:
            raise MalformedDicomError(
                f"The deflated data set ends at byte {self._inflated} of its inflated form, "
                f"inside an element that goes on to byte {start}."
            )
        self._store.seek(start)
        return self._store.read(length)

    def close(self) -> None:
        """Drop what was inflated."""
        self._store.close()

    def _inflate(self) -> None:
        if not self._pending:
            self._pending = self._deflated.read(self._next, _INFLATE_STEP)
            self._next += len(self._pending)
        try:
            out = self._inflater.decompress(self._pending, _INFLATE_STEP)
        except zlib.error as error:
            raise MalformedDicomError(
                f"The deflated data set does not inflate past byte {self._inflated} "
                "of its inflated form."
            ) from error
        self._ended = self._inflater.eof
        if not (out or self._pending or self._ended):
            raise MalformedDicomError(
                f"The deflated data set is cut off: its stream goes on past byte {self._next}."
            )
        self._pending = self._inflater.unconsumed_tail
        self._store.seek(self._inflated)
        self._store.write(out)
        self._inflated += len(out)
        if self._inflated > self._bound:
            raise MalformedDicomError(
                f"The deflated data set inflates to more than {self._bound} bytes."
            )
