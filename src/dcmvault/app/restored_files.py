"""Writing restored files: under another name until they are whole, and never over another file."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import stat
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from dcmvault.app.restored_names import UNFINISHED_FOLDER
from dcmvault.durability import make_durable, make_file_system_durable
from dcmvault.errors import (
    DestinationError,
    DestinationStoppedError,
    ObjectExistsError,
    UsageError,
)
from dcmvault.i18n import gettext as _
from dcmvault.model.restored import FileToRestore, Parts, Restored

_LOCK = "lock"
_BUFFER_BYTES = 256 << 10
_PIECE_BYTES = 1 << 20
_MARKED_BYTES = 1 << 10
#: Errors that say that no further file can be written; every other one is about one file.
_ENDS_ALL = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ENXIO, errno.ENODEV, errno.ESTALE}
)


class RestoreFolder:
    """Implements `ports.restore_target.RestoreTarget`: a folder.

    Folders get mode 0700 and files 0600: they hold patient data. Symbolic links below the folder
    are not followed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._unfinished = root / UNFINISHED_FOLDER
        self._known: set[Parts] = {()}
        self._lock = threading.Lock()
        self._guard = -1
        self._is_durable = False

    @property
    def name(self) -> str:
        """The folder's path."""
        return str(self.root)

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Make the folder if its parent is there; at the end everything is durable.

        Raises UsageError, or DestinationStoppedError when it cannot be written into.
        """
        if not self.root.parent.is_dir():
            raise UsageError(
                _("The folder to restore into cannot be made: the one above it does not exist."),
                hint=_("Is the disk mounted? If the path is right, make that folder."),
            )
        with all_files():
            try:
                made = not self.root.exists()
                self.root.mkdir(0o700, exist_ok=True)
                self._unfinished.mkdir(0o700, exist_ok=True)
            except FileExistsError:
                raise UsageError(
                    _("There is a file where the folder to restore into should be.")
                ) from None
            self._take_guard()
            self._empty_unfinished()
        try:
            yield
            with all_files():
                make_file_system_durable(self.root)
        finally:
            with contextlib.suppress(OSError):
                self._empty_unfinished()
                (self._unfinished / _LOCK).unlink()
                self._unfinished.rmdir()
                if made:
                    self.root.rmdir()  # nothing came into it
            os.close(self._guard)

    def folds_case(self) -> bool:
        """Say whether names that differ in case only name one file here."""
        probe = self._unfinished / f"probe-{secrets.token_hex(4)}"
        with all_files():
            probe.touch(0o600)
            folds = os.path.lexists(probe.with_name(probe.name.upper()))
            probe.unlink()
        return folds

    def write(self, file: FileToRestore, pieces: Iterable[bytes]) -> Restored:
        """Write one file, whole or not at all; what is there already is left."""
        with one_file():
            folder = self._folder(file.parts[:-1])
            path = os.path.join(folder, file.parts[-1])  # noqa: PTH118 - ten thousands of files
            replaces = bool(file.replaces) and _begins_with(path, file.replaces)
            if not replaces and _is_same(path, file.size, file.file_sha256):
                return Restored.ALREADY_THERE
            self._is_durable = False
            staged = os.path.join(self._unfinished, secrets.token_hex(8))  # noqa: PTH118
            try:
                _write(staged, file.mtime_ns, pieces)
                if replaces:
                    os.rename(staged, path)  # noqa: PTH104
                    return Restored.WRITTEN
                if give_name(staged, path) or _is_same(path, file.size, file.file_sha256):
                    return Restored.WRITTEN
                raise _something_else()
            finally:
                with contextlib.suppress(OSError):
                    os.unlink(staged)  # noqa: PTH108

    def read_back(self, file: FileToRestore) -> Iterator[bytes]:
        """Yield what is there; what the system keeps in memory of it is dropped first."""
        self._settle()
        with one_file(reading=True):
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(self.root.joinpath(*file.parts), flags)
            with open(descriptor, "rb", buffering=0) as opened:  # noqa: PTH123 - a descriptor
                drop_cached(descriptor)
                while piece := opened.read(_PIECE_BYTES):
                    yield piece

    def _settle(self) -> None:
        """Bring what was written to the medium, once: else it stays in memory."""
        with self._lock:
            if not self._is_durable:
                with all_files():
                    make_file_system_durable(self.root)
                self._is_durable = True

    def _folder(self, parts: Parts) -> str:
        """Make the folders of a path; none of them may be a link."""
        folder = os.path.join(self.root, *parts)  # noqa: PTH118
        if parts in self._known:
            return folder
        self._folder(parts[:-1])
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)  # noqa: PTH102
        if not stat.S_ISDIR(os.lstat(folder).st_mode):
            raise _something_else()
        with self._lock:
            self._known.add(parts)
        return folder

    def _take_guard(self) -> None:
        if self._unfinished.is_symlink():
            raise _something_else()
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._guard = os.open(self._unfinished / _LOCK, flags, 0o600)
        try:
            fcntl.flock(self._guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._guard)
            raise UsageError(
                _("Another restore is writing into this folder."),
                hint=_("Wait until it has ended, or name another folder."),
            ) from None
        except OSError as error:  # file systems without locks
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS):
                raise

    def _empty_unfinished(self) -> None:
        for path in self._unfinished.iterdir():
            if path.name != _LOCK:
                path.unlink()


def _write(staged: str, mtime_ns: int, pieces: Iterable[bytes]) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(staged, flags, 0o600)
    with open(descriptor, "wb", buffering=_BUFFER_BYTES) as file:  # noqa: PTH123 - a descriptor
        for piece in pieces:
            file.write(piece)
        file.flush()
        if mtime_ns:
            # A time that no file system can hold is not worth a file.
            with contextlib.suppress(OSError, OverflowError, ValueError):
                os.utime(descriptor, ns=(mtime_ns, mtime_ns))


def give_name(staged: str, path: str) -> bool:
    """Name a file unless something has that name; say whether it did."""
    try:
        os.link(staged, path, follow_symlinks=False)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        if os.path.lexists(path):
            return False
        os.rename(staged, path)  # noqa: PTH104
    return True


def _is_same(path: str, size: int, sha256: bytes) -> bool:
    """Say whether a file is there with this content; ObjectExistsError for anything else there."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(status.st_mode) or status.st_size != size:
        raise _something_else()
    with open(path, "rb") as file:  # noqa: PTH123
        if hashlib.file_digest(file, "sha256").digest() != sha256:
            raise _something_else()
    return True


def _begins_with(path: str, mark: bytes) -> bool:
    """Say whether a regular file is there with some bytes near its beginning."""
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return False
        with open(path, "rb") as file:  # noqa: PTH123
            return mark in file.read(_MARKED_BYTES)
    except FileNotFoundError:
        return False


def _something_else() -> ObjectExistsError:
    return ObjectExistsError(
        "something else has this name in the folder; it was left as it is",
        hint="Move it away, or restore into another folder.",
    )


@contextlib.contextmanager
def one_file(*, reading: bool = False) -> Iterator[None]:
    """Turn the system's errors into those of one file, or of all."""
    try:
        yield
    except OSError as error:
        number = error.errno or 0
        if number in _ENDS_ALL:
            raise _stopped(number) from error
        reason = os.strerror(number)
        raise DestinationError(
            f"the file cannot be read back: {reason}"
            if reading
            else f"the file cannot be written: {reason}",
            hint="Restore into another folder, or on another file system.",
        ) from error


@contextlib.contextmanager
def all_files() -> Iterator[None]:
    """Turn the system's errors into one that ends the restore."""
    try:
        yield
    except OSError as error:
        raise _stopped(error.errno or 0) from error


def _stopped(number: int) -> DestinationStoppedError:
    if number in (errno.ENOSPC, errno.EDQUOT):
        return DestinationStoppedError(
            "the disk of the folder to restore into is full",
            hint="Free space there and run the same command again: it goes on where this one"
            " stopped.",
        )
    return DestinationStoppedError(
        f"the folder to restore into cannot be used: {os.strerror(number)}",
        hint="Check the disk and the permissions, then run the same command again.",
    )


def drop_cached(descriptor: int) -> None:
    """Have the system forget what it keeps of a file, so that the medium is read."""
    if hasattr(os, "posix_fadvise"):
        with contextlib.suppress(OSError):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def make_file_durable(path: Path) -> None:
    """Bring a file's bytes, or a folder's names, to the medium, and have it read from there."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        make_durable(descriptor)
        drop_cached(descriptor)
    finally:
        os.close(descriptor)
