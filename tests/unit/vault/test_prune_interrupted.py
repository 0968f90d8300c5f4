"""A prune that dies, or is refused something, at any moment: nothing is lost, the next works."""

from __future__ import annotations

import copy
import random
from contextlib import suppress
from datetime import timedelta

import pytest
from tests.unit.vault.small_vault import OTHER, STUDY, SmallVault, expected, restored

from dcmvault.errors import DestinationError
from dcmvault.object_stores.memory import MemoryStore
from dcmvault.testing.clock import FakeClock
from dcmvault.testing.faulty import CrashError, Fault, FaultyStore
from dcmvault.vault.prune import GRACE, PruneRequest, prune
from dcmvault.vault.retention import forget_snapshots, forget_study
from dcmvault.vault.state import present_state

REQUEST = PruneRequest(most_dropped=1.0)
AT_ONCE = PruneRequest(timedelta(0), 1.0)


def prepared() -> SmallVault:
    """Make a vault with something to remove, to rewrite, to condemn, and a forgotten snapshot."""
    world = SmallVault()
    vault = world.write(STUDY, "a", range(6))
    world.write(OTHER, "b", range(6), vault)
    first = world.snapshot(vault)
    assert first is not None
    world.back_up(STUDY, "c", range(6))
    forget_study(world.opened(), STUDY)
    prune(world.opened(), REQUEST)
    world.clock.advance(GRACE.total_seconds() + 1)
    world.back_up(STUDY, "d", range(6))
    second = world.back_up(STUDY, "e", range(6))
    world.back_up(STUDY, "f", range(6))
    forget_snapshots(world.opened(), [first.name, second.name])
    return world


def twin_of(world: SmallVault) -> SmallVault:
    """Copy a vault, so that one attempt does not see another."""
    twin = copy.copy(world)
    store = MemoryStore()
    for key, content in {**world.objects(), "lease": world.store.get("lease")}.items():
        store.add(key, content)
    twin.store, twin.clock = store, FakeClock(world.clock.now())
    return twin


def is_whole(world: SmallVault) -> None:
    state = present_state(world.opened())
    assert restored(state, STUDY) == expected(STUDY, "f", range(6))
    assert restored(state, OTHER) == expected(OTHER, "b", range(6))


@pytest.fixture(scope="module")
def world() -> SmallVault:
    return prepared()


def interrupt(world: SmallVault, at: int, fault: Fault) -> None:
    twin = twin_of(world)
    assert isinstance(twin.store, MemoryStore)
    with suppress(CrashError, DestinationError):
        prune(twin.opened(FaultyStore(twin.store, at, fault)), REQUEST)
    is_whole(twin)
    # The next one just works: no lock is left behind.
    assert prune(twin.opened(), AT_ONCE).notes == []
    is_whole(twin)
    assert prune(twin.opened(), AT_ONCE).removed_packs == 0
    twin.write(STUDY, "g", range(2))
    assert twin.snapshot() is not None


def moments(world: SmallVault) -> range:
    """Count what a prune asks of its store."""
    twin = twin_of(world)
    assert isinstance(twin.store, MemoryStore)
    counting = FaultyStore(twin.store)
    prune(twin.opened(counting), REQUEST)
    return range(1, counting.operations + 1)


@pytest.mark.parametrize("fault", list(Fault))
def test_a_prune_is_interrupted(world: SmallVault, fault: Fault) -> None:
    every = moments(world)
    assert len(every) > 50
    for at in random.Random(str(fault)).sample(every, 5):
        interrupt(world, at, fault)


@pytest.mark.nightly
@pytest.mark.parametrize("fault", list(Fault))
def test_a_prune_is_interrupted_anywhere(world: SmallVault, fault: Fault) -> None:
    for at in moments(world):
        interrupt(world, at, fault)
