"""Whole processes, measured: wall time, processor time and peak memory."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

#: Seconds between looks at the memory of a running process.
_LOOK_S = 0.01
_PEAK = re.compile(rb"VmHWM:\s+(\d+) kB")


class Measured(NamedTuple):
    """What one process took."""

    wall_s: float
    #: Of all its threads and children: says more than `wall_s` on a busy machine.
    cpu_s: float
    #: VmHWM, of the process alone (the tools have no children); 0 where the system does not tell.
    peak_bytes: int
    output: str


def run(
    command: Sequence[str | Path],
    environment: Mapping[str, str],
    *,
    folder: Path | None = None,
    watch_memory: bool = False,
    accepted: frozenset[int] = frozenset({0}),
) -> Measured:
    """Run a process to its end; SystemExit with its messages if it fails.

    The peak is read from /proc until the process ends: what `getrusage` says of a child is never
    less than what its parent had.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as messages:
        used_before = _cpu_s()
        began = time.perf_counter()
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=messages,
            cwd=folder,
            env={**_inherited(), **environment},
        )
        peak = _Peak(process) if watch_memory else None
        status = process.wait()
        wall_s = time.perf_counter() - began
        output.seek(0)
        text = output.read().decode(errors="replace")
        if status not in accepted:
            messages.seek(0)
            words = messages.read().decode(errors="replace")
            name = Path(command[0]).name
            raise SystemExit(f"{name} ended with status {status}:\n{text[-2000:]}{words[-2000:]}")
        return Measured(wall_s, _cpu_s() - used_before, peak.join() if peak else 0, text)


def _inherited() -> dict[str, str]:
    """Return the environment; as in any installation, what was imported once stays compiled."""
    return {name: at for name, at in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class _Peak:
    """Looks at a process until it ends."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._bytes = 0
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def join(self) -> int:
        self._thread.join()
        return self._bytes

    def _watch(self) -> None:
        while self._process.returncode is None:
            self._bytes = max(self._bytes, _peak_of(self._process.pid))
            time.sleep(_LOOK_S)


def _peak_of(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_bytes()
    except OSError:
        return 0
    found = _PEAK.search(status)
    return int(found[1]) << 10 if found else 0
