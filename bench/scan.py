"""How fast the scanner is beside pydicom: `python bench/scan.py [--corpus DIR] [--per-file]`.

Without a corpus: pydicom's bundled test files, and pydicom-data's if that is installed. Prints,
for files that both accept, microseconds per file of `part10.scan` and of
`pydicom.dcmread(stop_before_pixels=True)` (the best of several, file cache warm) and the ratio,
then the median ratio.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pydicom
from pydicom.errors import InvalidDicomError

from dcmvault.dicom import part10
from dcmvault.errors import MalformedDicomError

_REPEATS = 7


def _package_files() -> Iterator[Path]:
    for package, folder in (("pydicom", "data/test_files"), ("data_store", "data")):
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations or ()) if spec else ():
            yield from (path for path in (Path(place) / folder).rglob("*") if path.is_file())


def _best_us(step: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(_REPEATS):
        began = time.perf_counter()
        step()
        best = min(best, time.perf_counter() - began)
    return best * 1e6


def _theirs(path: Path) -> object:
    return pydicom.dcmread(path, stop_before_pixels=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, help="folder of DICOM files")
    parser.add_argument("--per-file", action="store_true", help="one line per file, slowest last")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    if arguments.corpus:
        paths = sorted(path for path in arguments.corpus.rglob("*") if path.is_file())
    else:
        paths = sorted(_package_files())
    rows = []
    for path in paths:
        try:
            part10.scan(path)
            _theirs(path)
        except (MalformedDicomError, InvalidDicomError):
            continue
        ours = _best_us(lambda path=path: part10.scan(path))  # type: ignore[misc]
        theirs = _best_us(lambda path=path: _theirs(path))  # type: ignore[misc]
        rows.append((theirs / ours, ours, theirs, path.name))
    if not rows:
        raise SystemExit("No file that both accept.")
    rows.sort(reverse=True)
    if arguments.per_file:
        for ratio, ours, theirs, name in rows:
            print(f"{name:44.44} {ours:9.0f} us {theirs:9.0f} us {ratio:6.1f} x")
    ratios, ours_all, theirs_all, _ = zip(*rows, strict=True)
    print(f"files            {len(rows)} of {len(paths)}")
    print(f"scan             {statistics.median(ours_all):9.0f} us per file (median)")
    print(f"pydicom          {statistics.median(theirs_all):9.0f} us per file (median)")
    print(f"ratio            {statistics.median(ratios):9.1f} (median), {min(ratios):.1f} (least)")
    print(f"ratio of sums    {sum(theirs_all) / sum(ours_all):9.1f}")


if __name__ == "__main__":
    main()
