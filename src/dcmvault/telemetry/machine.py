"""What the machine says of itself: processors, memory, disks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from dcmvault.model.sample import Figure


class MachineProbe:
    """Looks at processors and memory; shares of time are those since the look before."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._processors = psutil.cpu_count() or 1
        # The first look has nothing to compare with.
        psutil.cpu_percent()
        self._process.cpu_percent()

    def look(self) -> Mapping[Figure, float]:
        """Return the figures of now."""
        return {
            Figure.CPU_SHARE: psutil.cpu_percent() / 100,
            Figure.PROCESS_CPU_SHARE: self._process.cpu_percent() / 100 / self._processors,
            Figure.MEMORY_BYTES: float(self._process.memory_info().rss),
            Figure.MEMORY_AVAILABLE_BYTES: float(psutil.virtual_memory().available),
        }


@dataclass(frozen=True, slots=True)
class DiskSpace:
    """The room of a file system, in bytes."""

    free: int
    total: int


def disk_space(path: Path) -> DiskSpace | None:
    """Return the room where a path is, or is to be; None where that cannot be found out."""
    for place in (path, *path.parents):
        try:
            usage = shutil.disk_usage(place)
        except FileNotFoundError:
            continue
        except OSError:
            return None
        return DiskSpace(usage.free, usage.total)
    return None


def file_system(path: Path) -> int | None:
    """Return what tells the file system of a path, or of where it is to be, from others."""
    for place in (path, *path.parents):
        try:
            return os.stat(place).st_dev  # noqa: PTH116 - no other words for it
        except FileNotFoundError:
            continue
        except OSError:
            return None
    return None
