"""Where there is one place for each identity: which content is there when a file changed twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from dcmvault.catalogue import open_catalogue
from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import RunId
from dcmvault.model.plan import Strategy
from dcmvault.testing.catalogue_world import World, header, scanned

A = scanned("one", "first", header(1, 1, 1))
B = scanned("one", "second", header(1, 1, 1))
OTHER = scanned("two", "two", header(1, 1, 2))
CONTENTS = {"one": "first", "two": "two"}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    opened = open_catalogue(str(tmp_path / "catalogue.sqlite3"))
    yield World(opened, keeps_versions=False)
    opened.close()


def _held(world: World) -> tuple[int, int]:
    """Return what a plan leaves out, and what status calls held."""
    plans, status = world.catalogue.plans, world.catalogue.status
    (coverage,) = status.coverage(world.source)
    held = plans.held_versions(world.source, world.destination, Level.COMPLETE)
    return held, coverage.instances_held


def _due_studies(world: World, run_id: RunId) -> Sequence[int]:
    return world.catalogue.study_facts.due_studies(
        world.source,
        world.destination,
        strategy=Strategy.SMART,
        level=Level.COMPLETE,
        run_id=run_id,
    )


@pytest.mark.parametrize("level", [Level.COMPLETE, Level.PROVEN])
def test_content_that_came_back(world: World, level: Level) -> None:
    """What was there before another content came is sent again, and then it is there."""
    world.backup([A, OTHER], CONTENTS, level=level)
    world.backup([B, OTHER], {**CONTENTS, "one": "second"}, level=level)
    assert _held(world) == (2, 2)
    back = scanned("one", "first", header(1, 1, 1), compared=True)
    run_id = world.run()
    world.scan(run_id, [back, OTHER])
    assert _held(world) == (1, 1)
    assert len(_due_studies(world, run_id)) == 1
    (item,) = world.due(run_id)
    assert (item.entry.locator, item.held, item.earlier_version_there) == ("one", False, True)
    entries = world.catalogue.holdings.held_entries(world.source, world.destination, level)
    assert [one.locator for one in entries] == ["two"]
    world.backup([back, OTHER], CONTENTS, level=level)
    assert _held(world) == (2, 2)
    assert world.due(world.run()) == []
    assert not _due_studies(world, world.run())


def test_content_that_never_left(world: World) -> None:
    """Another one that was not taken, or was refused, changes nothing."""
    world.backup([A, OTHER], CONTENTS)
    run_id = world.run()
    world.scan(run_id, [B, OTHER])
    assert len(world.due(run_id)) == 1
    world.scan(world.run(), [scanned("one", "first", header(1, 1, 1), compared=True), OTHER])
    assert _held(world) == (2, 2)


def test_where_versions_are_kept_both_are_there(tmp_path: Path) -> None:
    opened = open_catalogue(str(tmp_path / "kept.sqlite3"))
    world = World(opened)
    world.backup([A, OTHER], CONTENTS)
    world.backup([B, OTHER], {**CONTENTS, "one": "second"})
    world.scan(world.run(), [scanned("one", "first", header(1, 1, 1), compared=True), OTHER])
    assert _held(world) == (2, 2)
    opened.close()
