"""How fast the scanner is beside pydicom: `python -m bench.scan [--corpus DIR] [--per-file]`.

Without a corpus: pydicom's bundled test files, and pydicom-data's if that is installed. For files
that both accept it takes microseconds per file of `part10.scan` and of
`pydicom.dcmread(stop_before_pixels=True)` (the best of several, file cache warm), and prints both
medians, the median ratio and the ratio of sums, and how many files one core scans in a second.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import platform
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pydicom
from pydicom.errors import InvalidDicomError

from dcmvault.dicom import part10
from dcmvault.errors import MalformedDicomError

#: Rounds, so that a busy moment of the machine does not hit all repeats of a file.
_ROUNDS = 3
_REPEATS = 5
#: At least: how many times as fast as pydicom all files are scanned, and how many per second.
_ASKED_RATIO, _ASKED_RATE = 5, 2_000


class Row(NamedTuple):
    """One file: microseconds, the best of all."""

    path: Path
    ours: float
    theirs: float

    @property
    def ratio(self) -> float:
        return self.theirs / self.ours


def _package_files() -> Iterator[Path]:
    for package, folder in (("pydicom", "data/test_files"), ("data_store", "data")):
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations or ()) if spec else ():
            yield from (path for path in (Path(place) / folder).rglob("*") if path.is_file())


def _theirs(path: Path) -> object:
    return pydicom.dcmread(path, stop_before_pixels=True)


def _both_accept(path: Path) -> bool:
    try:
        part10.scan(path)
        _theirs(path)
    except (MalformedDicomError, InvalidDicomError):
        return False
    return True


def _best_us(step: Callable[[Path], object], path: Path) -> float:
    best = float("inf")
    for _ in range(_REPEATS):
        began = time.perf_counter()
        step(path)
        best = min(best, time.perf_counter() - began)
    return best * 1e6


def _measure(paths: Sequence[Path]) -> list[Row]:
    rows: dict[Path, Row] = {}
    for _ in range(_ROUNDS):
        for path in paths:
            now = Row(path, _best_us(part10.scan, path), _best_us(_theirs, path))
            before = rows.get(path, now)
            rows[path] = Row(path, min(before.ours, now.ours), min(before.theirs, now.theirs))
    return sorted(rows.values(), key=lambda row: row.ratio, reverse=True)


def _print(rows: Sequence[Row]) -> None:
    ours, theirs = [row.ours for row in rows], [row.theirs for row in rows]
    ratios = [row.ratio for row in rows]
    print(f"part10.scan      {statistics.median(ours):9.1f} us per file (median)")
    print(f"pydicom.dcmread  {statistics.median(theirs):9.1f} us per file (median)")
    print(f"median ratio     {statistics.median(ratios):9.1f} (least {min(ratios):.1f})")
    ratio, rate = sum(theirs) / sum(ours), len(rows) / sum(ours) * 1e6
    print(f"ratio of sums    {ratio:9.1f}    asked {_ASKED_RATIO}  {_verdict(ratio, _ASKED_RATIO)}")
    print(f"files per second {rate:9,.0f}    asked {_ASKED_RATE:,}  {_verdict(rate, _ASKED_RATE)}")


def _verdict(value: float, asked: float) -> str:
    return "reached" if value >= asked else "NOT REACHED"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, help="folder of DICOM files")
    parser.add_argument("--per-file", action="store_true", help="one line per file, slowest last")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    files = arguments.corpus.rglob("*") if arguments.corpus else _package_files()
    paths = sorted(path for path in files if path.is_file())
    accepted = [path for path in paths if _both_accept(path)]
    if not accepted:
        raise SystemExit("No file that both accept.")
    python = platform.python_version()
    print(f"{len(accepted)} of {len(paths)} files, beside pydicom {pydicom.__version__}")
    print(f"Python {python}, {platform.machine()}")
    rows = _measure(accepted)
    if arguments.per_file:
        for row in rows:
            numbers = f"{row.ours:9.1f} us {row.theirs:9.1f} us {row.ratio:6.1f} x"
            print(f"{row.path.parent.name + '/' + row.path.name:48.48} {numbers}")
    _print(rows)


if __name__ == "__main__":
    main()
