"""Large sources: pages, absences and chunks meet at their edges."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dcmvault.catalogue import due, open_catalogue, scan
from dcmvault.catalogue.key_set import KeySet
from dcmvault.model.instance import ScannedEntry
from dcmvault.testing.catalogue_world import World, entry, header, scanned, unreadable


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    opened = open_catalogue(str(tmp_path / "catalogue.sqlite3"))
    yield World(opened)
    opened.close()


@pytest.mark.parametrize("page", [1, 7, 10_000])
def test_pages_leave_nothing_out(world: World, monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    monkeypatch.setattr(due, "_PAGE", page)
    monkeypatch.setattr(due, "_STUDIES", 3)
    listed = [
        scanned(f"{study}/{number}", f"{study}/{number}", header(study, 1, number))
        for study in range(1, 9)
        for number in range(1, 5)
    ]
    opaque = [ScannedEntry(entry(f"x{n}", f"x{n}"), opaque_reason="broken") for n in range(15)]
    world.scan(world.run(), [*listed, *opaque])
    found = [item.entry.locator for item in world.due(world.run())]
    assert found == [one.entry.locator for one in [*listed, *opaque]]


def test_jobs_may_be_written_while_due_is_read(world: World) -> None:
    listed = [scanned(str(n), str(n), header(n, 1, 1)) for n in range(1, 30)]
    run_id = world.run()
    world.scan(run_id, listed)
    for item in world.due(run_id):
        world.plan(run_id, [item])
    assert world.catalogue.runs.progress(run_id).items == len(listed)


def test_absences_are_found_over_pages(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "_SWEEP", 7)
    listed = [scanned(str(n), str(n), header(1, 1, n)) for n in range(50)]
    world.scan(world.run(), listed)
    counts = world.scan(world.run(), listed[10:20])
    assert (counts.gone, counts.instances) == (40, 10)
    assert len(world.due(world.run())) == 10


def test_pages_of_absences_are_read_along_an_index(tmp_path: Path) -> None:
    """Otherwise each page sorts all that is left: twice the entries would take four times."""
    opened = open_catalogue(str(tmp_path / "catalogue.sqlite3"))
    world = World(opened)
    world.scan(world.run(), [scanned(str(n), str(n), header(1, 1, n)) for n in range(20)])
    plans: list[str] = []

    def explain(
        connection: sa.Connection,
        _cursor: object,
        statement: str,
        values: tuple[Any, ...],
        *_: object,
    ) -> None:
        if statement.startswith("SELECT") and "entries.id <=" in statement:
            explained = connection.connection.cursor()
            explained.execute(f"EXPLAIN QUERY PLAN {statement}", values)
            plans.extend(str(row[-1]) for row in explained.fetchall())

    sa.event.listen(opened.database._readers, "before_cursor_execute", explain)
    assert world.scan(world.run(), [scanned("7", "7", header(1, 1, 7))]).gone == 19
    opened.close()
    assert plans, "no page was read"
    assert not any("TEMP B-TREE" in step for step in plans), plans
    assert all("source_id=?" in step and "locator>?" in step for step in plans), plans


def test_more_entries_than_one_statement_takes(world: World) -> None:
    listed = [scanned(str(n), str(n), header(n % 3, n % 5, n)) for n in range(1201)]
    assert world.scan(world.run(), listed).new == 1201
    assert world.scan(world.run(), listed).known_before == 1201
    assert len(world.due(world.run())) == 1201


def test_unchanged_entries_cost_no_write(tmp_path: Path) -> None:
    opened = open_catalogue(str(tmp_path / "catalogue.sqlite3"))
    world = World(opened)
    listed = [scanned(str(n), str(n), header(1, 1, n)) for n in range(20)]
    listed.append(unreadable("locked"))
    world.scan(world.run(), listed)
    run_id = world.run()
    written: list[str] = []

    def note(_c: object, _cursor: object, statement: str, *_: object) -> None:
        if not statement.startswith(("SELECT", "BEGIN")):
            written.append(statement.split()[1])

    sa.event.listen(opened.database._readers, "before_cursor_execute", note)
    world.scan(run_id, listed)
    opened.close()
    assert written == ["runs", "sources"]


def test_dropped_jobs_leave_no_count_behind(world: World) -> None:
    head = header(1, 1, 1)
    run_id = world.run()
    world.scan(run_id, [scanned(name, name, head, compared=True) for name in "ab"])
    before = world.catalogue.runs.progress(run_id)
    items = world.due(run_id)
    assert [item.conflict for item in items] == [False, True]
    world.plan(run_id, items)
    world.catalogue.plans.drop_unstarted_jobs(run_id)
    after = world.catalogue.runs.progress(run_id)
    assert replace(after, state=before.state) == before


def test_a_bitmap_holds_keys() -> None:
    bitmap = KeySet()
    keys = [0, 1, 7, 8, 9, 1000, 123_457]
    assert [bitmap.add(key) for key in keys] == [True] * len(keys)
    assert not bitmap.add(1000)
    assert [key in bitmap for key in keys] == [True] * len(keys)
    assert not any(key in bitmap for key in (2, 999, 1001, 10_000_000))
