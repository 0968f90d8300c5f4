"""Disks of any size: a file system in memory where one may be mounted, else a store that counts."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from dcmvault.errors import DestinationStoppedError
from dcmvault.object_stores.local import LocalStore
from dcmvault.ports.clock import Clock

PAGE = 4096


class SmallDisk:
    """A folder on a disk of a given size in bytes, that can be made larger, or filled."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        folder.mkdir()
        self._mount(size)

    def store(self, clock: Clock) -> LocalStore:
        """Return a store in this folder."""
        return LocalStore(self.folder / "vault", clock)

    def resize(self, size: int) -> None:
        """Make it larger or smaller; what is on it stays."""
        self._mount(size, "remount,")

    @property
    def used(self) -> int:
        """Bytes that are taken."""
        return shutil.disk_usage(self.folder).used

    def fill(self) -> None:
        """Let somebody else take all that is left."""
        with (self.folder / "filler").open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(PAGE))
            except OSError:
                return

    def free(self) -> None:
        """Remove what somebody else took."""
        (self.folder / "filler").unlink(missing_ok=True)

    def unmount(self) -> None:
        """Give it up."""
        subprocess.run(["umount", self.folder], check=True)

    def _mount(self, size: int, options: str = "") -> None:
        options += f"size={-(-size // PAGE) * PAGE}"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", self.folder], check=True)


class SmallQuota:
    """The same without any rights: a store that counts."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        folder.mkdir()
        self.size = size
        self.taken = 0

    def store(self, clock: Clock) -> LocalStore:
        """Return a store in this folder."""
        return _Counting(self.folder / "vault", clock, self)

    def resize(self, size: int) -> None:
        """Make it larger or smaller."""
        self.size = size

    @property
    def used(self) -> int:
        """Bytes that are taken."""
        total = self.taken
        for path in self.folder.rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # it was on its way to its place
                total += -(-path.stat().st_size // PAGE) * PAGE if path.is_file() else 0
        return total

    def fill(self) -> None:
        """Let somebody else take all that is left."""
        self.taken += max(self.size - self.used, 0)

    def free(self) -> None:
        """Remove what somebody else took."""
        self.taken = 0

    def unmount(self) -> None:
        """Nothing to do."""


class _Counting(LocalStore):
    def __init__(self, root: Path, clock: Clock, quota: SmallQuota) -> None:
        super().__init__(root, clock)
        self._quota = quota

    def put(self, key: str, chunks: Iterable[bytes]) -> int:
        whole = b"".join(chunks)
        self._take(len(whole))
        return super().put(key, [whole])

    def swap(self, key: str, expected: bytes | None, new: bytes) -> bool:
        self._take(len(new))
        return super().swap(key, expected, new)

    def _take(self, size: int) -> None:
        if self._quota.used + size > self._quota.size:
            raise DestinationStoppedError("The quota is full.")


def can_mount(folder: Path) -> bool:
    """Say whether this process may mount file systems."""
    if os.geteuid() != 0 or sys.platform != "linux":
        return False
    try:
        SmallDisk(folder, 1 << 20).unmount()
    except (OSError, subprocess.CalledProcessError):
        return False
    return True
