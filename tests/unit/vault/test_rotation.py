"""Epochs open by themselves, and processes that opened the vault before go on."""

from __future__ import annotations

import pytest
from tests.unit.vault.small_vault import CHEAP, OTHER, STUDY, SmallVault, expected, restored

from dcmvault.destinations.vault_at_work import VaultAtWork
from dcmvault.errors import VaultDamagedError, VaultLockedError
from dcmvault.vault import rotation
from dcmvault.vault.key_changes import VaultKeys, add_slot, remove_slot, rotate, set_rotation
from dcmvault.vault.keys import RotationPolicy
from dcmvault.vault.lease import hold_lease
from dcmvault.vault.repository import Vault
from dcmvault.vault.rotation import bytes_in_newest_epoch, rotate_when_due
from dcmvault.vault.slots import KeyFile
from dcmvault.vault.state import present_state


def with_policy(world: SmallVault, days: int, size: int) -> None:
    vault = world.opened()
    policy = RotationPolicy(days, size)
    set_rotation(vault.objects, vault.sealing.keys, policy, world.clock.now())


def looked_at(world: SmallVault) -> Vault:
    vault = world.opened()
    present_state(vault)
    return vault


def test_an_old_epoch_is_followed_by_another() -> None:
    world = SmallVault()
    world.back_up(STUDY, "a")
    with_policy(world, 30, 0)
    assert not rotate_when_due(looked_at(world))
    world.clock.advance(31 * 86400)
    vault = looked_at(world)
    assert rotate_when_due(vault)
    assert vault.sealing.ring.newest.number == 2
    assert not rotate_when_due(vault)
    assert not rotate_when_due(looked_at(world))
    world.write(OTHER, "b", vault=vault)
    assert restored(present_state(world.opened()), STUDY) == expected(STUDY, "a")
    assert restored(present_state(world.opened()), OTHER) == expected(OTHER, "b")


def test_so_is_a_large_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "_SAMPLE", 4)
    world = SmallVault()
    world.back_up(STUDY, "a", range(6))
    stored = bytes_in_newest_epoch(looked_at(world))
    assert stored == sum(len(world.store.get(key)) for key in world.names("packs/"))
    with_policy(world, 0, stored + 1)
    assert not rotate_when_due(looked_at(world))
    with_policy(world, 0, stored)
    assert rotate_when_due(looked_at(world))
    # All packs are more than the limit, but those of the newest epoch are not.
    vault = looked_at(world)
    assert bytes_in_newest_epoch(vault) == 0
    assert not rotate_when_due(vault)
    world.write(OTHER, "b", range(12), vault)
    assert bytes_in_newest_epoch(looked_at(world)) > 0


def test_who_holds_the_lease_goes_first() -> None:
    world = SmallVault()
    world.back_up(STUDY, "a")
    with_policy(world, 1, 0)
    world.clock.advance(2 * 86400)
    with hold_lease(world.store, world.clock, "prune"):
        assert not rotate_when_due(looked_at(world))
    assert rotate_when_due(looked_at(world))


def test_a_vault_without_encryption_has_no_epochs_to_open() -> None:
    world = SmallVault(encrypted=False)
    world.back_up(STUDY, "a")
    world.clock.advance(1000 * 86400)
    assert not rotate_when_due(looked_at(world))


def test_who_opened_the_vault_before_reads_what_came_after() -> None:
    world = SmallVault()
    world.back_up(STUDY, "a")
    before = looked_at(world)
    vault = world.opened()
    rotate(vault.objects, vault.sealing.keys, world.clock.now())
    world.back_up(STUDY, "b")
    assert restored(present_state(before), STUDY) == expected(STUDY, "b")
    assert before.sealing.ring.newest.number == 2
    # And what it writes has the new key.
    world.write(OTHER, "c", vault=before)
    assert restored(present_state(world.opened()), OTHER) == expected(OTHER, "c")


def test_keys_are_loaded_again_once_for_an_epoch_that_nobody_knows() -> None:
    world = SmallVault()
    vault = looked_at(world)
    loads: list[int] = []
    load = vault.sealing._load_keys
    assert load is not None

    def counted() -> VaultKeys:
        loads.append(1)
        return load()

    vault.sealing._load_keys = counted
    header = vault.sealing.new_header(b"J")._replace(epoch=9)
    for _ in range(3):
        with pytest.raises(VaultDamagedError, match="key epoch 9"):
            vault.sealing.key_of(header)
    assert loads == []  # nothing under keys/ is new
    other = world.opened()
    rotate(other.objects, other.sealing.keys, world.clock.now())
    for _ in range(3):
        with pytest.raises(VaultDamagedError, match="key epoch 9"):
            vault.sealing.key_of(header)
    assert loads == [1]


def test_who_was_shut_out_is_told() -> None:
    world = SmallVault()
    world.back_up(STUDY, "a")
    before = looked_at(world)
    vault = world.opened()
    file = KeyFile(b"f" * 32)
    now = world.clock.now()
    keys, _slot = add_slot(vault.objects, vault.sealing.keys, file, label="", now=now, cost=CHEAP)
    remove_slot(vault.objects, keys, keys.slots[0].holder.slot, now)
    with pytest.raises(VaultLockedError):
        rotate_when_due(before)


def test_who_works_with_a_vault_goes_on_by_the_passphrase_of_now() -> None:
    """A daemon that opened it by the old one is not started anew when it is told the new one."""
    world = SmallVault()
    world.back_up(STUDY, "a")
    at_work = VaultAtWork(world.opened, world.clock, tuple)
    at_work.look_to_write()
    vault = world.opened()
    file = KeyFile(b"f" * 32)
    now = world.clock.now()
    keys, _slot = add_slot(vault.objects, vault.sealing.keys, file, label="", now=now, cost=CHEAP)
    remove_slot(vault.objects, keys, keys.slots[0].holder.slot, now)
    world.clock.advance(601)
    for _look in range(2):
        with pytest.raises(VaultLockedError):
            at_work.look_to_write()
    world.secret = file
    assert at_work.look_to_write().vault.sealing.keys.slots[0].holder.kind is file.kind
