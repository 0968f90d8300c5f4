"""How fast the overview answers: `python -m bench.overview [STUDIES]`.

A catalogue as runs would leave it (100,000 studies without an argument, three instances each, at
three destinations, 400 runs) is counted as the daemon counts it now and then, and then the overview
is put together and rendered many times; the 95th percentile counts. What counting takes is told,
too: it is done beside, at intervals, and its age is on the page.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa
from bench.vault_figures.table import Row, print_table

from dcmvault.app.overview import overview
from dcmvault.app.standing import count
from dcmvault.app.wiring.workplace import Workplace, open_workplace
from dcmvault.catalogue.bulk import insert_rows
from dcmvault.catalogue.requests import to_text
from dcmvault.catalogue.tables import (
    destinations,
    entries,
    holdings,
    instances,
    run_destinations,
    runs,
    series,
    sources,
    studies,
    versions,
)
from dcmvault.config.load import load_settings
from dcmvault.model.identifiers import new_run_id
from dcmvault.model.plan import DestinationRequest, RunKind, RunRequest, Strategy

_STUDIES, _PER_STUDY, _RUNS, _TIMES = 100_000, 3, 400, 40
_ASKED_MS = 300.0
_NOW = datetime.now(UTC)
_CONFIGURATION = """
[sources.library]
address = "{folder}/library"
[destinations.first]
address = "{folder}/first"
[destinations.second]
address = "{folder}/second"
[destinations.third]
address = "{folder}/third"
[plans.nightly]
sources = ["library"]
destinations = ["first", "second", "third"]
[schedules.nightly]
plan = "nightly"
cron = "0 2 * * *"
"""
_RUN_COLUMNS = (
    *("id", "run_id", "request", "kind", "strategy", "source_id", "state"),
    *("created_at", "started_at", "finished_at"),
)
_ENTRY_COLUMNS = (
    *("id", "source_id", "locator", "size", "mtime_ns", "inode", "claim", "state"),
    *("version_id", "study_id"),
)


def _at(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000)


def _fill(workplace: Workplace, folder: Path, wanted: int) -> None:
    """Write rows: nearly all is held at three places, and every fiftieth study is not."""
    places = [f"{folder}/{name}" for name in ("first", "second", "third")]
    asked = tuple(map(DestinationRequest, places))
    request = to_text(RunRequest(RunKind.BACKUP, f"{folder}/library", asked, Strategy.INCREMENTAL))
    database = workplace.catalogue.database
    with database.write() as connection:
        connection.execute(sa.insert(sources), [{"id": 1, "name": f"{folder}/library"}])
        connection.execute(
            sa.insert(destinations), [{"id": n, "name": name} for n, name in enumerate(places, 1)]
        )
        for number in range(1, _RUNS + 1):
            begun = _NOW - timedelta(days=_RUNS - number, hours=1)
            run_id = new_run_id(begun)
            times = (_at(begun), _at(begun), _at(begun + timedelta(minutes=9)))
            insert_rows(
                connection,
                runs,
                _RUN_COLUMNS,
                [(number, run_id, request, "backup", "incremental", 1, "finished", *times)],
            )
        parts = [
            {"run_id": run, "destination_id": place, "items": 900, "n_held": 900}
            | {"transferred_bytes": 3_000_000_000}
            for run in range(1, _RUNS + 1)
            for place in (1, 2, 3)
        ]
        connection.execute(sa.insert(run_destinations), parts)
    for first in range(1, wanted + 1, 5_000):
        keys = range(first, min(first + 5_000, wanted + 1))
        with database.write() as connection:
            _fill_some(connection, keys)


def _numbers(keys: range) -> Iterator[tuple[int, int]]:
    return ((key, (key - 1) * _PER_STUDY + n) for key in keys for n in range(1, _PER_STUDY + 1))


def _fill_some(connection: sa.Connection, keys: range) -> None:
    uid = "1.2.826.0.1.3680043"
    insert_rows(
        connection, studies, ("id", "study_instance_uid"), ((key, f"{uid}.{key}") for key in keys)
    )
    insert_rows(
        connection,
        series,
        ("id", "study_id", "series_instance_uid"),
        ((key, key, f"{uid}.{key}.1") for key in keys),
    )
    insert_rows(
        connection,
        instances,
        ("id", "series_id", "sop_instance_uid"),
        ((n, key, f"{uid}.{key}.1.{n}") for key, n in _numbers(keys)),
    )
    insert_rows(
        connection,
        versions,
        ("id", "instance_id", "size", "first_run_id"),
        ((n, n, 500_000, 1 + key % _RUNS) for key, n in _numbers(keys)),
    )
    insert_rows(
        connection,
        entries,
        _ENTRY_COLUMNS,
        (
            (n, 1, f"{n:09}.dcm", 500_000, n, n, "dicom", "present", n, key)
            for key, n in _numbers(keys)
        ),
    )
    insert_rows(
        connection,
        holdings,
        ("destination_id", "version_id", "state", "level", "verified_at", "coerced"),
        (
            (place, n, "held", 5, _at(_NOW - timedelta(days=key % 90)), False)
            for key, n in _numbers(keys)
            for place in (1, 2, 3)
            if key % 50 or place < 3
        ),
    )


def _p95_ms(do: Callable[[], object]) -> float:
    taken = []
    for _ in range(_TIMES):
        began = time.perf_counter()
        do()
        taken.append((time.perf_counter() - began) * 1000)
    return sorted(taken)[int(_TIMES * 0.95) - 1]


def _measure(folder: Path, wanted: int) -> list[Row]:
    home = folder / "home"
    home.mkdir()
    (home / "config.toml").write_text(_CONFIGURATION.format(folder=folder))
    with open_workplace(home, load_settings(home / "config.toml")) as workplace:
        _fill(workplace, folder, wanted)
        began = time.perf_counter()
        counted = count(workplace)
        print(f"   counted in {time.perf_counter() - began:.1f} s: {counted.protection}")
        began = time.process_time()
        took_ms = _p95_ms(lambda: overview(workplace, counted))
        cpu_ms = (time.process_time() - began) * 1000 / _TIMES
    what = f"the overview of {wanted:,} studies, 3 destinations, p95"
    return [
        Row(what, f"{took_ms:.0f} ms", f"{cpu_ms:.0f} ms of a processor", took_ms, _ASKED_MS, " ms")
    ]


def main() -> int:
    """Measure, and say what was asked and reached; 1 where something was not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("studies", nargs="?", type=int, default=_STUDIES)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dcmvault-bench-") as folder:
        rows = _measure(Path(folder), options.studies)
    print_table(rows)
    return 0 if all(row.reached for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
