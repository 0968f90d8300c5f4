"""How fast the matrix of studies answers: `python -m bench.matrix [STUDIES]`.

A generated catalogue (100,000 studies without an argument, ten instances each, at three
destinations) is counted as the daemon counts it, and then asked for first pages, deep pages, every
filter, every order and searches, and what a bulk action would do. Each question is put many times;
the 95th percentile of the slowest counts. `--database postgresql://...` measures there, in a
database that is empty; else SQLite, in a temporary folder or in one that is kept (`--keep`).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from bench.dashboard_figures.archive import PLACES, SOURCES, Maker, count_studies

from dcmvault.catalogue import Catalogue, open_catalogue
from dcmvault.model.evidence import Level
from dcmvault.model.study_matrix import Coverage, StudyOrder, StudyPage, StudyPlace, StudyQuery

_STUDIES = 100_000
_INSTANCES = 10
_ASKED_MS = 300.0
_TIMES = 20


def _questions() -> dict[str, StudyQuery]:
    place = PLACES[1]
    return {
        "everything": StudyQuery(),
        "modality": StudyQuery(modalities=("MR",)),
        "dates": StudyQuery(first_date="20200101", last_date="20201231"),
        "source": StudyQuery(sources=(SOURCES[1],)),
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
            sources=(SOURCES[0],),
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
        Maker(catalogue, studies_wanted, per_study).make()
        print(f"making the catalogue: {time.perf_counter() - began:.0f} s")
        count_studies(catalogue)
        held = [f"1.2.826.0.1.3680043.{n}" for n in range(1, studies_wanted, 1000)]
        for number in catalogue.status.destinations():
            catalogue.matrix.know_holds(number, held)
    counts = catalogue.status.counts()
    print(
        f"{counts['studies']:,} studies, {counts['instances']:,} instances,"
        f" {counts['holdings']:,} copies at {len(PLACES)} destinations"
    )
    worst = _measure(catalogue)
    verdict = "REACHED" if worst <= _ASKED_MS else "NOT REACHED"
    print(f"slowest p95 {worst:.0f} ms, asked {_ASKED_MS:.0f} ms: {verdict}")


if __name__ == "__main__":
    main()
