"""Who works in an embedded state folder: at most one process at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from dcmvault.errors import StateError


class Ownership:
    """The exclusive right to run the worker of one embedded state folder, or its daemon.

    An flock on `owner.lock` (or another name): the kernel releases it when the process dies,
    however it dies. Local file systems only (flock over NFS depends on server and mount).
    """

    def __init__(self, state_folder: Path, name: str = "owner.lock") -> None:
        self._path = state_folder / name
        self._descriptor: int | None = None

    def try_acquire(self) -> bool:
        """Become the owner without waiting; False if another process (or object) is.

        Raises StateError when the lock file cannot be opened.
        """
        if self._descriptor is not None:
            return True
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateError(
                f"The owner lock of the state folder cannot be opened: {error.strerror}.",
                hint="Check that the state folder exists and that you may write to it.",
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Give the right up; harmless if not held."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    def owner_pid(self) -> int | None:
        """Read the owner's process id, for messages to people.

        Meaningful only just after `try_acquire` said False: a killed owner leaves its id behind.
        """
        try:
            text = self._path.read_text("ascii").strip()
        except OSError:
            return None
        return int(text) if text.isdecimal() else None
