"""Writing into the INCOMING folder of an OsiriX or Horos library, from which the viewer imports.

The viewer looks into INCOMING.noindex every few seconds while it runs, and takes whatever has a
name that does not begin with a dot. So a file has such a name until it is whole and durable.
Nothing else of the library is ever touched, and its index is never opened.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dcmvault.app.restored_files import all_files, one_file
from dcmvault.durability import make_durable, make_folder_durable
from dcmvault.errors import DestinationStoppedError, UsageError
from dcmvault.i18n import gettext as _
from dcmvault.model.restored import FileToRestore, Restored

INCOMING_FOLDER = "INCOMING.noindex"
#: Files that may wait there: the import of a fuller folder takes the viewer ever longer.
MOST_WAITING = 25_000
#: Bytes that stay free: below 1 GiB the viewer deletes studies (its auto-clean's default), and
#: below 300 MB everything that waits for its import.
KEPT_FREE = 2 << 30
#: Seconds without any file taken after which the viewer counts as not running.
PATIENCE_S = 120.0
_LOOK_S = 1.0
_BUFFER_BYTES = 256 << 10
_PREFIX = "dcmvault-"
_UNFINISHED = re.compile(rf"\.{_PREFIX}[0-9a-f]{{32}}\.part")
_OURS = re.compile(rf"{_PREFIX}[0-9a-f]{{32}}\.dcm")


@dataclass(frozen=True, slots=True)
class Limits:
    """What is kept to while files are written."""

    most_waiting: int = MOST_WAITING
    kept_free: int = KEPT_FREE  #: bytes
    patience_s: float = PATIENCE_S
    look_s: float = _LOOK_S  #: between two looks at whether the viewer took files


def incoming_name(sha256: bytes) -> str:
    """Name a file by its content: the same file comes only once, however often it is restored."""
    return f"{_PREFIX}{sha256.hex()[:32]}.dcm"


class IncomingFolder:
    """INCOMING.noindex of the library whose files lie in the folder `data`.

    `write` is safe for several threads. `require_going` is called while a wait lasts, and raises
    to end it.
    """

    def __init__(
        self, data: Path, require_going: Callable[[], None], limits: Limits = Limits()
    ) -> None:
        self.folder = data / INCOMING_FOLDER
        self._require_going = require_going
        self._limits = limits
        self._lock = threading.Lock()
        #: Files that may be written until the folder is counted again.
        self._room = 0
        #: Files that may come but are not there yet.
        self._under_way = 0
        #: Files that this restore has put there.
        self.written = 0
        self._owner: tuple[int, int] | None = None

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Take the folder for this restore alone; what a killed one left unfinished goes.

        At the end everything is durable. Raises UsageError for a folder that is not there or is
        in use, DestinationStoppedError when it cannot be written into.
        """
        with all_files():
            try:
                descriptor = os.open(
                    self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
                )
            except (FileNotFoundError, NotADirectoryError):
                raise UsageError(
                    _("The library has no INCOMING.noindex folder to restore into."),
                    hint=_("Open the library in the viewer once: it makes that folder."),
                ) from None
        try:
            _take(descriptor)
            with all_files():
                self._remove_unfinished()
                status = os.fstat(descriptor)
                if os.geteuid() == 0 and status.st_uid != 0:
                    # The viewer runs as who owns its library, and must be able to take the files.
                    self._owner = (status.st_uid, status.st_gid)
            yield
            with all_files():
                make_folder_durable(descriptor)
        finally:
            with contextlib.suppress(OSError):
                self._remove_unfinished()
            os.close(descriptor)

    def write(self, file: FileToRestore, pieces: Iterable[bytes]) -> Restored:
        """Write one file, whole or not at all; the same one that waits there already is left.

        `pieces` raises when the bytes are not the right ones. Waits while the folder is full.
        Raises DestinationStoppedError when the disk has too little room, or the viewer takes
        nothing from a full folder.
        """
        name = incoming_name(file.file_sha256)
        path = os.path.join(self.folder, name)  # noqa: PTH118 - ten thousands of files
        with one_file():
            if _is_whole(path, file.size, file.file_sha256):
                return Restored.ALREADY_THERE
            self._wait_for_room()
            staged = os.path.join(self.folder, f".{name.removesuffix('.dcm')}.part")  # noqa: PTH118
            try:
                self._require_space(file.size)
                self._write(staged, pieces)
                os.rename(staged, path)  # noqa: PTH104
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(staged)  # noqa: PTH108
                raise
            else:
                with self._lock:
                    self.written += 1
            finally:
                with self._lock:
                    self._under_way -= 1
        return Restored.WRITTEN

    def waiting(self) -> set[str]:
        """Return the names of our files that the viewer has not taken yet."""
        with all_files(), os.scandir(self.folder) as entries:
            return {entry.name for entry in entries if _OURS.fullmatch(entry.name)}

    def wait_until_taken(self, patience_s: float) -> set[str]:
        """Wait while the viewer takes files; return what waits when it took none for so long."""
        left = self.waiting()
        since = time.monotonic()
        while left and time.monotonic() - since < patience_s:
            self._require_going()
            time.sleep(self._limits.look_s)
            if (now := self.waiting()) != left:
                left, since = now, time.monotonic()
        return left

    def _write(self, staged: str, pieces: Iterable[bytes]) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(staged, flags, 0o600)
        with open(descriptor, "wb", buffering=_BUFFER_BYTES) as file:  # noqa: PTH123
            for piece in pieces:
                file.write(piece)
            file.flush()
            if self._owner is not None:
                os.fchown(descriptor, *self._owner)
            make_durable(descriptor)

    def _wait_for_room(self) -> None:
        """Wait until one more file may come; the folder is counted only when it may be full."""
        fewest, since = sys.maxsize, time.monotonic()
        while True:
            with self._lock:
                if self._room <= 0:
                    taken_up = len(self._visible()) + self._under_way
                    self._room = self._limits.most_waiting - taken_up
                if self._room > 0:
                    self._room -= 1
                    self._under_way += 1
                    return
            if taken_up < fewest:
                fewest, since = taken_up, time.monotonic()
            elif time.monotonic() - since >= self._limits.patience_s:
                raise DestinationStoppedError(
                    "the viewer takes nothing from its INCOMING.noindex folder, which is full",
                    hint="Start the viewer, wait until it has imported what is there, then run the"
                    " same command again: it goes on where this one stopped.",
                )
            self._require_going()
            time.sleep(self._limits.look_s)

    def _visible(self) -> list[str]:
        return [name for name in os.listdir(self.folder) if not name.startswith(".")]  # noqa: PTH208

    def _require_space(self, size: int) -> None:
        status = os.statvfs(self.folder)
        if status.f_bavail * status.f_frsize - size < self._limits.kept_free:
            raise DestinationStoppedError(
                "the library's disk has too little room: when it is nearly full, the viewer deletes"
                " studies",
                hint="Free space there and run the same command again: it goes on where this one"
                " stopped.",
            )

    def _remove_unfinished(self) -> None:
        for name in os.listdir(self.folder):  # noqa: PTH208
            if _UNFINISHED.fullmatch(name):
                os.unlink(os.path.join(self.folder, name))  # noqa: PTH108, PTH118


def _take(descriptor: int) -> None:
    """Lock the folder itself: no file is made in a library for it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(
            _("Another restore is writing into this library."),
            hint=_("Wait until it has ended."),
        ) from None
    except OSError as error:  # file systems without locks
        if error.errno not in (errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS):
            raise


def _is_whole(path: str, size: int, sha256: bytes) -> bool:
    """Say whether a file with this content waits there; the viewer may take it at any moment."""
    try:
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode) or status.st_size != size:
            return False
        with open(path, "rb") as file:  # noqa: PTH123
            return hashlib.file_digest(file, "sha256").digest() == sha256
    except FileNotFoundError:
        return False
