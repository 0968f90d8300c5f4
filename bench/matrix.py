"""How fast the matrix of studies answers: `python -m bench.matrix [STUDIES]`.

A generated catalogue (100,000 studies without an argument, ten instances each, at three
destinations) is counted as the daemon counts it, and then asked for first pages, deep pages, every
filter, every order and searches, and what a bulk action would do. Each question is put many times;
the 95th percentile of the slowest counts. `--database postgresql://...` measures there, in a
database that is empty; else SQLite, in a temporary folder or in one that is kept (`--keep`).
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dcmvault.catalogue import Catalogue, open_catalogue
from dcmvault.catalogue.bulk import insert_rows
from dcmvault.catalogue.matrix_tables import study_changes, study_lines
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
from dcmvault.model.evidence import Level
from dcmvault.model.study_matrix import Coverage, StudyOrder, StudyPage, StudyPlace, StudyQuery

_STUDIES = 100_000
_INSTANCES = 10
_ASKED_MS = 300.0
_TIMES = 20
_AT_ONCE = 2_000
_NOW = datetime(2026, 7, 1, tzinfo=UTC)
_PLACES = ("vault:/backup", "dicom://PACS@pacs:104?calling=DCMVAULT", "vault:s3://copies/main")
_SOURCES = ("/library", "dicom://MODALITY@ct:104?calling=DCMVAULT")
_FAMILIES = ("Silva", "Souza", "Müller", "Doe", "Nguyễn", "Pereira", "Kowalska", "García", "Smith")
_GIVEN = ("João", "Maria", "Jane", "Ana", "Zoë", "Pedro", "Anna", "José", "Lucía", "Thu")
_MODALITIES = ("CT", "MR", "CR", "US", "MG", "PT")
_ENTRY_COLUMNS = (
    *("id", "source_id", "locator", "size", "mtime_ns", "inode", "claim", "state"),
    *("version_id", "study_id"),
)
_PARTS = ("Knee", "Chest", "Abdomen", "Head", "Spine")


def _microseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000)


class _Maker:
    """Writes rows as runs would leave them: most studies held, some partly, some damaged."""

    def __init__(self, catalogue: Catalogue, studies_wanted: int, per_study: int) -> None:
        self._catalogue = catalogue
        self._wanted = studies_wanted
        self._per_study = per_study
        self._chance = random.Random(8)

    def make(self) -> None:
        """Write everything, and note every study as changed."""
        with self._catalogue.database.write() as connection:
            self._places(connection)
        for first in range(1, self._wanted + 1, _AT_ONCE):
            keys = range(first, min(first + _AT_ONCE, self._wanted + 1))
            with self._catalogue.database.write() as connection:
                self._studies(connection, keys)
                self._copies(connection, keys)
        with self._catalogue.database.write() as connection:
            connection.execute(
                sa.insert(study_changes).from_select(["study_id"], sa.select(studies.c.id))
            )
            if connection.dialect.name != "sqlite":
                connection.execute(sa.text("ANALYZE"))

    def _places(self, connection: sa.Connection) -> None:
        for table, names in ((sources, _SOURCES), (destinations, _PLACES)):
            rows = [{"id": n, "name": name} for n, name in enumerate(names, 1)]
            connection.execute(sa.insert(table), rows)
        at = _microseconds(_NOW)
        for number in range(1, len(_SOURCES) + 1):
            insert_rows(
                connection,
                runs,
                ("id", "run_id", "request", "kind", "strategy", "source_id", "state", "created_at"),
                [(number, f"run-{number}", "{}", "backup", "full", number, "finished", at)],
            )
        rows = [
            {"run_id": run, "destination_id": place}
            for run in range(1, len(_SOURCES) + 1)
            for place in range(1, len(_PLACES) + 1)
        ]
        connection.execute(sa.insert(run_destinations), rows)

    def _studies(self, connection: sa.Connection, keys: range) -> None:
        chance = self._chance
        rows, of_series = [], []
        for key in keys:
            name = f"{chance.choice(_FAMILIES)}^{chance.choice(_GIVEN)} {key % 977}"
            when = date(2010, 1, 1) + timedelta(days=chance.randrange(6000))
            part = chance.choice(_PARTS)
            uid = f"1.2.826.0.1.3680043.{key}"
            about = (name, f"P{key % 40_000:06}", f"{when:%Y%m%d}", f"{part} {key % 7}")
            rows.append((key, uid, *about, f"A{key:08}"))
            of_series.append((key, key, f"{uid}.1", chance.choice(_MODALITIES)))
        names = ("id", "study_instance_uid", "patient_name", "patient_id", "study_date")
        insert_rows(connection, studies, (*names, "study_description", "accession_number"), rows)
        insert_rows(
            connection, series, ("id", "study_id", "series_instance_uid", "modality"), of_series
        )

    def _numbers(self, keys: range) -> Iterator[tuple[int, int]]:
        for key in keys:
            for n in range(self._per_study):
                yield key, (key - 1) * self._per_study + n + 1

    def _copies(self, connection: sa.Connection, keys: range) -> None:
        numbers = list(self._numbers(keys))
        insert_rows(
            connection,
            instances,
            ("id", "series_id", "sop_instance_uid"),
            ((n, key, f"1.2.826.0.1.3680043.{key}.1.{n}") for key, n in numbers),
        )
        insert_rows(
            connection,
            versions,
            ("id", "instance_id", "size"),
            ((n, n, 500_000 + n % 1000) for _, n in numbers),
        )
        gone = {key for key in keys if key % 50 == 0}
        insert_rows(
            connection,
            entries,
            (
                "id",
                "source_id",
                "locator",
                "size",
                "mtime_ns",
                "inode",
                "claim",
                "state",
                "version_id",
                "study_id",
            ),
            (
                (
                    n,
                    1 + key % 2,
                    f"{n:09}.dcm",
                    500000,
                    n,
                    n,
                    "dicom",
                    "gone" if key in gone else "present",
                    n,
                    key,
                )
                for key, n in numbers
            ),
        )
        for place in range(1, len(_PLACES) + 1):
            held = ((key, n, self._level(key, place)) for key, n in numbers)
            insert_rows(
                connection,
                holdings,
                ("destination_id", "version_id", "state", "level", "verified_at", "coerced"),
                (
                    (place, n, state, level.value, self._verified(key), False)
                    for key, n, (state, level) in held
                    if state
                ),
            )

    @staticmethod
    def _level(key: int, place: int) -> tuple[str, Level]:
        if key % (place * 11) == 0:
            return "", Level.NONE
        if key % 301 == place:
            return "damaged", Level.NONE
        if key % 37 == place:
            return "sent", Level.SENT
        return "held", (Level.PROVEN, Level.COMPLETE, Level.COMMITTED)[key % 3]

    @staticmethod
    def _verified(key: int) -> int:
        return _microseconds(_NOW - timedelta(hours=key % 9000))


def _count(catalogue: Catalogue) -> None:
    now = _NOW
    began = time.perf_counter()
    counted = 0
    while True:
        with catalogue.database.read() as connection:
            before = connection.scalar(sa.select(sa.func.count()).select_from(study_lines))
        now += timedelta(hours=1)
        slice_began = time.perf_counter()
        waiting = catalogue.matrix.recount(now)
        longest = time.perf_counter() - slice_began
        counted = max(counted, int(longest * 1000))
        if not waiting:
            break
    spent = time.perf_counter() - began
    print(f"counting it all: {spent:.0f} s, {(before or 0) / spent:,.0f} studies/s,", end=" ")
    print(f"longest slice {counted} ms")


def _questions() -> dict[str, StudyQuery]:
    place = _PLACES[1]
    return {
        "everything": StudyQuery(),
        "modality": StudyQuery(modalities=("MR",)),
        "dates": StudyQuery(first_date="20200101", last_date="20201231"),
        "source": StudyQuery(sources=(_SOURCES[1],)),
        "destination": StudyQuery(destination=place),
        "state": StudyQuery(states=(Coverage.PARTLY,)),
        "damaged": StudyQuery(states=(Coverage.DAMAGED,)),
        "state at a destination": StudyQuery(destination=place, states=(Coverage.NOT,)),
        "level at least": StudyQuery(level_at_least=Level.PROVEN),
        "level below, at one": StudyQuery(level_below=Level.COMPLETE, destination=place),
        "under legal hold": StudyQuery(held=True),
        "not under legal hold": StudyQuery(held=False),
        "text: a name": StudyQuery(text="silva joao"),
        "text: a part of a name": StudyQuery(text="owals"),
        "text: one accession number": StudyQuery(text="A00077777"),
        "text: nothing": StudyQuery(text="nobody at all"),
        "all together": StudyQuery(
            text="maria",
            modalities=("CT", "MR"),
            first_date="20150101",
            sources=(_SOURCES[0],),
            destination=place,
            states=(Coverage.PROTECTED,),
            level_at_least=Level.COMPLETE,
        ),
    }


class _Timed:
    """Times questions, and prints what they took."""

    def __init__(self) -> None:
        self.worst = 0.0

    def ask(self, what: str, question: Callable[[], Any]) -> Any:
        """Put a question many times."""
        answer = question()
        spent, worked = [], []
        for _ in range(_TIMES):
            began, work_began = time.perf_counter(), time.thread_time()
            question()
            spent.append((time.perf_counter() - began) * 1000)
            worked.append((time.thread_time() - work_began) * 1000)
        cuts = statistics.quantiles(spent, n=20, method="inclusive")
        print(
            f"{what:<40} p50 {statistics.median(spent):6.1f} ms  p95 {cuts[-1]:6.1f} ms"
            f"  (of it our own work {statistics.median(worked):6.1f} ms)"
        )
        self.worst = max(self.worst, cuts[-1])
        return answer


def _measure(catalogue: Catalogue) -> float:
    matrix = catalogue.matrix
    timed = _Timed()

    def page(**asked: Any) -> StudyPage:
        return matrix.page(asked.pop("query", StudyQuery()), **asked)

    for name, query in _questions().items():
        found = timed.ask(name, partial(page, query=query))
        print(f"    {found.total:,} studies")
    for order in StudyOrder:
        for descending in (True, False):
            word = "falling" if descending else "rising"
            asked: dict[str, Any] = {"order": order, "descending": descending}
            first = timed.ask(f"by {order.value}, {word}", partial(page, **asked))
            deep = _deep(catalogue, first, asked)
            for way in (False, True):
                place = StudyPlace(deep.study_key, deep.value, before=way)
                timed.ask(
                    f"    deep, {'back' if way else 'forth'}",
                    partial(page, **asked, place=place),
                )
    query = _questions()["all together"]
    asked = {"query": query, "order": StudyOrder.NAME}
    deep = _deep(catalogue, page(**asked), asked)
    timed.ask("all together, by name, deep", lambda: page(**asked, place=deep))
    timed.ask("a page of 200", lambda: page(limit=200))
    timed.ask("what a bulk action on all would be", lambda: matrix.matched(StudyQuery()))
    timed.ask("what a bulk action on some would be", lambda: matrix.matched(query))
    timed.ask("all modalities", matrix.modalities)
    return timed.worst


def _deep(catalogue: Catalogue, first: StudyPage, asked: dict[str, Any]) -> StudyPlace:
    """Go on for so many pages that a count from the front would be felt."""
    page = first
    for _ in range(40):
        if page.next is None:
            break
        page = catalogue.matrix.page(
            asked.get("query", StudyQuery()),
            order=asked["order"],
            descending=asked.get("descending", True),
            place=page.next,
            limit=500,
        )
    line = page.lines[-1]
    value = {StudyOrder.SIZE: line.bytes, StudyOrder.STATE: int(line.state)}.get(asked["order"])
    return StudyPlace(line.study_key, value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("studies", type=int, nargs="?", default=_STUDIES)
    parser.add_argument("--instances", type=int, default=_INSTANCES, help="of each study")
    parser.add_argument("--database", default="", help="postgresql:// URL of an empty database")
    parser.add_argument("--keep", type=Path, help="work in this folder, and leave it there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dcmvault-bench-") as folder:
        place = arguments.keep or Path(folder)
        place.mkdir(exist_ok=True)
        catalogue = open_catalogue(arguments.database or str(place / "catalogue.sqlite3"))
        try:
            _run(catalogue, arguments.studies, arguments.instances)
        finally:
            catalogue.close()


def _run(catalogue: Catalogue, studies_wanted: int, per_study: int) -> None:
    known = catalogue.status.counts()["studies"]
    if not known:
        began = time.perf_counter()
        _Maker(catalogue, studies_wanted, per_study).make()
        print(f"making the catalogue: {time.perf_counter() - began:.0f} s")
        _count(catalogue)
        held = [f"1.2.826.0.1.3680043.{n}" for n in range(1, studies_wanted, 1000)]
        for number in catalogue.status.destinations():
            catalogue.matrix.know_holds(number, held)
    counts = catalogue.status.counts()
    print(
        f"{counts['studies']:,} studies, {counts['instances']:,} instances,"
        f" {counts['holdings']:,} copies at {len(_PLACES)} destinations"
    )
    worst = _measure(catalogue)
    verdict = "REACHED" if worst <= _ASKED_MS else "NOT REACHED"
    print(f"slowest p95 {worst:.0f} ms, asked {_ASKED_MS:.0f} ms: {verdict}")


if __name__ == "__main__":
    main()
