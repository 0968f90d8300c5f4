"""How fast a large library is planned: `python -m bench.horos [--rows N] [--keep FOLDER]`.

A library is made whose index has N rows (1,000,000 by default), each with a tiny file. Planned is
as a run plans: the index is copied, every file's fingerprint taken, all written into a new
catalogue, and jobs written for a folder. Then everything counts as held, and the same library is
planned again, unchanged. Prints seconds and peak memory beside what is asked of a million rows, in
proportion; the times are wall-clock times of a whole process.
"""

from __future__ import annotations

import argparse
import json
import platform
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from bench.horos_figures.library import make_library
from bench.vault_figures.children import Measured, run

_ASKED_ROWS = 1_000_000
_FULL_S = 120.0
_UNCHANGED_S = 30.0
_PEAK_BYTES = 500_000_000


def _plan(state: Path, library: Path) -> Measured:
    command = (sys.executable, "-m", "bench.horos_figures.planning")
    return run([*command, state, library, state / "target"], {}, watch_memory=True)


def _hold_everything(state: Path) -> None:
    """End the run, as if it had delivered and proven everything."""
    with closing(sqlite3.connect(state / "catalogue.sqlite3")) as catalogue:
        catalogue.execute(
            "INSERT INTO holdings (destination_id, version_id, state, level, object_key, status,"
            " warning) SELECT destinations.id, versions.id, 'held', 5, '', '', ''"
            " FROM destinations, versions"
        )
        catalogue.execute("UPDATE runs SET state = 'finished'")
        catalogue.commit()


def _print(what: str, rows: int, measured: Measured, asked_s: float) -> None:
    asked_s *= rows / _ASKED_ROWS
    found = json.loads(measured.output)
    stages = ", ".join(f"{name} {s:.1f} s" for name, s in found.items() if name in {"scan", "plan"})
    reached = measured.wall_s <= asked_s and measured.peak_bytes <= _PEAK_BYTES
    print(
        f"{what:<15} {measured.wall_s:7.1f} s (asked {asked_s:5.1f}; {measured.cpu_s:.1f} s of"
        " processor time), peak"
        f" {measured.peak_bytes / 1e6:5.0f} MB (asked {_PEAK_BYTES / 1e6:.0f})"
        f"  {'REACHED' if reached else 'NOT REACHED'}"
    )
    print(f"{'':15} {stages}; {found['items']:,} items in {found['jobs']:,} jobs")


def measure(rows: int, folder: Path) -> None:
    """Make the library where there is none, and plan it twice."""
    library = folder / "Horos Data"
    began = time.perf_counter()
    if not library.exists():
        make_library(library, rows)
    print(f"{rows:,} rows, made in {time.perf_counter() - began:.1f} s")
    with tempfile.TemporaryDirectory(dir=folder) as state:
        (Path(state) / "target").mkdir()
        _print("full plan", rows, _plan(Path(state), library), _FULL_S)
        _hold_everything(Path(state))
        _print("unchanged plan", rows, _plan(Path(state), library), _UNCHANGED_S)


def main() -> None:
    """Measure in a temporary folder, or in one that is kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=_ASKED_ROWS, help="rows of ZIMAGE")
    parser.add_argument("--keep", type=Path, help="folder whose library is made once, and kept")
    arguments = parser.parse_args()
    print(f"SQLite {sqlite3.sqlite_version}, Python {platform.python_version()}")
    if arguments.keep:
        arguments.keep.mkdir(parents=True, exist_ok=True)
        measure(arguments.rows, arguments.keep)
        return
    with tempfile.TemporaryDirectory() as folder:
        measure(arguments.rows, Path(folder))


if __name__ == "__main__":
    main()
