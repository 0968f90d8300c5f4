"""Finding the generation of keys that counts, and writing new ones (format page, 4).

Every change takes the keys as they were loaded and returns them as they are now. Who changes keys
holds the vault's lease; if two change them nevertheless, at most one succeeds and the other gets
VaultBusyError, with nothing changed. After any other error the vault has either the old keys or the
new ones, whole: load them again.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from dcmvault.errors import (
    DestinationError,
    ObjectMissingError,
    UsageError,
    VaultBusyError,
    VaultDamagedError,
    VaultFormatError,
)
from dcmvault.vault import recovery_words
from dcmvault.vault.config import VaultConfig
from dcmvault.vault.key_objects import (
    KEYS_PREFIX,
    NO_MASTER,
    KeySet,
    check_generation,
    encode_generation,
    generation_of,
    key_of,
    open_generation,
)
from dcmvault.vault.keys import KEY_BYTES, Epoch, KeyRing, RotationPolicy
from dcmvault.vault.slots import (
    Applicant,
    Argon2Cost,
    RecoveryKey,
    Secret,
    Slot,
    new_slot,
    wrap_for,
)

_log = logging.getLogger(__name__)


class KeyObjects(Protocol):
    """What is needed of `copies.RedundantObjects`."""

    def put(self, key: str, data: bytes) -> None:
        """Store an object in three copies, durable on return."""
        ...

    def get(self, key: str) -> bytes:
        """Return the bytes that the key promises."""
        ...

    def keys(self, prefix: str = "") -> Iterable[str]:
        """List keys."""
        ...

    def delete(self, key: str) -> None:
        """Remove all copies."""
        ...


@dataclass(frozen=True, slots=True)
class VaultKeys:
    """The keys of a vault as they lie in its store."""

    config: VaultConfig
    key: str  #: of the object that they were read from
    opened: KeySet
    #: Older generations that could not be removed. Keys that were removed may still open them;
    #: the next change, or `drop_superseded`, removes them.
    left_behind: tuple[str, ...] = ()

    @property
    def ring(self) -> KeyRing:
        """The secrets."""
        return self.opened.ring

    @property
    def slots(self) -> tuple[Slot, ...]:
        """Who can open the vault, oldest first."""
        return self.opened.slots


def load_keys(
    objects: KeyObjects, secrets: Sequence[Secret], config: VaultConfig, config_sha256: bytes
) -> VaultKeys:
    """Open the generation that counts.

    Raises VaultLockedError if no secret fits it, VaultFormatError if `config` is not the one that
    the keys belong to or the format is newer, VaultDamagedError if no generation is sound. A secret
    that was removed never opens an older generation that was left behind.
    """
    listed = _listed(objects)
    found = _counting(objects, config, listed)
    while found is None and (again := _listed(objects)) != listed:
        listed = again  # somebody changed the keys just now
        found = _counting(objects, config, listed)
    if found is None:
        raise VaultDamagedError(
            "the vault's keys are missing, or damaged in all their copies",
            hint="Bring the objects under keys/ back from another copy of the vault: without them"
            " nothing opens.",
        )
    key, data = found
    opened = open_generation(data, secrets, config)
    if opened.ring.config_sha256 != config_sha256:
        raise VaultFormatError(
            "the vault's configuration is not the one that its keys belong to",
            hint="Somebody changed the object `config`, or put another vault's in its place.",
        )
    others = tuple(other for _generation, other in listed if other != key)
    return VaultKeys(config, key, opened, others)


def create_keys(
    objects: KeyObjects,
    config: VaultConfig,
    ring: KeyRing,
    applicants: Sequence[tuple[Applicant, str]],
    now: datetime,
    *,
    cost: Argon2Cost | None = None,
) -> VaultKeys:
    """Write the first generation of a new vault, with a slot for each (applicant, label).

    UsageError if an encrypted vault would have no slot, or one without encryption would have any.
    """
    if config.encrypted and not applicants:
        raise UsageError(
            "an encrypted vault needs a passphrase or another key",
            hint="Without one nobody could open it, or say --no-encryption.",
        )
    master = os.urandom(KEY_BYTES) if config.encrypted else NO_MASTER
    opened = KeySet(ring, (), master)
    for applicant, label in applicants:
        slot = new_slot(applicant, master, config.vault_id, label=label, now=now, cost=cost)
        opened = _with_slots(opened, [*opened.slots, slot])
    data = encode_generation(opened, config.vault_id, now, encrypted=config.encrypted)
    key = key_of(ring.generation, data)
    objects.put(key, data)
    return VaultKeys(config, key, opened)


def add_slot(
    objects: KeyObjects,
    keys: VaultKeys,
    applicant: Applicant,
    *,
    label: str,
    now: datetime,
    cost: Argon2Cost | None = None,
) -> tuple[VaultKeys, Slot]:
    """Let somebody else open the vault. UsageError if this key already does."""
    _refuse_without_encryption(keys)
    opened = keys.opened
    slot = new_slot(applicant, opened.master, keys.config.vault_id, label=label, now=now, cost=cost)
    for other in opened.slots:
        if other.holder.public_or_recipient == slot.holder.public_or_recipient:
            raise UsageError(f"this key has slot {other.holder.slot} of the vault already")
        if other.holder.slot == slot.holder.slot:  # one in four thousand million
            return add_slot(objects, keys, applicant, label=label, now=now, cost=cost)
    return _write(objects, keys, _with_slots(opened, [*opened.slots, slot]), now), slot


def remove_slot(objects: KeyObjects, keys: VaultKeys, slot: str, now: datetime) -> VaultKeys:
    """Shut somebody out: the master key is replaced, and a new epoch is opened.

    What was written before, the slot's holder may have read. UsageError for an unknown slot or
    the last one.
    """
    _refuse_without_encryption(keys)
    opened = keys.opened
    staying = [one for one in opened.slots if one.holder.slot != slot]
    if len(staying) == len(opened.slots):
        raise UsageError(
            "the vault has no such slot", hint="`dcmvault vault key list` shows its slots."
        )
    if not staying:
        raise UsageError(
            "this is the last slot; without it nobody could open the vault",
            hint="Add another key first.",
        )
    master, vault_id = os.urandom(KEY_BYTES), keys.config.vault_id
    # Slots were compared with the ring's holders when they were opened; the holders decide.
    holders = {holder.slot: holder for holder in opened.ring.holders}
    wrapped = [
        wrap_for(replace(one, holder=holders[one.holder.slot]), master, vault_id) for one in staying
    ]
    changed = _with_slots(replace(opened, master=master), wrapped)
    return _write(objects, keys, _with_new_epoch(changed, now), now)


def make_recovery_key(
    objects: KeyObjects, keys: VaultKeys, *, label: str, now: datetime
) -> tuple[VaultKeys, list[list[str]]]:
    """Add a recovery key and return its rows of words, to be printed once and kept nowhere."""
    secret = RecoveryKey(os.urandom(recovery_words.ENTROPY_BYTES))
    changed, _slot = add_slot(objects, keys, secret, label=label, now=now)
    return changed, recovery_words.to_rows(secret.entropy)


def rotate(objects: KeyObjects, keys: VaultKeys, now: datetime) -> VaultKeys:
    """Open a new epoch: what is written from now on has another key; nothing is rewritten."""
    _refuse_without_encryption(keys)
    return _write(objects, keys, _with_new_epoch(keys.opened, now), now)


def rotate_if_due(
    objects: KeyObjects, keys: VaultKeys, now: datetime, bytes_written_in_epoch: int
) -> VaultKeys:
    """Open a new epoch if the vault's policy asks for it, else return the keys as they are."""
    if not keys.config.encrypted or not keys.ring.rotation_due(now, bytes_written_in_epoch):
        return keys
    return rotate(objects, keys, now)


def set_rotation(
    objects: KeyObjects, keys: VaultKeys, policy: RotationPolicy, now: datetime
) -> VaultKeys:
    """Change when epochs are opened by themselves."""
    _refuse_without_encryption(keys)
    changed = replace(keys.opened, ring=replace(keys.ring, rotation=policy))
    return _write(objects, keys, changed, now)


def drop_superseded(objects: KeyObjects, config: VaultConfig) -> list[str]:
    """Remove the generations that no longer count (a crash may leave them); return their keys.

    Never removes anything unless a sound generation stays. Like any change of keys, this is for
    who holds the lease.
    """
    found = _counting(objects, config)
    if found is None:
        return []
    removed = []
    for _generation, key in _listed(objects):
        if key != found[0]:
            _delete(objects, key)
            removed.append(key)
    return removed


def _listed(objects: KeyObjects) -> list[tuple[int, str]]:
    """List (generation, key): the highest first, of one generation the first key first."""
    found = [(generation_of(key), key) for key in objects.keys(KEYS_PREFIX)]
    named = [(generation, key) for generation, key in found if generation is not None]
    return sorted(named, key=lambda one: (-one[0], one[1]))


def _counting(
    objects: KeyObjects, config: VaultConfig, listed: Iterable[tuple[int, str]] | None = None
) -> tuple[str, bytes] | None:
    """Return key and bytes of the generation that counts, None if none is sound.

    VaultFormatError if all there are belong to a newer format or another vault.
    """
    foreign: VaultFormatError | None = None
    for generation, key in _listed(objects) if listed is None else listed:
        try:
            data = objects.get(key)
            if check_generation(data, config) == generation:
                return key, data
        except (VaultDamagedError, ObjectMissingError) as error:
            _log.warning("generation %d of the vault's keys does not count: %s", generation, error)
        except VaultFormatError as error:
            _log.warning("generation %d of the vault's keys does not count: %s", generation, error)
            foreign = foreign or error
    if foreign is not None:
        raise foreign
    return None


def _with_slots(opened: KeySet, slots: Sequence[Slot]) -> KeySet:
    ring = replace(opened.ring, holders=tuple(slot.holder for slot in slots))
    return replace(opened, ring=ring, slots=tuple(slots))


def _with_new_epoch(opened: KeySet, now: datetime) -> KeySet:
    ring = opened.ring
    epoch = Epoch(ring.newest.number + 1, os.urandom(KEY_BYTES), now)
    return replace(opened, ring=replace(ring, epochs=(*ring.epochs, epoch)))


def _refuse_without_encryption(keys: VaultKeys) -> None:
    if not keys.config.encrypted:
        raise UsageError(
            "the vault is not encrypted, so it has no keys to change",
            hint="Make an encrypted vault and copy the studies into it.",
        )


def _write(objects: KeyObjects, keys: VaultKeys, changed: KeySet, now: datetime) -> VaultKeys:
    """Write the next generation, then remove the others."""
    before = _listed(objects)
    counting = _counting(objects, keys.config)
    if counting is None or counting[0] != keys.key:
        raise _changed_meanwhile()
    generation = keys.ring.generation + 1
    changed = replace(changed, ring=replace(changed.ring, generation=generation))
    data = encode_generation(changed, keys.config.vault_id, now, encrypted=keys.config.encrypted)
    key = key_of(generation, data)
    objects.put(key, data)
    # The lease should keep others away. Should it fail, who sees what another wrote meanwhile
    # yields: so no key comes into use that does not count.
    known = {key, *(name for _generation, name in before)}
    if any(name not in known for _generation, name in _listed(objects)):
        _delete(objects, key)
        raise _changed_meanwhile()
    _log.info("wrote generation %d of the vault's keys", generation)
    left = tuple(old for _generation, old in before if not _removed(objects, old))
    return VaultKeys(keys.config, key, changed, left)


def _delete(objects: KeyObjects, key: str) -> None:
    try:
        objects.delete(key)
    except ObjectMissingError:
        _log.debug("already gone: %s", key)


def _removed(objects: KeyObjects, key: str) -> bool:
    """Remove what no longer counts; an error here does not undo the change that was made."""
    try:
        _delete(objects, key)
    except DestinationError as error:
        _log.warning("%s could not be removed: %s", key, error)
        return False
    return True


def _changed_meanwhile() -> VaultBusyError:
    return VaultBusyError(
        "somebody else changed the vault's keys at the same time; nothing was changed here",
        hint="Try again.",
    )
