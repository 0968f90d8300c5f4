"""How fast the catalogue records, knows and plans: `python -m bench.catalogue [INSTANCES] [URL]`.

Without a URL a temporary SQLite file is used. Prints what database it ran on, then one line per
step with instances per second.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import sqlalchemy as sa

from dcmvault.catalogue import open_catalogue
from dcmvault.model.evidence import Level
from dcmvault.model.instance import ScannedEntry
from dcmvault.model.plan import PlanItem, Strategy
from dcmvault.testing.catalogue_world import World, header, scanned

_SERIES = 250
_SERIES_PER_STUDY = 4
_BATCH = 500


def _entries(instances: int) -> Iterator[ScannedEntry]:
    for number in range(instances):
        series = number // _SERIES
        head = header(series // _SERIES_PER_STUDY + 1, series + 1, number)
        yield scanned(f"DATABASE.noindex/{number // 10_000}/{number}.dcm", str(number), head)


def _timed(what: str, instances: int, step: Callable[[], int]) -> None:
    began = time.perf_counter()
    found = step()
    seconds = time.perf_counter() - began
    print(f"{what:<38} {found:>9,} found {seconds:8.2f} s {instances / seconds:12,.0f}/s")


def _record(world: World, instances: int) -> int:
    scan_pass = world.catalogue.sources.scan(world.source, world.run())
    entries = _entries(instances)
    while batch := list(islice(entries, _BATCH)):
        scan_pass.record(batch)
    return scan_pass.finish(believe_absence=True).new


def _know(world: World, instances: int) -> int:
    scan_pass = world.catalogue.sources.scan(world.source, world.run())
    entries = _entries(instances)
    known = 0
    while batch := list(islice(entries, _BATCH)):
        known += scan_pass.news([one.entry for one in batch]).unchanged
    scan_pass.finish(believe_absence=True)
    return known


def _count(items: Iterator[PlanItem]) -> int:
    return sum(1 for _ in items)


def _database(url: str) -> str:
    """Return name and version of the database behind the catalogue."""
    database = sa.create_engine(url if "://" in url else f"sqlite:///{url}")
    with database.connect():
        version = ".".join(map(str, database.dialect.server_version_info or ()))
    database.dispose()
    return f"{database.dialect.name} {version}, SQLAlchemy {sa.__version__}"


def main(instances: int, url: str) -> None:
    """Run every step once."""
    opened = open_catalogue(url)
    print(f"{instances:,} instances, on {_database(url)}")
    world = World(opened)
    _timed("record new entries", instances, lambda: _record(world, instances))
    _timed("know unchanged entries", instances, lambda: _know(world, instances))

    def due() -> int:
        return _count(
            opened.plans.due(
                world.source,
                world.destination,
                strategy=Strategy.INCREMENTAL,
                level=Level.COMPLETE,
                run_id=run_id,
            )
        )

    run_id = world.run()
    _timed("due, nothing held", instances, due)
    contents = {one.entry.locator: str(n) for n, one in enumerate(_entries(instances))}
    jobs = world.plan(run_id, world.due(run_id))
    _timed("items of the run left out", instances, due)

    def deliver() -> int:
        for job in jobs:
            world.verify(job, world.send(job, contents))
        return opened.runs.progress(run_id).settled

    _timed("record receipts and verifications", instances, deliver)
    run_id = world.run()
    _timed("due, everything held", instances, due)
    _timed(
        "held versions",
        instances,
        lambda: opened.plans.held_versions(world.source, world.destination, Level.COMPLETE),
    )
    _timed("coverage", instances, lambda: opened.status.coverage(world.source)[0].instances_held)
    opened.close()
    if "://" not in url:
        print(f"{Path(url).stat().st_size / instances:.0f} bytes per instance")


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as folder:
        main(count, sys.argv[2] if len(sys.argv) > 2 else f"{folder}/catalogue.sqlite3")
