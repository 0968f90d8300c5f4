"""What a process takes over time, whether that grows, and a leak planted to be found."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

#: Shares of the time: until a process has settled, and how long its begin and its end are.
WARM_UP, PART = 0.25, 0.2


@dataclass(frozen=True, slots=True)
class Taken:
    """What a process takes at a moment."""

    #: Seconds since the beginning.
    at_s: float
    #: The resident set.
    rss_mb: float
    threads: int
    #: Open files, sockets included.
    files: int


def taken_by(process: int, at_s: float) -> Taken:
    """Look at a process of this machine (Linux: proc(5))."""
    place = Path("/proc", str(process))
    found = dict(re.findall(r"(\w+):\s+(\d+)", (place / "status").read_text()))
    files = sum(1 for _one in (place / "fd").iterdir())
    return Taken(at_s, int(found["VmRSS"]) / 1000, int(found["Threads"]), files)


def growths(series: Sequence[Taken]) -> dict[str, float]:
    """Return by how much each figure grew, as a share, once the process had settled.

    Compared is what stays: the lower quartile. What is taken for a moment (a vault is opened with
    64 MB for the key) is no growth, and on a busy machine there are many such moments.
    """
    whole_s = series[-1].at_s

    def stays(name: str, begin: float) -> float:
        some = [one for one in series if begin <= one.at_s / whole_s <= begin + PART]
        return float(statistics.quantiles((getattr(one, name) for one in some), n=4)[0])

    names = [field.name for field in fields(Taken)][1:]
    return {name: stays(name, 1 - PART) / stays(name, WARM_UP) - 1 for name in names}


def table(series: Sequence[Taken], rows: int = 20) -> str:
    """Return the series as a table of so many moments."""
    each = max(len(series) // rows, 1)
    lines = ["     s   RSS MB  threads  files"]
    shown = [*series[::each], series[-1]]
    lines += ["{:6.0f} {:8.1f} {:8} {:6}".format(*astuple(one)) for one in shown]
    return "\n".join(lines)


#: A module that every Python program loads at its start. It is to be found by what it takes: in
#: each period so many bytes, and one open file and one thread that never ends.
_LEAK = """
import sys, threading, time
def leak(kept=[]):
    while True:
        time.sleep({period_s})
        kept += [bytearray(b"x" * {amount}), open("/dev/null")]
        threading.Thread(target=threading.Event().wait, daemon=True).start()
if "serve" in sys.argv or "serve" in sys.orig_argv:
    threading.Thread(target=leak, daemon=True).start()
"""


def plant_leak(folder: Path, *, period_s: float, amount: int) -> None:
    """Have daemons leak that are started with this folder as PYTHONPATH."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_LEAK.format(period_s=period_s, amount=amount))
