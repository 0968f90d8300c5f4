"""Objects as files under one folder of a mounted file system.

Keys are paths under the root. A file gets its name only when its bytes are on the medium, so a
reader, a second process or a power cut never meets half an object. Bytes on their way lie in
`.staging/` inside the root (the same file system, and no valid key); what a crash leaves there
is swept a day later. Folders are made with mode 0700 and files with 0600: they hold patient data.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from dcmvault.durability import make_durable, make_names_durable
from dcmvault.errors import ObjectExistsError, ObjectMissingError
from dcmvault.object_stores.keys import check_key
from dcmvault.object_stores.local_disk import (
    RootFolder,
    beside_swapping,
    read_whole,
    same_bytes,
    swapping,
    sweep,
    walk,
)
from dcmvault.object_stores.local_errors import (
    disk_errors,
    reading_errors,
    root_missing,
)
from dcmvault.ports.clock import Clock

_STAGING = ".staging"
#: Seconds after which a staged file belongs to nobody any more.
_STALE_S = 24 * 3600


class LocalStore:
    """An object store in a folder of a local or mounted disk.

    It stages, swaps, and evicts from the system's cache.

    Nothing is touched before the first operation. The root is made by the first write if its
    parent exists; reading where there is no root raises DestinationUnreachableError, so that an
    unmounted disk is never taken for an empty one. The root must stay the folder that was first
    written into: when its disk goes away, nothing is written to the disk below.
    """

    def __init__(self, root: Path, clock: Clock) -> None:
        self._root = root
        self._clock = clock
        self._lock = threading.Lock()
        self._swept = False
        self._folder = RootFolder(root)

    def put(self, key: str, chunks: Iterable[bytes]) -> int:
        """Store an object under a new key, or the same bytes again; durable on return."""
        check_key(key)
        staged = self.stage()
        try:
            size = 0
            for chunk in chunks:
                staged.write(chunk)
                size += len(chunk)
            staged.commit(key)
        finally:
            staged.discard()
        return size

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Return a range of an object."""
        with self._opened(key) as descriptor, reading_errors(key):
            end = os.fstat(descriptor).st_size
            if length is not None:
                end = min(end, start + length)
            parts: list[bytes] = []
            while start < end:
                part = os.pread(descriptor, end - start, start)
                if not part:  # cut short by somebody else meanwhile
                    break
                parts.append(part)
                start += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def head(self, key: str) -> int | None:
        """Return an object's size in bytes."""
        path = self._path(key)
        with disk_errors():
            try:
                status = path.lstat()
            except (FileNotFoundError, NotADirectoryError):
                self._require_root()
                return None
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def keys(self, prefix: str = "") -> Iterator[str]:
        """List keys; files that are no objects of ours (other names, links) are left out."""
        self._require_root()
        return walk(self._root, "", prefix)

    def delete(self, key: str) -> None:
        """Remove an object; durable on return. Its folder stays."""
        path = self._path(key)
        if self.head(key) is None:
            raise ObjectMissingError(f"no object {key}")
        with disk_errors(), beside_swapping(self._root / _STAGING):
            try:
                path.unlink()
            except FileNotFoundError:
                raise ObjectMissingError(f"no object {key}") from None
            make_names_durable(path.parent)

    def evict(self, key: str) -> bool:
        """Drop the object's pages from the operating system's cache (Linux and BSD)."""
        with self._opened(key) as descriptor, disk_errors():
            if sys.platform in ("darwin", "win32"):
                return False
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            return True

    def swap(self, key: str, expected: bytes | None, new: bytes) -> bool:
        """Replace an object if it equals `expected`, atomically among all processes; durable.

        Processes on other hosts take turns too where the file system shares its locks (NFS does).
        """
        check_key(key)
        staged = self.stage()
        try:
            staged.write(new)
            return staged.swap(key, expected)
        finally:
            staged.discard()

    def stage(self) -> LocalStagedObject:
        """Begin an object."""
        with disk_errors():
            staging = self._staging()
            path = staging / secrets.token_hex(16)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            return LocalStagedObject(self, path, os.open(path, flags, 0o600))

    def adopt(self, staged: Path, descriptor: int, key: str) -> bool:
        """Give a staged file its key; False when the same bytes were there already."""
        path = self._path(key)
        with disk_errors():
            make_durable(descriptor)
            new = self._folder.name(staged, path)
            if not new and not same_bytes(descriptor, path):
                raise ObjectExistsError(
                    f"other bytes are stored under {key}",
                    hint="The stored object is damaged, or was put there by something else.",
                )
            # Also when it was there: the other writer may not have come this far yet.
            make_names_durable(path.parent)
        return new

    def replace(self, staged: Path, descriptor: int, key: str, expected: bytes | None) -> bool:
        """Give a staged file a key whose object equals `expected`; False when it does not."""
        path = self._path(key)
        with disk_errors():
            make_durable(descriptor)
            with swapping(staged.parent):
                if expected is None:
                    done = self._folder.name(staged, path)
                else:
                    done = read_whole(path) == expected
                    if done:
                        staged.replace(path)
                if done:
                    make_names_durable(path.parent)
        return done

    def _staging(self) -> Path:
        """Return the staging folder, made if needed; sweep it once in this store's life."""
        staging = self._root / _STAGING
        self._folder.ensure()
        if not staging.is_dir():
            with contextlib.suppress(FileExistsError):
                staging.mkdir(0o700)
        with self._lock:
            swept, self._swept = self._swept, True
        if not swept:
            sweep(staging, before=self._clock.now().timestamp() - _STALE_S)
        return staging

    def _path(self, key: str) -> Path:
        check_key(key)
        return self._root / key

    def _require_root(self) -> None:
        with disk_errors():
            if not self._root.is_dir():
                raise root_missing()

    @contextlib.contextmanager
    def _opened(self, key: str) -> Iterator[int]:
        """Open an object for reading."""
        if self.head(key) is None:
            raise ObjectMissingError(f"no object {key}")
        with reading_errors(key):
            try:
                descriptor = os.open(self._path(key), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                raise ObjectMissingError(f"no object {key}") from None
        try:
            yield descriptor
        finally:
            os.close(descriptor)


class LocalStagedObject:
    """A file in the staging folder on its way to a key. Used by one thread."""

    def __init__(self, store: LocalStore, path: Path, descriptor: int) -> None:
        self._store = store
        self._path = path
        self._descriptor = descriptor

    def write(self, chunk: bytes) -> None:
        """Append bytes."""
        view = memoryview(chunk)
        with disk_errors():
            while view:
                view = view[os.write(self._descriptor, view) :]

    def commit(self, key: str) -> bool:
        """Give the bytes their key; durable on return."""
        return self._store.adopt(self._path, self._descriptor, key)

    def swap(self, key: str, expected: bytes | None) -> bool:
        """Take the place of the object if it equals `expected`; durable on return."""
        return self._store.replace(self._path, self._descriptor, key, expected)

    def discard(self) -> None:
        """Close the file and remove its staging name; the committed object stays."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            # What cannot be removed now (disk gone, read-only) is swept later.
            with contextlib.suppress(OSError):
                self._path.unlink()
