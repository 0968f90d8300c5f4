"""Ways in which a vault once lost something, or kept what should go: each with its own test."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from pathlib import Path

import pytest
from tests.integration.vault_acts import content
from tests.integration.vault_world import Files, VaultWorld, restored

from dcmvault.errors import DestinationUnreachableError
from dcmvault.object_stores.memory import MemoryStore
from dcmvault.testing.dicom_files import make_uid
from dcmvault.testing.faulty import CrashError, Fault, FaultyStore
from dcmvault.vault import outgoing, prune
from dcmvault.vault.check import CheckRequest, check
from dcmvault.vault.prune import PruneRequest
from dcmvault.vault.retention import forget_snapshots, forget_study, hold_study, release_study
from dcmvault.vault.state import present_state

ONE, TWO = make_uid("mended", 1), make_uid("mended", 2)
AT_ONCE = PruneRequest(timedelta(0), most_dropped=1.0)


@pytest.fixture
def world(tmp_path: Path) -> VaultWorld:
    return VaultWorld(MemoryStore(), Files(tmp_path)).init()


def test_content_that_goes_back_to_what_it_was(world: VaultWorld) -> None:
    """A comment is written into a file, and taken out again, while one process lives on."""
    process = world.process()
    for name in ("A", "B", "A"):
        world.clock.advance(1)
        process.back_up("/x", [("1", content(ONE, 1, name=name))])
    world.compare()


def test_study_that_somebody_else_forgot_is_stored_again(world: VaultWorld) -> None:
    daemon = world.process()
    daemon.back_up("/x", [("1", content(ONE, 1)), ("2", content(TWO, 1))])
    daemon.snapshot()
    daemon.back_up("/x", [("1", content(ONE, 1))])
    world.clock.advance(1)
    link = forget_study(world.opened(), ONE)
    assert link is not None
    world.model.snapshots[link.name] = dict(world.model.present)
    world.model.forget(ONE)
    prune.prune(world.opened(), AT_ONCE)
    world.clock.advance(1)
    daemon.back_up("/x", [("1", content(ONE, 1))])
    world.compare()


def test_content_that_somebody_else_replaced_is_stored_again(world: VaultWorld) -> None:
    daemon = world.process()
    daemon.back_up("/x", [("1", content(ONE, 1))])
    world.clock.advance(1)
    world.process().back_up("/x", [("1", content(ONE, 1, name="B"))])
    world.clock.advance(1)
    daemon.back_up("/x", [("1", content(ONE, 1))])
    world.compare()


def test_pack_of_a_dead_writer_replaces_no_other(world: VaultWorld) -> None:
    """It has the same content as a later one, and more; but no reader finds it."""
    files = [(str(number), content(ONE, number)) for number in range(5)]
    world.process().deliver("/dead", files)
    for key in list(world.store.keys("")):
        if "journal/" in key:
            world.store.delete(key)  # as if it had died before
    world.process().back_up("/x", files[:2])
    world.process().snapshot()
    for _day in range(3):
        world.clock.advance(25 * 3600)
        prune.prune(world.opened(), PruneRequest(most_dropped=1.0))
        world.compare()


def test_what_two_stored_at_once_is_not_rewritten_for_ever(
    world: VaultWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prune, "_LEAST_REWRITTEN_BYTES", 0)
    one, other = world.process(), world.process()
    # Both looked before the other wrote.
    with (
        one.destination.open((), world.origin("/x")) as ours,
        other.destination.open((), world.origin("/y")) as theirs,
    ):
        for number in range(4):
            file = world.files.file(str(number), content(ONE, number))
            ours.put(file)
            if number:
                theirs.put(file)
        ours.flush()
        theirs.flush()
    one.destination.take_snapshot(world.origin("/x"), None)
    rounds = [prune.prune(world.opened(), AT_ONCE).rewritten_packs for _round in range(4)]
    assert rounds[-1] == 0
    assert check(world.opened(), CheckRequest(read_data=True)).is_sound


def test_copies_that_were_not_written_are_written_by_the_next_snapshot(world: VaultWorld) -> None:
    process = world.process()
    process.back_up("/x", [("1", content(ONE, 1))])
    name = process.snapshot()
    for place in (f"snapshots/{name}", f"copies/2/snapshots/{name}"):
        world.store.delete(place)
    process.back_up("/x", [("2", content(ONE, 2))])
    process.snapshot()
    world.compare()
    assert check(world.opened()).is_sound


@pytest.mark.parametrize("fault", [Fault.REFUSE, Fault.LOSE_ANSWER, Fault.DIE_AFTER])
def test_prune_leaves_whole_objects(world: VaultWorld, fault: Fault) -> None:
    """An index or a list of condemned packs that was written only in part is completed."""
    process = world.process()
    process.back_up("/x", [("1", content(ONE, 1)), ("2", content(TWO, 1))])
    process.snapshot()
    forget_study(world.opened(), ONE)
    for at in range(20, 90, 10):
        with contextlib.suppress(CrashError, Exception):
            prune.prune(world.opened(FaultyStore(world.store, at, fault)), AT_ONCE)
        world.clock.advance(3600)
    prune.prune(world.opened(), AT_ONCE)
    assert check(world.opened(), CheckRequest(read_data=True)).errors == ()


def test_copy_of_an_interrupted_repair_goes_with_its_pack(world: VaultWorld) -> None:
    process = world.process()
    process.back_up("/x", [("1", content(ONE, 1))])
    process.snapshot()
    packs = list(world.store.keys("packs/"))
    for key in packs:
        world.store.put(f"copies/1/{key}", [world.store.get(key)])
    forget_study(world.opened(), ONE)
    for _round in range(2):
        world.clock.advance(3600)
        prune.prune(world.opened(), AT_ONCE)
    gone = [key for key in packs if world.store.head(key) is None]
    assert gone
    assert not [key for key in gone if world.store.head(f"copies/1/{key}") is not None]


def test_hold_that_was_released_does_not_return(world: VaultWorld) -> None:
    """A policy keeps an old snapshot, and forgets those between it and the newest."""
    process = world.process()
    process.back_up("/x", [("1", content(ONE, 1))])
    process.snapshot()
    hold_study(world.opened(), ONE, "a lawsuit")
    released = release_study(world.opened(), ONE)
    assert released is not None
    for number in range(2, 4):
        process.back_up("/x", [(str(number), content(ONE, number))])
        process.snapshot()
    forget_snapshots(world.opened(), [released.name])
    for _round in range(2):
        world.clock.advance(3600)
        prune.prune(world.opened(), AT_ONCE)
    state = present_state(world.opened())
    assert len(state.links) == 1
    assert state.holds() == {}
    assert check(world.opened()).is_sound


def test_flush_after_a_part_was_lost(world: VaultWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever passes over the error of one file does not make the others refer to nothing."""
    monkeypatch.setattr(outgoing, "PACK_BYTES", 1000)
    monkeypatch.setattr(outgoing, "_IN_FLIGHT_BYTES", 0)
    files = [(str(number), content(ONE, number)) for number in range(40)]
    for at in range(24, 60):
        store = FaultyStore(world.store, at)
        with (
            contextlib.suppress(DestinationUnreachableError),
            world.process(store).destination.open((), world.origin("/x")) as delivery,
        ):
            for locator, one in files:
                with contextlib.suppress(DestinationUnreachableError):
                    delivery.put(world.files.file(locator, one))
            delivery.flush()
        found = restored(present_state(world.opened()))
        assert set(found.values()) <= {one for _locator, one in files}
    world.process().back_up("/x", files)
    world.compare()
