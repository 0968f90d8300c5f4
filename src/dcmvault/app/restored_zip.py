"""Writing restored files into one ZIP file: it gets its name when it is whole."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import tempfile
import threading
import zipfile
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from dcmvault.app.restored_files import give_name, make_file_durable
from dcmvault.errors import (
    DestinationError,
    DestinationStoppedError,
    ObjectExistsError,
    UsageError,
)
from dcmvault.i18n import gettext as _
from dcmvault.model.restored import FileToRestore, Restored

_PIECE_BYTES = 1 << 20
#: A file waits in memory until it is known to be right; a larger one on the disk.
_IN_MEMORY_BYTES = 8 << 20
#: The times that a ZIP file can tell (APPNOTE 4.4.6: MS-DOS).
_FIRST_YEAR, _LAST_YEAR = 1980, 2107
_EARLIEST = (1980, 1, 1, 0, 0, 0)
#: Fast: pixel data that is compressed already gains nothing.
_COMPRESSION_LEVEL = 1


class RestoreZip:
    """Implements `ports.restore_target.RestoreTarget`: a ZIP file (with Zip64 where it is large).

    It is written under another name, read back as any reader would, and then named. What an
    earlier restore left unfinished is begun anew. Memory grows with about half a kibibyte for a
    file: a ZIP file ends with a list of all.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._part = path.with_name(f".{path.name}.part")
        self._lock = threading.Lock()
        self._zip: zipfile.ZipFile | None = None
        self._reads = False
        #: Name, place and CRC of each file that was written.
        self._listed: list[tuple[str, int, int]] = []

    @property
    def name(self) -> str:
        """The file's path."""
        return str(self.path)

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Begin the file; it has its name, and is durable, when left without an error."""
        if not self.path.parent.is_dir():
            raise UsageError(
                _("The ZIP file cannot be made: the folder for it does not exist."),
                hint=_("If the path is right, make that folder."),
            )
        if os.path.lexists(self.path):
            raise UsageError(
                _("There is a file of this name already; it was left as it is."),
                hint=_("Move it away, or name another file."),
            )
        with self._alone():
            try:
                with self._all_files():
                    self._reopen("w")
                yield
                with self._all_files():
                    self._close()
                    self._require_list()
                    if not give_name(str(self._part), str(self.path)):
                        raise FileExistsError
                    make_file_durable(self.path.parent)
            finally:
                with contextlib.suppress(OSError, ValueError):
                    self._close()
                self._part.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Make the unfinished file and lock it; what a killed restore left of one goes."""
        with contextlib.ExitStack() as opened, self._all_files():
            with contextlib.suppress(FileNotFoundError):
                left = os.open(self._part, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
                opened.callback(os.close, left)
                _lock(left)
                self._part.unlink()
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            try:
                made = os.open(self._part, flags, 0o600)
            except FileExistsError:
                raise _busy() from None
            opened.callback(os.close, made)
            _lock(made)
            guard = opened.pop_all()
        with guard:
            yield

    def folds_case(self) -> bool:
        """Say that names are to differ in more than case: the ZIP may be unpacked anywhere."""
        return True

    def write(self, file: FileToRestore, pieces: Iterable[bytes]) -> Restored:
        """Write one file when all of it has come, and is known to be right."""
        with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES, dir=str(self.path.parent)) as staged:
            with self._all_files():
                for piece in pieces:
                    staged.write(piece)
                staged.seek(0)
            info = zipfile.ZipInfo("/".join(file.parts).encode(errors="replace").decode())
            info.date_time = _dos_time(file.mtime_ns)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o600 << 16
            info.file_size = file.size
            with self._lock, self._all_files():
                opened = self._opened()
                if info.filename in opened.NameToInfo:
                    raise ObjectExistsError("something else has this name in the ZIP file")
                with opened.open(info, "w") as into:
                    while piece := staged.read(_PIECE_BYTES):
                        into.write(piece)
        return Restored.WRITTEN

    def read_back(self, file: FileToRestore) -> Iterator[bytes]:
        """Yield what a reader finds under the name of a file."""
        with self._lock:
            if not self._reads:
                # So the list at its end is read back, too.
                with self._all_files():
                    self._reopen("a")
                self._reads = True
            try:
                name = "/".join(file.parts).encode(errors="replace").decode()
                with self._opened().open(name) as opened:
                    while piece := opened.read(_PIECE_BYTES):
                        yield piece
            except (zipfile.BadZipFile, KeyError, EOFError, OSError) as error:
                raise DestinationError(
                    "the file cannot be read back from the ZIP file",
                    hint="The disk may be failing: check it, and restore into another place.",
                ) from error

    def _opened(self) -> zipfile.ZipFile:
        assert self._zip is not None
        return self._zip

    def _reopen(self, mode: str) -> None:
        self._close()
        assert mode in ("w", "a")
        self._zip = zipfile.ZipFile(
            self._part, "w" if mode == "w" else "a", compresslevel=_COMPRESSION_LEVEL
        )

    def _close(self) -> None:
        """Write the list of all files, and bring everything to the medium."""
        if self._zip is not None:
            opened, self._zip = self._zip, None
            opened.close()
            make_file_durable(self._part)
            self._listed = [(one.filename, one.header_offset, one.CRC) for one in opened.filelist]

    def _require_list(self) -> None:
        """Read the list at the end of the file, and the last file: they were written last."""
        with zipfile.ZipFile(self._part) as opened:
            found = [(one.filename, one.header_offset, one.CRC) for one in opened.filelist]
            if found != self._listed:
                raise zipfile.BadZipFile
            if found:
                with opened.open(found[-1][0]) as last:
                    while last.read(_PIECE_BYTES):
                        pass

    @contextlib.contextmanager
    def _all_files(self) -> Iterator[None]:
        """Turn the system's errors into one that ends the restore: there is one file only."""
        try:
            yield
        except (OSError, zipfile.BadZipFile, zipfile.LargeZipFile) as error:
            if isinstance(error, FileExistsError):
                raise ObjectExistsError(
                    "something has the name of the ZIP file; it was left as it is",
                    hint="Move it away, or name another file.",
                ) from error
            number = error.errno or 0 if isinstance(error, OSError) else 0
            if number in (errno.ENOSPC, errno.EDQUOT):
                raise DestinationStoppedError(
                    "the disk for the ZIP file is full", hint="Free space there, and run it again."
                ) from error
            raise DestinationStoppedError(
                f"the ZIP file cannot be written: {os.strerror(number)}",
                hint="Check the disk and the permissions, then run the same command again.",
            ) from error


def _lock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _busy() from None
    except OSError as error:  # file systems without locks
        if error.errno not in (errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS):
            raise


def _busy() -> UsageError:
    return UsageError(
        _("Another restore is writing this ZIP file."),
        hint=_("Wait until it has ended, or name another file."),
    )


def _dos_time(mtime_ns: int) -> tuple[int, int, int, int, int, int]:
    """Return a time as ZIP files tell it, in UTC; the earliest for one that they cannot."""
    try:
        time = datetime.fromtimestamp(mtime_ns / 1e9, UTC)
    except (OverflowError, OSError, ValueError):
        return _EARLIEST
    if not _FIRST_YEAR <= time.year <= _LAST_YEAR:
        return _EARLIEST
    return time.year, time.month, time.day, time.hour, time.minute, time.second
