"""What is held by evidence, for whoever wants to let go of a copy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dcmvault.catalogue import holdings, open_catalogue
from dcmvault.model.evidence import Level
from dcmvault.testing.catalogue_world import CT_IMAGE_STORAGE, World, header, scanned


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    opened = open_catalogue(str(tmp_path / "catalogue.sqlite3"))
    yield World(opened)
    opened.close()


def _held(world: World, level: Level) -> list[str]:
    found = world.catalogue.holdings.held_entries(world.source, world.destination, level)
    return [entry.locator for entry in found]


def test_only_what_reached_the_level(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Claims and weaker evidence do not count, however many pages are read."""
    monkeypatch.setattr(holdings, "_PAGE", 2)
    listed = [scanned(str(n), str(n), header(1, 1, n)) for n in range(5)]
    contents = {str(n): str(n) for n in range(5)}
    world.backup(listed, contents, level=Level.COMPLETE)
    later = [scanned("new", "new", header(1, 1, 9))]
    run_id = world.run()
    world.scan(run_id, [*listed, *later])
    for job in world.plan(run_id, world.due(run_id)):
        world.send(job, {"new": "new"})
    assert _held(world, Level.COMPLETE) == [str(n) for n in range(5)]
    assert _held(world, Level.PROVEN) == []
    fingerprints = {
        entry.locator: entry.fingerprint
        for entry in world.catalogue.holdings.held_entries(
            world.source, world.destination, Level.COMPLETE
        )
    }
    assert fingerprints == {one.entry.locator: one.entry.fingerprint for one in listed}


def test_what_changed_since_is_not_held(world: World) -> None:
    world.backup([scanned("a", "old", header(1, 1, 1))], {"a": "old"})
    world.scan(world.run(), [scanned("a", "new", header(1, 1, 1))])
    assert _held(world, Level.COMPLETE) == []


def test_by_sop_instance_uid(world: World) -> None:
    """Also what left its source is held; what nobody holds is in no answer."""
    first, second = header(1, 1, 1), header(1, 1, 2)
    world.backup([scanned("a", "a", first)], {"a": "a"})
    world.scan(world.run(), [scanned("b", "b", second)])
    uids = [first.sop_instance_uid, second.sop_instance_uid, "1.2.3"]
    found = world.catalogue.holdings.held_sop_classes(uids, Level.COMPLETE)
    assert found == {first.sop_instance_uid: {CT_IMAGE_STORAGE}}
    assert world.catalogue.holdings.held_sop_classes(uids, Level.PROVEN) == {}
