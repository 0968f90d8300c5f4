"""What a file system is asked to do so that names and bytes survive a crash and a power cut."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

from dcmvault.durability import make_names_durable
from dcmvault.object_stores.keys import is_valid_key
from dcmvault.object_stores.local_errors import (
    disk_errors,
    root_missing,
    root_replaced,
    says_no_hard_links,
)

_LOCK = "rename.lock"
_SWAP_LOCK = "swap.lock"
_LOCKS = frozenset({_LOCK, _SWAP_LOCK})
_COMPARE_BYTES = 1 << 20


class RootFolder:
    """The folder that a store writes into, and whether it is still the same one.

    Some systems leave the empty mount point of a disk that went away, others remove it. Safe
    for several threads.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        #: Device and inode, known from the first call of `ensure` on.
        self._identity: tuple[int, int] | None = None
        #: Folders in it whose own name has been made durable.
        self._durable: set[Path] = set()

    def ensure(self) -> None:
        """Make the folder at the first call if its parent exists; later it must be the same.

        Raises DestinationUnreachableError, and OSError (no such file) when it is gone.
        """
        with self._lock:
            if self._identity is None and not self._path.is_dir():
                if not self._path.parent.is_dir():
                    raise root_missing()
                make_folder(self._path)
            status = self._path.stat()
            identity = status.st_dev, status.st_ino
            if self._identity not in (None, identity):
                raise root_replaced()
            self._identity = identity

    def name(self, staged: Path, path: Path) -> bool:
        """Name the staged file `path`, in folders made for it, unless something has that name."""
        self.ensure()
        try:
            self._make_folders(path.parent)
            return give_name(staged, path)
        except FileNotFoundError:
            # Somebody removed the folder between our making it and using it, or before.
            with self._lock:
                self._durable.clear()
            self._make_folders(path.parent)
            return give_name(staged, path)

    def _make_folders(self, folder: Path) -> None:
        """Make the folders down to `folder`, each with a durable name."""
        if folder == self._path:
            return
        with self._lock:
            if folder in self._durable:
                return
        self._make_folders(folder.parent)
        make_folder(folder)
        with self._lock:
            self._durable.add(folder)


def give_name(staged: Path, path: Path) -> bool:
    """Name the staged file `path` unless something has that name; say whether it did."""
    try:
        os.link(staged, path, follow_symlinks=False)
    except FileExistsError:
        return False
    except OSError as error:
        if not says_no_hard_links(error):
            raise
    else:
        return True
    return _rename(staged, path)


def _rename(staged: Path, path: Path) -> bool:
    """Do `give_name` on a file system without hard links (exFAT, many network mounts).

    A rename replaces what is there, so writers take turns under a lock that the system
    releases when its holder dies. Two hosts that share such a file system without sharing
    its locks must not write the same folder at once.
    """
    with _locked(staged.parent / _LOCK):
        if os.path.lexists(path):
            return False
        staged.rename(path)
        return True


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock file, alone among all processes that see it, and free it even by dying."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def swapping(staging: Path) -> contextlib.AbstractContextManager[None]:
    """Take turns with whoever else swaps objects of this store, or removes some meanwhile."""
    return _locked(staging / _SWAP_LOCK)


def beside_swapping(staging: Path) -> contextlib.AbstractContextManager[None]:
    """Do `swapping` where anybody ever did; else write nothing (a full disk must allow removal)."""
    exists = (staging / _SWAP_LOCK).exists()
    return swapping(staging) if exists else contextlib.nullcontext()


def read_whole(path: Path) -> bytes | None:
    """Return a file's bytes, or None if there is no such file; a link or a folder is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    with open(descriptor, "rb") as stream:  # noqa: PTH123 (a descriptor)
        return stream.read()


def sweep(staging: Path, *, before: float) -> None:
    """Remove staged files last written before this time (seconds since the epoch)."""
    for path in staging.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if path.name not in _LOCKS and path.lstat().st_mtime < before:
                path.unlink()


def make_folder(folder: Path) -> None:
    """Make a folder that its owner alone can read, with a durable name."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(0o700)
    make_names_durable(folder.parent)


def same_bytes(descriptor: int, path: Path) -> bool:
    """Compare a staged file with what has its name; what cannot be read is not the same."""
    try:
        other = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            return False
        raise
    try:
        size = os.fstat(descriptor).st_size
        if os.fstat(other).st_size != size:
            return False
        for start in range(0, size, _COMPARE_BYTES):
            theirs = os.pread(other, _COMPARE_BYTES, start)
            if os.pread(descriptor, _COMPARE_BYTES, start) != theirs:
                return False
    except OSError as error:
        if error.errno in (errno.EIO, errno.EISDIR):
            return False
        raise
    finally:
        os.close(other)
    return True


def walk(root: Path, folder: str, prefix: str) -> Iterator[str]:
    """List the keys under `folder` (empty, or with a slash at its end), sorted as keys."""
    with disk_errors():
        try:
            with os.scandir(root / folder) as found:
                # A folder sorts as its keys do: with the slash that follows its name.
                names = sorted(
                    f"{folder}{entry.name}{'/' * entry.is_dir(follow_symlinks=False)}"
                    for entry in found
                    if not entry.is_symlink()
                )
        except FileNotFoundError:  # removed while we walk
            return
    for name in names:
        if name.endswith("/"):
            if is_valid_key(name[:-1]) and (name.startswith(prefix) or prefix.startswith(name)):
                yield from walk(root, name, prefix)
        elif is_valid_key(name) and name.startswith(prefix):
            yield name
