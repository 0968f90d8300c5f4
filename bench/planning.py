"""How fast an unchanged folder is planned, beside restic: `python -m bench.planning [FILES]`.

A folder of tiny CT files (200,000 without an argument, 400 in a folder). Each program backs it up
once in earnest, and then says what a second run would do: `dcmvault backup --dry-run` and
`restic backup --dry-run`, by turns, file cache warm. Whole processes are timed. For dcmvault it is
also counted, under strace, how many of the files it opens in the second run: none.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.vault_figures.children import Measured, run
from bench.vault_figures.table import Row, print_table, seconds

from dcmvault.testing.dicom_files import make_instance

_FILES = 200_000
_PER_FOLDER = 400
_SERIES_PER_STUDY = 4
_ASKED = 1.0
_DCMVAULT = Path(sys.executable).with_name("dcmvault")
_OPENING = "trace=open,openat,openat2"


def _uids(number: int) -> tuple[str, str, str]:
    """Return Study, Series and SOP Instance UID of a file; those of all files have one length."""
    series = number // _PER_FOLDER
    keys = (series // _SERIES_PER_STUDY, series, number)
    return tuple(f"2.25.{level}{key:09}" for level, key in enumerate(keys, 1))  # type: ignore[return-value]


def make_folder(folder: Path, files: int) -> None:
    """Write files that differ in their UIDs only."""
    made = make_instance(folder / "template", *_uids(0))
    template = made.path.read_bytes()
    made.path.unlink()
    for number in range(files):
        content = template
        for old, new in zip(_uids(0), _uids(number), strict=True):
            content = content.replace(old.encode(), new.encode())
        place = folder / f"series-{number // _PER_FOLDER:05}"
        place.mkdir(exist_ok=True)
        (place / f"{number:07}.dcm").write_bytes(content)


class _Ours:
    """dcmvault with a state folder and a vault of its own."""

    def __init__(self, work: Path, folder: Path) -> None:
        self._folder = folder
        self._vault = f"vault:{work / 'vault'}"
        self._environment = {
            "DCMVAULT_HOME": str(work / "home"),
            "DCMVAULT_PASSPHRASE": "bench",
            "DCMVAULT_LANG": "en",
        }

    def back_up(self) -> Measured:
        run([_DCMVAULT, "vault", "init", self._vault], self._environment)
        return self._run("--progress", "none")

    def plan(self) -> Measured:
        measured = self._run("--dry-run", "--json")
        told = json.loads(measured.output)["destinations"][0]
        if told["selected"]:
            raise SystemExit(f"{told['selected']} instances are due, though nothing changed.")
        return measured

    def opened(self, log: Path) -> int:
        """Return how often a file of the folder was opened while it was planned."""
        strace: list[str | Path] = ["strace", "-f", "-qq", "-e", _OPENING, "-o", log]
        run([*strace, *self._command("--dry-run")], self._environment)
        return sum(
            str(self._folder) in line and ".dcm" in line
            for line in log.read_text(errors="replace").splitlines()
        )

    def _run(self, *options: str) -> Measured:
        return run(self._command(*options), self._environment, watch_memory=True)

    def _command(self, *options: str) -> list[str | Path]:
        return [_DCMVAULT, "backup", self._folder, "--to", self._vault, *options]


class _Restic:
    """restic with a repository and a cache of its own."""

    def __init__(self, work: Path, folder: Path) -> None:
        self._folder = folder
        self._environment: Mapping[str, str] = {
            "RESTIC_REPOSITORY": str(work / "restic"),
            "RESTIC_PASSWORD": "bench",
            "RESTIC_CACHE_DIR": str(work / "restic-cache"),
        }

    @staticmethod
    def version() -> str:
        told = subprocess.run(["restic", "version"], capture_output=True, text=True, check=True)
        return " ".join(told.stdout.split()[:2])

    def back_up(self) -> Measured:
        run(["restic", "init"], self._environment)
        return self.plan(())

    def plan(self, options: Sequence[str] = ("--dry-run",)) -> Measured:
        command: list[str | Path] = ["restic", "backup", "--quiet", *options, self._folder]
        return run(command, self._environment, watch_memory=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", type=int, nargs="?", default=_FILES)
    parser.add_argument("--runs", type=int, default=3, help="how often each plans, by turns")
    parser.add_argument("--keep", type=Path, help="work in this folder, and leave it there")
    arguments = parser.parse_args()
    if not shutil.which("restic"):
        raise SystemExit("restic is missing: sudo apt-get install -y restic")
    if arguments.keep:
        _measure(arguments.keep, arguments.files, arguments.runs)
        return
    with tempfile.TemporaryDirectory(prefix="dcmvault-bench-") as folder:
        _measure(Path(folder), arguments.files, arguments.runs)


def _measure(work: Path, files: int, runs: int) -> None:
    folder = work / "folder"
    ours, theirs = _Ours(work, folder), _Restic(work, folder)
    if not folder.exists():
        work.mkdir(exist_ok=True)
        make_folder(folder, files)
        print(f"first backup: dcmvault {ours.back_up().wall_s:.0f} s", end=", ")
        print(f"restic {theirs.back_up().wall_s:.0f} s")
    print(f"{files:,} files, beside {theirs.version()}")
    planned: list[tuple[Measured, Measured]] = [(ours.plan(), theirs.plan()) for _ in range(runs)]
    mine, others = zip(*planned, strict=True)
    ratio = min(one.wall_s for one in mine) / min(one.wall_s for one in others)
    rows = [
        Row("second backup --dry-run, wall time", seconds(mine), seconds(others), ratio, _ASKED)
    ]
    if shutil.which("strace"):
        opened = ours.opened(work / "strace.log")
        rows.append(Row("files opened for it", str(opened), "", opened, 0))
    print_table(rows)
    peak = max(one.peak_bytes for one in mine) / 1e6
    print(f"peak memory: {peak:.0f} MB beside {max(one.peak_bytes for one in others) / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
