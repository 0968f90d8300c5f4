"""A vault at another place: the same objects, whatever interrupts, whatever else goes on."""

from __future__ import annotations

import random
from contextlib import suppress

import pytest
from tests.unit.vault.small_vault import OTHER, STUDY, SmallVault, expected, restored

from dcmvault.errors import (
    DestinationError,
    UsageError,
    VaultBusyError,
    VaultFormatError,
    VaultMissingError,
)
from dcmvault.object_stores.memory import MemoryStore
from dcmvault.ports.object_store import ObjectStore
from dcmvault.testing.faulty import CrashError, Fault, FaultyStore
from dcmvault.vault.check import CheckRequest, check
from dcmvault.vault.copying import copy_vault
from dcmvault.vault.copying_snapshots import copy_snapshots
from dcmvault.vault.key_changes import add_slot, remove_slot, rotate
from dcmvault.vault.lease import hold_lease
from dcmvault.vault.repository import Vault, open_vault
from dcmvault.vault.retention import forget_study, hold_study
from dcmvault.vault.slots import KeyFile
from dcmvault.vault.state import present_state


def filled(*, redundant: bool = True) -> SmallVault:
    world = SmallVault(redundant=redundant)
    world.back_up(STUDY, "a", range(6))
    world.back_up(OTHER, "b")
    world.write(OTHER, "c", range(3, 5))  # in a journal, no snapshot names it yet
    return world


def opened(world: SmallVault, store: ObjectStore) -> Vault:
    return open_vault(store, [world.secret], world.clock)


def content(store: ObjectStore) -> dict[str, bytes]:
    return {key: store.get(key) for key in list(store.keys()) if key != "lease"}


def is_sound(world: SmallVault, store: ObjectStore) -> None:
    result = check(opened(world, store), CheckRequest(read_data=True))
    assert result.errors == ()


@pytest.mark.parametrize("redundant", [True, False])
def test_a_copy_is_the_same_vault(redundant: bool) -> None:
    world, target = filled(redundant=redundant), MemoryStore()
    done = copy_vault(world.store, target, world.clock)
    assert content(target) == world.objects()
    assert done.damaged == []
    is_sound(world, target)
    state = present_state(opened(world, target))
    assert restored(state, STUDY) == expected(STUDY, "a", range(6))
    again = copy_vault(world.store, target, world.clock)
    assert (again.objects, again.is_behind, again.own_snapshots) == (0, False, 0)
    world.back_up(STUDY, "new", range(2))
    later = copy_vault(world.store, target, world.clock)
    assert 0 < later.objects < done.objects
    assert present_state(opened(world, target)).links == present_state(world.opened()).links
    is_sound(world, target)


@pytest.mark.parametrize("fault", [Fault.DIE_BEFORE, Fault.DIE_AFTER, Fault.REFUSE])
def test_an_interrupted_copy_goes_on(fault: Fault) -> None:
    world = filled()
    counting = FaultyStore(MemoryStore())
    copy_vault(world.store, counting, world.clock)
    for at in random.Random(str(fault)).sample(range(1, counting.operations), 12):
        target = MemoryStore()
        with suppress(CrashError, DestinationError):
            copy_vault(world.store, FaultyStore(target, at, fault), world.clock)
        if target.head("config") is None and not list(target.keys("copies/2/config")):
            with pytest.raises(VaultMissingError):
                opened(world, target)
        copy_vault(world.store, target, world.clock)
        assert content(target) == world.objects()


def test_another_place_is_left_alone() -> None:
    world = filled()
    other = SmallVault()
    with pytest.raises(VaultFormatError, match="another vault"):
        copy_vault(world.store, other.store, world.clock)
    strange = MemoryStore()
    strange.put("somebody/elses", [b"x"])
    with pytest.raises(UsageError, match="not empty"):
        copy_vault(world.store, strange, world.clock)
    assert list(strange.keys()) == ["somebody/elses"]
    begun = MemoryStore()
    for key in other.names("keys/"):
        begun.put(key, [other.store.get(key)])
    with pytest.raises(UsageError, match="not empty"):
        copy_vault(world.store, begun, world.clock)
    with pytest.raises(VaultMissingError):
        copy_vault(MemoryStore(), MemoryStore(), world.clock)


def test_keys_follow_the_vault() -> None:
    world, target = filled(), MemoryStore()
    copy_vault(world.store, target, world.clock)
    vault, now = world.opened(), world.clock.now()
    file = KeyFile(b"f" * 32)
    keys, _slot = add_slot(vault.objects, vault.sealing.keys, file, label="", now=now)
    remove_slot(vault.objects, keys, keys.slots[0].holder.slot, now)
    world.secret = file
    world.back_up(STUDY, "new")
    copy_vault(world.store, target, world.clock)
    assert list(target.keys("keys/")) == world.names("keys/")
    is_sound(world, target)
    # Keys that were changed in the copy would be lost: nothing is copied.
    copy = opened(world, target)
    rotate(copy.objects, copy.sealing.keys, now)
    with pytest.raises(UsageError, match="keys of the copy were changed"):
        copy_vault(world.store, target, world.clock)


def test_damage_is_not_copied() -> None:
    world = filled()
    store = world.store
    assert isinstance(store, MemoryStore)
    pack = max(world.names("packs/"), key=lambda key: len(store.get(key)))
    snapshot = world.names("snapshots/")[0]
    for key in (pack, snapshot):
        data = store.get(key)
        store._objects[key] = data[:80] + bytes([data[80] ^ 1]) + data[81:]
    target = MemoryStore()
    assert copy_vault(store, target, world.clock).damaged == []  # parity, and other copies
    is_sound(world, target)
    for key in world.names("parity/"):
        store.delete(key)
    target = MemoryStore()
    assert copy_vault(store, target, world.clock).damaged == [pack]
    assert target.head(pack) is None


def test_a_prune_in_the_copy_waits() -> None:
    world, target = filled(), MemoryStore()
    copy_vault(world.store, target, world.clock)
    with hold_lease(target, world.clock, "prune"), pytest.raises(VaultBusyError):
        copy_vault(world.store, target, world.clock)


def test_what_is_written_meanwhile_comes_in_another_round() -> None:
    world, target = filled(), MemoryStore()
    copy = world.store.keys
    rounds: list[str] = []

    def keys(prefix: str = ""):  # type: ignore[no-untyped-def]
        found = list(copy(prefix))
        if prefix == "packs/" and len(rounds) < 2:
            rounds.append(prefix)
            world.store.keys = copy  # type: ignore[method-assign]
            world.back_up(STUDY, f"new{len(rounds)}", range(2))  # small packs are put together
            world.store.keys = keys  # type: ignore[method-assign]
        return iter(found)

    world.store.keys = keys  # type: ignore[method-assign]
    done = copy_vault(world.store, target, world.clock)
    world.store.keys = copy  # type: ignore[method-assign]
    assert not done.is_behind
    is_sound(world, target)
    assert restored(present_state(opened(world, target)), STUDY) == restored(
        present_state(world.opened()), STUDY
    )


def test_some_snapshots() -> None:
    world = SmallVault(redundant=True)
    first = world.back_up(STUDY, "a", range(6))
    second = world.back_up(OTHER, "b", range(6))
    world.back_up(STUDY, "c", range(6))
    hold_study(world.opened(), OTHER, "a lawsuit")
    target = MemoryStore()
    done, links = copy_snapshots(world.opened(), target, [second.name])
    assert [link.name for link in links] == [second.name]
    assert done.bytes < sum(map(len, world.objects().values()))
    is_sound(world, target)
    copy = opened(world, target)
    state = present_state(copy)
    assert restored(state, STUDY) == expected(STUDY, "a", range(6))
    assert restored(state, OTHER) == expected(OTHER, "b", range(6))
    assert first.name in state.forgotten.snapshots
    assert state.holds().keys() == {OTHER}
    again, _links = copy_snapshots(world.opened(), target, [second.name])
    assert again.objects == 0
    assert present_state(opened(world, target)).links == state.links
    # Another one of the chain is no longer forgotten there.
    copy_snapshots(world.opened(), target, [first.name, "latest"])
    state = present_state(opened(world, target))
    assert first.name not in state.forgotten.snapshots
    assert restored(state, STUDY) == expected(STUDY, "c", range(6))
    is_sound(world, target)


def test_what_was_forgotten_since_is_not_copied() -> None:
    world = SmallVault()
    first = world.back_up(STUDY, "a", range(6))
    world.back_up(OTHER, "b", range(6))
    forget_study(world.opened(), STUDY)
    target = MemoryStore()
    copy_snapshots(world.opened(), target, [first.name])
    state = present_state(opened(world, target))
    assert restored(state, STUDY) == {}
    is_sound(world, target)
    with pytest.raises(UsageError, match="no snapshot"):
        copy_snapshots(world.opened(), MemoryStore(), ["abcdef"])
