"""Private folders for temporary files: locked by who lives, removed by who comes after the dead.

They hold patient data. What was killed leaves its folder where temporary files are; the next
process of the same user that makes one removes it. A lock on the folder says that somebody lives.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

_PREFIX = "dcmvault-scratch-"
#: As a folder is called before it is locked: empty until it has its name.
_NEW = "dcmvault-new-"
_sweeping = threading.Lock()
_swept: set[str] = set()


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """Make a private folder (mode 0700) below TMPDIR; it is removed at the end with all in it.

    Raises OSError where none can be made. What dead processes left is removed first, once for each
    process.
    """
    _sweep(tempfile.gettempdir())
    new = Path(tempfile.mkdtemp(prefix=_NEW))
    folder = new.with_name(_PREFIX + new.name.removeprefix(_NEW))
    descriptor = os.open(new, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Before it has the name by which it is found.
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        new.rename(folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            new.rmdir()
        os.close(descriptor)


def _sweep(root: str) -> None:
    with _sweeping:
        if root in _swept:
            return
        _swept.add(root)
        remove_abandoned(Path(root))


def remove_abandoned(root: Path) -> None:
    """Remove the folders of this user's processes that are dead; what cannot be removed stays."""
    with contextlib.suppress(OSError), os.scandir(root) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIX):
                with contextlib.suppress(OSError):
                    _remove_if_abandoned(Path(entry.path))


def _remove_if_abandoned(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_uid != os.geteuid():
            return
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)
