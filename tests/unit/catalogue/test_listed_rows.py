"""What a source lists is compared with the catalogue, whatever the order it comes in."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from dcmvault.catalogue import listed, open_catalogue
from dcmvault.model.instance import ScannedEntry
from dcmvault.testing.catalogue_world import World, header, scanned


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    opened = open_catalogue(str(tmp_path / "catalogue.sqlite3"))
    yield World(opened)
    opened.close()


def _files(count: int) -> list[ScannedEntry]:
    """Files in folders with folders between them, as a walk lists them."""
    return [
        scanned(f"{n // 50:02}{'/deep' * (n // 10 % 5)}/{n:05}", str(n), header(n // 50, 1, n))
        for n in range(count)
    ]


def _shuffled(files: list[ScannedEntry]) -> list[ScannedEntry]:
    return random.Random(1).sample(files, len(files))


ORDERS: dict[str, Callable[[list[ScannedEntry]], list[ScannedEntry]]] = {
    "by locator": lambda files: sorted(files, key=lambda one: one.entry.locator),
    "backwards": lambda files: sorted(files, key=lambda one: one.entry.locator, reverse=True),
    "as walked": list,
    "without any order": _shuffled,
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("batch", [7, 500])
def test_all_that_is_known_is_found(
    world: World, monkeypatch: pytest.MonkeyPatch, order: str, batch: int
) -> None:
    """Every third file is new, some are listed twice, and some that are known are not listed."""
    monkeypatch.setattr(listed, "_FIRST_PAGE", 20)
    monkeypatch.setattr(listed, "_LARGEST_PAGE", 100)
    files = _files(1200)
    there = [one for number, one in enumerate(files) if number % 3]
    world.scan(world.run(), there)
    known = {one.entry for one in there}
    scan_pass = world.catalogue.sources.scan(world.source, world.run())
    entries = [one.entry for one in ORDERS[order](files[100:])]
    entries += entries[:30]
    for start in range(0, len(entries), batch):
        some = entries[start : start + batch]
        news = scan_pass.news(some)
        assert news.unchanged == sum(entry in known for entry in some)
        assert list(news.others) == [(entry, None) for entry in some if entry not in known]
    counts = scan_pass.finish(believe_absence=True)
    assert counts.instances == sum(one.entry in known for one in files[100:])
    assert counts.gone == sum(one.entry in known for one in files[:100])


def test_a_row_that_was_read_ahead_and_then_written_is_read_anew(world: World) -> None:
    files = _files(10)
    world.scan(world.run(), files)
    scan_pass = world.catalogue.sources.scan(world.source, world.run())
    scan_pass.news([files[0].entry])
    changed = scanned(files[5].entry.locator, "other", header(1, 1, 1))
    scan_pass.record([changed])
    assert scan_pass.news([changed.entry]).unchanged == 1


def test_files_in_order_are_not_looked_up_by_name(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = sorted(_files(1200), key=lambda one: one.entry.locator)
    world.scan(world.run(), files)
    asked: list[str] = []

    def note(*arguments: object) -> None:
        asked.append(str(arguments[2]))

    scan_pass = world.catalogue.sources.scan(world.source, world.run())
    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        for start in range(0, 1200, 100):
            scan_pass.news([one.entry for one in files[start : start + 100]])
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)
    assert not [statement for statement in asked if "locator IN" in statement]
    assert len([statement for statement in asked if "locator >=" in statement]) <= 2
