"""The figures of the dashboard: `python -m bench.dashboard [STUDIES]`.

An archive of 100,000 studies at three destinations is made, counted as the daemon counts it, and a
daemon serves it: in SQLite, or in PostgreSQL (`--postgresql`: one is started and stopped). Asked
are the matrix by every filter, order and page, the overview, the status (by the API, and as the
command asks for it) and which of 500 instances of one study are held. What a browser loads at first
is measured by Chromium (`--first-load`). What looking costs while work runs: `bench.live`.

Server time is from a request sent to the last byte of its answer, over an open connection on
loopback: what HTTP takes is not taken off. Each address is asked ten times; of the slowest one the
95th percentile counts. The overview is asked at intervals of more than a second, so that it is made
anew each time. Cold is: the server is restarted, the system has dropped what it keeps of the
database's files, and the catalogue is opened anew before each question.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from html import unescape
from pathlib import Path
from urllib.parse import urlencode

from bench.dashboard_figures.archive import Maker, count_studies
from bench.dashboard_figures.first_load import first_load_rows
from bench.dashboard_figures.held import cold_questions, forget_files
from bench.dashboard_figures.postgresql import server
from bench.dashboard_figures.serving import (
    DESTINATIONS,
    SOURCES,
    Daemon,
    environment,
    make_home,
    serving,
)
from bench.vault_figures.table import Row, print_table

from dcmvault.catalogue import open_catalogue
from dcmvault.cli.main import run

_STUDIES, _PER_STUDY = 100_000, 10
_ASKED_MS, _HELD_MS, _PAGE_KB = 300.0, 20.0, 150.0
_TIMES = 10
#: A page of the overview is shown to all for so long.
_SHARED_S = 1.1
_FILTERS: dict[str, dict[str, str]] = {
    "everything": {},
    "modality": {"modality": "MR"},
    "dates": {"first": "20200101", "last": "20201231"},
    "source": {"source": "modality"},
    "destination": {"destination": "second"},
    "state": {"state": "partly"},
    "damaged": {"state": "damaged"},
    "state at a destination": {"destination": "second", "state": "not"},
    "a name": {"text": "silva joao"},
    "a part of a name": {"text": "owals"},
    "an accession number": {"text": "A00077777"},
    "nothing": {"text": "nobody at all"},
    "several": {"text": "maria", "modality": "CT", "source": "library", "destination": "second"},
    **{order: {"order": order} for order in ("date", "name", "-name", "state", "-state", "-size")},
}
_LINK = re.compile(r'href="(/studies\?[^"]*)"')


def _p95(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=20, method="inclusive")[-1]


def _row(what: str, value: float, beside: str, asked: float, unit: str = " ms") -> Row:
    return Row(what, f"{value:.0f}{unit}", beside, value, asked, unit)


def _matrix(daemon: Daemon, on: str) -> list[Row]:
    """Ask for first pages, and for some further on, by every filter and order."""
    taken: dict[str, list[float]] = {}
    largest = 0
    for name, fields in _FILTERS.items():
        path = "/studies?" + urlencode(fields)
        for number in range(4):
            answers = [daemon.get(path) for _ in range(_TIMES)]
            taken[f"{name}, page {number + 1}"] = [one.ms for one in answers]
            largest = max(largest, *(one.size for one in answers))
            further = _further(answers[0].body.decode())
            if not further:
                break
            path = further
    worst = max(taken, key=lambda what: _p95(taken[what]))
    beside = f"{worst}: median {statistics.median(taken[worst]):.0f} ms"
    what = f"{on}: matrix page, of {len(taken)} the slowest p95"
    return [
        _row(what, _p95(taken[worst]), beside, _ASKED_MS),
        _row(f"{on}: matrix page, the largest", largest / 1000, "HTML", _PAGE_KB, " kB"),
    ]


def _further(text: str) -> str:
    """Return the address of the next page; empty on the last one."""
    before, found, _after = text.rpartition("Next page</a>")
    return unescape(_LINK.findall(before)[-1]) if found else ""


def _overview(daemon: Daemon, on: str) -> list[Row]:
    taken = []
    for _ in range(2 * _TIMES):
        time.sleep(_SHARED_S)
        taken.append(daemon.get("/").ms)
    beside = f"median {statistics.median(taken):.0f} ms"
    return [_row(f"{on}: overview, p95", _p95(taken), beside, _ASKED_MS)]


def _ask_status() -> float:
    began = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        run(["status", "--json"])
    return (time.perf_counter() - began) * 1000


def _status(daemon: Daemon, home: Path, on: str) -> list[Row]:
    taken = [daemon.get("/api/status").ms for _ in range(2 * _TIMES)]
    os.environ.update(environment(home))
    first = _ask_status()
    commands = [_ask_status() for _ in range(2 * _TIMES)]
    return [
        _row(
            f"{on}: /api/status, p95",
            _p95(taken),
            f"median {statistics.median(taken):.0f} ms",
            _ASKED_MS,
        ),
        _row(
            f"{on}: dcmvault status without its start, p95",
            _p95(commands),
            f"the first {first:.0f} ms",
            _ASKED_MS,
        ),
    ]


def _held(url: str, place: str, studies: int, forget: Callable[[], object], on: str) -> Row:
    taken = list(cold_questions(url, place, studies, forget))
    return _row(
        f"{on}: which of 500 instances are held, cold, p95",
        _p95(taken),
        f"median {statistics.median(taken):.1f} ms",
        _HELD_MS,
    )


def prepare(folder: Path, url: str, studies: int) -> Path:
    """Make and count the archive; return the state folder."""
    home = make_home(folder, url if "://" in url else "")
    catalogue = open_catalogue(url)
    try:
        sources, places = (
            [str(folder / name) for name in names] for names in (SOURCES, DESTINATIONS)
        )
        Maker(catalogue, studies, _PER_STUDY, (sources, places)).make()
        count_studies(catalogue)
    finally:
        catalogue.close()
    return home


def measure(home: Path, url: str, studies: int, forget: Callable[[], object]) -> list[Row]:
    """Put all questions."""
    on = "PostgreSQL" if "://" in url else "SQLite"
    rows = []
    with serving(home) as daemon:
        began = time.perf_counter()
        daemon.get("/api/status")
        print(f"   {on}: status counted in {time.perf_counter() - began:.1f} s")
        rows += _matrix(daemon, on)
        rows += _overview(daemon, on)
        rows += _status(daemon, home, on)
    rows.append(_held(url, str(home.parent / DESTINATIONS[1]), studies, forget, on))
    return rows


@contextmanager
def database(folder: Path, *, is_postgresql: bool) -> Iterator[tuple[str, Callable[[], object]]]:
    """Return where the catalogue is, and what makes it cold."""
    if not is_postgresql:
        path = folder / "home" / "catalogue.sqlite3"
        yield str(path), lambda: forget_files(path.parent)
        return
    with server() as running:
        yield running.url, running.forget


def main() -> int:
    """Measure, and say what was asked and reached; 1 where something was not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("studies", nargs="?", type=int, default=_STUDIES)
    parser.add_argument("--postgresql", action="store_true", help="in PostgreSQL, not in SQLite")
    parser.add_argument("--first-load", action="store_true", help="only what a browser loads")
    options = parser.parse_args()
    # On a disk: what is in memory is never cold.
    with tempfile.TemporaryDirectory(prefix="dcmvault-bench-") as name:
        folder = Path(name)
        if options.first_load:
            rows = first_load_rows(folder)
        else:
            with database(folder, is_postgresql=options.postgresql) as (url, forget):
                home = prepare(folder, url, options.studies)
                rows = measure(home, url, options.studies, forget)
    print_table(rows)
    return 0 if all(row.reached for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
