"""Changes of keys: holders keep access, who is removed loses it, no interruption loses any."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pyrage  # type: ignore[import-untyped]
import pytest

from dcmvault.errors import (
    DcmvaultError,
    UsageError,
    VaultBusyError,
    VaultDamagedError,
    VaultFormatError,
    VaultLockedError,
)
from dcmvault.object_stores.memory import MemoryStore
from dcmvault.testing.faulty import CrashError, Fault, FaultyStore
from dcmvault.vault.config import VaultConfig
from dcmvault.vault.copies import RedundantObjects
from dcmvault.vault.key_changes import (
    VaultKeys,
    add_slot,
    create_keys,
    drop_superseded,
    load_keys,
    make_recovery_key,
    remove_slot,
    rotate,
    rotate_if_due,
    set_rotation,
)
from dcmvault.vault.key_objects import KeySet, encode_generation, key_of
from dcmvault.vault.keys import RotationPolicy, new_ring, new_signing_key, verify_key_of
from dcmvault.vault.recovery_words import from_words
from dcmvault.vault.slots import (
    AgeIdentity,
    AgeRecipient,
    Applicant,
    Argon2Cost,
    KeyFile,
    Passphrase,
    RecoveryKey,
    Secret,
    new_slot,
)

_NOW = datetime(2026, 1, 31, tzinfo=UTC)
_CHEAP = Argon2Cost(iterations=1, lanes=1, memory_kib=8)
_SHA = hashlib.sha256(b"config").digest()
_AGE = pyrage.x25519.Identity.generate()
_PASSPHRASE, _FILE, _OTHER = Passphrase("open"), KeyFile(b"f" * 32), KeyFile(b"o" * 32)


class _World:
    """A new vault's keys in a store of their own."""

    def __init__(self, applicants: list[Applicant], *, encrypted: bool = True) -> None:
        self.store = MemoryStore()
        self.objects = RedundantObjects(self.store)
        self.seed = new_signing_key()
        self.config = VaultConfig(
            bytes(range(16)), "2026", encrypted, 3, True, 0, verify_key_of(self.seed)
        )
        create_keys(
            self.objects,
            self.config,
            new_ring(_SHA, self.seed, _NOW),
            [(one, "first") for one in applicants],
            _NOW,
            cost=_CHEAP,
        )

    def load(self, *secrets: Secret) -> VaultKeys:
        return load_keys(self.objects, secrets, self.config, _SHA)

    def names(self) -> list[str]:
        return self.objects.keys("keys/")


def _slot_of(keys: VaultKeys, number: int) -> str:
    return keys.slots[number].holder.slot


def test_a_new_vault_opens_and_has_three_copies_of_its_keys() -> None:
    world = _World([_PASSPHRASE])
    keys = world.load(_PASSPHRASE)
    assert keys.ring.generation == 1
    assert len(list(world.store.keys())) == 3
    assert keys.left_behind == ()


def test_an_encrypted_vault_without_any_key_is_not_made() -> None:
    with pytest.raises(UsageError):
        _World([])


def test_add_and_remove() -> None:
    world = _World([_PASSPHRASE])
    keys = world.load(_PASSPHRASE)
    keys, slot = add_slot(world.objects, keys, _FILE, label=" the safe ", now=_NOW)
    assert slot.label == "the safe"
    assert world.load(_FILE).ring == world.load(_PASSPHRASE).ring == keys.ring
    assert keys.ring.generation == 2
    assert len(world.names()) == 1

    before = keys
    keys = remove_slot(world.objects, keys, _slot_of(keys, 0), _NOW)
    with pytest.raises(VaultLockedError):
        world.load(_PASSPHRASE)
    assert world.load(_FILE).ring == keys.ring
    assert keys.opened.master != before.opened.master
    assert keys.ring.newest.number == 2  # what comes now, who was removed never had a key for
    assert keys.ring.epoch_key(1) == before.ring.epoch_key(1)
    assert keys.ring.id_key == before.ring.id_key


def test_removal_keeps_everybody_else_without_asking_them() -> None:
    recovery = RecoveryKey(bytes(20))
    world = _World([_PASSPHRASE, _FILE, recovery, AgeRecipient(str(_AGE.to_public())), _OTHER])
    keys = world.load(_OTHER)
    keys = remove_slot(world.objects, keys, _slot_of(keys, 4), _NOW)
    staying: list[Secret] = [_PASSPHRASE, _FILE, recovery, AgeIdentity(str(_AGE))]
    for secret in staying:
        assert world.load(secret).opened == keys.opened
    with pytest.raises(VaultLockedError):
        world.load(_OTHER)
    assert [slot.label for slot in keys.slots] == ["first"] * 4


def test_the_last_slot_and_unknown_ones_are_not_removed() -> None:
    world = _World([_PASSPHRASE])
    keys = world.load(_PASSPHRASE)
    with pytest.raises(UsageError, match="last slot"):
        remove_slot(world.objects, keys, _slot_of(keys, 0), _NOW)
    with pytest.raises(UsageError, match="no such slot"):
        remove_slot(world.objects, keys, "00000000", _NOW)
    assert world.load(_PASSPHRASE) == keys


def test_the_same_key_is_not_added_twice() -> None:
    world = _World([_FILE])
    with pytest.raises(UsageError, match="already"):
        add_slot(world.objects, world.load(_FILE), _FILE, label="", now=_NOW)


def test_a_recovery_key_opens_what_it_was_printed_for() -> None:
    world = _World([_PASSPHRASE])
    keys, rows = make_recovery_key(
        world.objects, world.load(_PASSPHRASE), label="in the safe", now=_NOW
    )
    typed = "\n".join(" ".join(row) for row in rows)
    assert world.load(RecoveryKey(from_words(typed))) == keys


def test_rotation_keeps_slots_and_older_epochs() -> None:
    world = _World([_PASSPHRASE, _FILE])
    first = world.load(_PASSPHRASE)
    later = _NOW + timedelta(days=3)
    second = rotate(world.objects, first, later)
    assert [epoch.number for epoch in second.ring.epochs] == [1, 2]
    assert second.ring.newest.opened_at == later
    assert second.ring.newest.key != first.ring.newest.key
    assert second.slots == first.slots
    assert world.load(_FILE).ring == second.ring


def test_rotation_by_policy() -> None:
    world = _World([_FILE])
    keys = world.load(_FILE)
    assert keys.ring.rotation == RotationPolicy(365, 1 << 40)
    assert rotate_if_due(world.objects, keys, _NOW, 5) is keys
    keys = set_rotation(world.objects, keys, RotationPolicy(days=30, bytes=100), _NOW)
    assert world.load(_FILE).ring.rotation == RotationPolicy(30, 100)
    keys = rotate_if_due(world.objects, keys, _NOW, 100)
    assert keys.ring.newest.number == 2
    keys = rotate_if_due(world.objects, keys, _NOW + timedelta(days=30), 0)
    assert keys.ring.newest.number == 3
    assert rotate_if_due(world.objects, keys, _NOW + timedelta(days=31), 99) is keys


def test_without_encryption_there_is_nothing_to_change() -> None:
    world = _World([], encrypted=False)
    keys = world.load()
    with pytest.raises(UsageError, match="not encrypted"):
        add_slot(world.objects, keys, _FILE, label="", now=_NOW)
    with pytest.raises(UsageError, match="not encrypted"):
        rotate(world.objects, keys, _NOW)
    assert rotate_if_due(world.objects, keys, _NOW + timedelta(days=999), 0) is keys
    with pytest.raises(UsageError, match="no slots"):
        _World([_FILE], encrypted=False)


def test_two_changes_at_once_do_not_both_succeed() -> None:
    world = _World([_PASSPHRASE])
    keys = world.load(_PASSPHRASE)
    rotated = rotate(world.objects, keys, _NOW)
    with pytest.raises(VaultBusyError):
        add_slot(world.objects, keys, _FILE, label="", now=_NOW)
    assert world.load(_PASSPHRASE) == rotated


def test_who_finds_another_generation_of_the_same_number_yields() -> None:
    world = _World([_PASSPHRASE])
    keys = world.load(_PASSPHRASE)

    class _Overtaken(RedundantObjects):
        def put(self, key: str, data: bytes) -> None:
            self.rival = rotate(world.objects, keys, _NOW)
            super().put(key, data)

    overtaken = _Overtaken(world.store)
    with pytest.raises(VaultBusyError):
        add_slot(overtaken, keys, _FILE, label="", now=_NOW)
    assert world.names() == [overtaken.rival.key]
    assert world.load(_PASSPHRASE) == overtaken.rival


def _encoded(world: _World, keys: VaultKeys, generation: int) -> tuple[str, KeySet]:
    opened = replace(keys.opened, ring=replace(keys.ring, generation=generation))
    data = encode_generation(opened, world.config.vault_id, _NOW, encrypted=True)
    key = key_of(generation, data)
    world.objects.put(key, data)
    return key, opened


def test_of_several_of_one_generation_the_first_by_name_counts() -> None:
    world = _World([_PASSPHRASE])
    keys = world.load(_PASSPHRASE)
    names = sorted(_encoded(world, keys, 2)[0] for _number in range(5))
    assert world.load(_PASSPHRASE).key == names[0]
    changed = rotate(world.objects, world.load(_PASSPHRASE), _NOW)
    assert world.names() == [changed.key]


def test_a_key_that_was_removed_opens_no_older_generation_that_was_left() -> None:
    world = _World([_PASSPHRASE, _FILE])
    keys = world.load(_PASSPHRASE)
    old = {key: world.objects.get(key) for key in world.names()}
    now = remove_slot(world.objects, keys, _slot_of(keys, 0), _NOW)
    for key, data in old.items():
        world.objects.put(key, data)
    with pytest.raises(VaultLockedError):
        world.load(_PASSPHRASE)
    assert world.load(_FILE).left_behind == tuple(old)
    assert drop_superseded(world.objects, world.config) == list(old)
    assert world.names() == [now.key]
    assert drop_superseded(world.objects, world.config) == []


def test_what_others_put_beside_the_keys_does_not_count() -> None:
    """Somebody may write to the store, but has no key; the holders' public keys are public."""
    world = _World([_PASSPHRASE, _FILE])
    keys = world.load(_PASSPHRASE)
    data = world.objects.get(keys.key)
    master = bytes(32)
    theirs = tuple(
        new_slot(one, master, world.config.vault_id, label="", now=_NOW, cost=_CHEAP)
        for one in (_PASSPHRASE, _FILE)
    )
    ring = replace(
        new_ring(_SHA, new_signing_key(), _NOW),
        generation=99_999_999,
        holders=tuple(slot.holder for slot in theirs),
    )
    forged = encode_generation(
        KeySet(ring, theirs, master), world.config.vault_id, _NOW, encrypted=True
    )
    newer = data[:5] + b"\x09" + data[6:]
    foreign = data[:16] + bytes(16) + data[32:]
    for planted in (forged, newer, foreign, b"", data[:-1], b"x" * 2000):
        world.objects.put(key_of(99_999_999, planted), planted)
        world.objects.put(key_of(2, planted), planted)
    world.objects.put(key_of(3, data), data)  # under the number of another generation
    assert world.load(_PASSPHRASE).opened == keys.opened
    changed = rotate(world.objects, world.load(_PASSPHRASE), _NOW)
    assert changed.ring.generation == 2
    assert world.names() == [changed.key]


def test_a_slot_replaced_by_an_attacker_never_receives_a_new_master_key() -> None:
    world = _World([_PASSPHRASE, _FILE])
    keys = world.load(_PASSPHRASE)
    attacker = KeyFile(b"a" * 32)
    planted = new_slot(attacker, bytes(32), world.config.vault_id, label="first", now=_NOW)
    planted = replace(planted, holder=replace(planted.holder, slot=_slot_of(keys, 1)))
    data = world.objects.get(keys.key)
    length = int.from_bytes(data[64:68], "little")
    public = data[68 : 68 + length].replace(
        keys.slots[1].holder.public_or_recipient.encode(),
        planted.holder.public_or_recipient.encode(),
    )
    altered = data[:68] + public + data[68 + length :]
    assert altered != data
    world.objects.delete(keys.key)
    world.objects.put(key_of(1, altered), altered)
    with pytest.raises(VaultDamagedError):
        world.load(_PASSPHRASE)

    # Even slots altered in memory, after they were checked: the ring's holders decide.
    world.objects.delete(key_of(1, altered))
    world.objects.put(keys.key, data)
    misled = replace(keys, opened=replace(keys.opened, slots=(keys.slots[0], planted)))
    remove_slot(world.objects, misled, _slot_of(keys, 0), _NOW)
    with pytest.raises(VaultLockedError):
        world.load(attacker)
    assert world.load(_FILE).ring.generation == 2


def test_keys_of_another_configuration_are_refused() -> None:
    world = _World([_PASSPHRASE])
    with pytest.raises(VaultFormatError, match="configuration"):
        load_keys(world.objects, [_PASSPHRASE], world.config, bytes(32))


def test_missing_and_foreign_keys_are_said() -> None:
    world = _World([_PASSPHRASE])
    (name,) = world.names()
    with pytest.raises(VaultFormatError, match="another vault"):
        load_keys(world.objects, [_PASSPHRASE], replace(world.config, vault_id=bytes(16)), _SHA)
    world.objects.delete(name)
    with pytest.raises(VaultDamagedError, match="keys are missing"):
        world.load(_PASSPHRASE)
    assert drop_superseded(world.objects, world.config) == []


def test_two_damaged_copies_of_three_do_no_harm() -> None:
    world = _World([_PASSPHRASE])
    (name,) = world.names()
    for place in (name, f"copies/1/{name}"):
        data = world.store.get(place)
        world.store.delete(place)
        world.store.put(place, [data[:100] + b"!" + data[101:]])
    keys = rotate(world.objects, world.load(_PASSPHRASE), _NOW)
    assert world.load(_PASSPHRASE) == keys
    assert len(list(world.store.keys())) == 3


def _add(objects: RedundantObjects, keys: VaultKeys) -> None:
    add_slot(objects, keys, _OTHER, label="", now=_NOW)


def _remove(objects: RedundantObjects, keys: VaultKeys) -> None:
    remove_slot(objects, keys, _slot_of(keys, 0), _NOW)


def _rotate(objects: RedundantObjects, keys: VaultKeys) -> None:
    rotate(objects, keys, _NOW)


@pytest.mark.parametrize("change", [_add, _remove, _rotate])
@pytest.mark.parametrize("fault", list(Fault))
def test_a_fault_at_every_moment_leaves_the_old_keys_or_the_new(
    change: object, fault: Fault
) -> None:
    assert callable(change)
    at = 0
    while True:
        at += 1
        world = _World([_PASSPHRASE, _FILE])
        faulty = FaultyStore(world.store, at, fault)
        objects = RedundantObjects(faulty)
        before = world.load(_FILE)
        outcome = ""
        try:
            change(objects, before)
        except (CrashError, DcmvaultError) as error:
            outcome = type(error).__name__
        after = world.load(_FILE)
        assert after.ring.generation in (1, 2)
        assert after.ring.epochs[: len(before.ring.epochs)] == before.ring.epochs
        if not outcome:
            assert after.ring.generation == 2
        if change is _remove and after.ring.generation == 2:
            with pytest.raises(VaultLockedError):
                world.load(_PASSPHRASE)
        # The next command just works, and leaves nothing behind.
        final = rotate(world.objects, after, _NOW)
        assert world.names() == [final.key]
        assert len(list(world.store.keys())) == 3
        if faulty.operations < at:
            break
    assert at > 10
