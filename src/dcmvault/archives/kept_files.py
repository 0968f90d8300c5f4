"""Files that were made whole lately, in memory: what is asked for again need not be decoded again.

A file is kept under its SHA-256 when it came out with it. So whatever becomes of the vault
meanwhile, what is given is the file; and what is damaged there was never kept.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

_MOST_BYTES = 1 << 30
#: Of the machine's memory, one part in so many is used at most.
_PART = 4
#: Bytes where nothing tells how much memory there is.
_FEW_BYTES = 256 << 20
#: How much of the memory a container has, on Linux: a number, or "max".
_CONTAINER = Path("/sys/fs/cgroup/memory.max")


def bytes_to_keep() -> int:
    """Return how many bytes of files this machine may keep: a gibibyte, or less."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return _FEW_BYTES
    with suppress(OSError, ValueError):
        memory = min(memory, int(_CONTAINER.read_text("ascii")))
    return min(_MOST_BYTES, memory // _PART)


class KeptFiles:
    """The files of the last uses, `most_bytes` in all. Safe for several threads."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        #: By SHA-256, in the order of their last use: when that was (monotonic), and the file.
        self._files: OrderedDict[bytes, tuple[float, memoryview]] = OrderedDict()
        self._bytes = 0

    def get(self, file_sha256: bytes) -> memoryview | None:
        """Return a file, if it is kept."""
        with self._lock:
            found = self._files.pop(file_sha256, None)
            if found is None:
                return None
            self._files[file_sha256] = (time.monotonic(), found[1])
            return found[1]

    def put(self, file_sha256: bytes, data: memoryview) -> None:
        """Keep a file that was found to have this SHA-256; others have to go for it."""
        with self._lock:
            if len(data) > self._most_bytes or file_sha256 in self._files:
                return
            self._files[file_sha256] = (time.monotonic(), data)
            self._bytes += len(data)
            while self._bytes > self._most_bytes:
                self._drop_oldest()

    def drop_unused(self, seconds: float) -> bool:
        """Let go of what nobody asked for so long; say whether there was any."""
        oldest = time.monotonic() - seconds
        with self._lock:
            before = len(self._files)
            while self._files and next(iter(self._files.values()))[0] <= oldest:
                self._drop_oldest()
            return len(self._files) < before

    def _drop_oldest(self) -> None:
        _digest, (_used, data) = self._files.popitem(last=False)
        self._bytes -= len(data)
