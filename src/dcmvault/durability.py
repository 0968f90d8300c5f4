"""Bringing what was written to its medium: bytes of files, names in folders, whole file systems.

Whatever is called durable goes through here, so that one rule holds everywhere: where a drive can
be asked to empty its own cache, it is (macOS; fsync(2) alone does not do that there).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import sys
from pathlib import Path


def make_durable(descriptor: int) -> None:
    """Bring a file's bytes, or a folder's names, to the medium; OSError where that failed.

    Several threads that ask at once share one commit of the file system's journal.
    """
    if sys.platform == "darwin":
        with contextlib.suppress(OSError):  # network mounts refuse it
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
    os.fsync(descriptor)


def make_names_durable(folder: Path) -> None:
    """Make the names in a folder durable (fsync(2): a file's fsync does not do that)."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        make_folder_durable(descriptor)
    finally:
        os.close(descriptor)


def make_folder_durable(descriptor: int) -> None:
    """Make the names in an opened folder durable."""
    try:
        make_durable(descriptor)
    except OSError as error:
        # Some network file systems cannot sync a folder; their server orders the names.
        if error.errno != errno.EINVAL:
            raise


def make_file_system_durable(root: Path) -> None:
    """Bring everything written on a folder's file system to its medium."""
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if sys.platform == "linux":
            syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
            if syncfs is not None:
                if syncfs(descriptor) != 0:
                    raise OSError(ctypes.get_errno(), "syncfs")
                return
        os.sync()
        if sys.platform == "darwin":
            with contextlib.suppress(OSError):  # network mounts refuse it
                fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    finally:
        os.close(descriptor)
