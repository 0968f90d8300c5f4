"""Generations of the key ring as objects: `keys/GGGGGGGG-SHA` (format page, 4)."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from dcmvault.errors import DcmvaultError, UsageError, VaultDamagedError, VaultLockedError
from dcmvault.vault.config import VaultConfig
from dcmvault.vault.crypto import (
    HEADER_BYTES,
    TAG_BYTES,
    Header,
    Sealer,
    new_header,
    read_header,
)
from dcmvault.vault.keys import KEY_BYTES, Epoch, KeyRing, RotationPolicy
from dcmvault.vault.records import time_text
from dcmvault.vault.slots import (
    Secret,
    Slot,
    holder_as_json,
    holder_from_json,
    read_hex,
    read_time,
    unwrap,
)

KEYS_PREFIX = "keys/"
#: The master key of a vault without encryption.
NO_MASTER = bytes(KEY_BYTES)
MAX_SLOTS = 64
_KIND = b"K"
_MAX_GENERATION = 99_999_999  # eight digits
_LENGTH_BYTES = 4
_SIGNATURE_BYTES = 64
_MAX_PUBLIC_BYTES = 1 << 20
_NAME = re.compile(r"keys/([0-9]{8})-[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True)
class KeySet:
    """One generation, opened."""

    ring: KeyRing
    slots: tuple[Slot, ...]  #: in the order in which they were made
    master: bytes = field(repr=False)


class _Parts(NamedTuple):
    """An object of kind K taken apart, its signature checked."""

    header: Header
    public: bytes
    sealed: bytes


def key_of(generation: int, data: bytes) -> str:
    """Return the key under which a generation is stored."""
    return f"{KEYS_PREFIX}{generation:08d}-{hashlib.sha256(data).hexdigest()}"


def generation_of(key: str) -> int | None:
    """Return the generation that a key names, None if it names none."""
    found = _NAME.match(key)
    return int(found[1]) if found else None


def encode_generation(keys: KeySet, vault_id: bytes, now: datetime, *, encrypted: bool) -> bytes:
    """Return a generation as an object, under a salt of its own.

    UsageError for more than 64 slots, or for slots in a vault without encryption.
    """
    ring = keys.ring
    if len(keys.slots) > MAX_SLOTS:
        raise UsageError(f"a vault has at most {MAX_SLOTS} slots")
    if ring.generation > _MAX_GENERATION:
        raise VaultDamagedError("the vault's keys have a generation that dcmvault never reaches")
    if keys.slots and not encrypted:
        raise UsageError("a vault without encryption has no slots")
    public = _json(
        {
            "generation": ring.generation,
            "created_at": time_text(now),
            "slots": [slot.as_json() for slot in keys.slots],
        }
    )
    header = new_header(_KIND, vault_id, encrypted=encrypted, epoch=ring.generation)
    sealed = Sealer(header, keys.master).seal(
        0, _KIND, hashlib.sha256(public).digest(), _json(_ring_as_json(ring))
    )
    signed = header.pack() + len(public).to_bytes(_LENGTH_BYTES, "little") + public + sealed
    return signed + Ed25519PrivateKey.from_private_bytes(ring.signing_key).sign(signed)


def check_generation(data: bytes, config: VaultConfig) -> int:
    """Check, without keys, that this is a generation of this vault; return its number.

    Raises VaultDamagedError, or VaultFormatError for a newer format or another vault's.
    """
    return _take_apart(data, config).header.epoch


def open_generation(data: bytes, secrets: Sequence[Secret], config: VaultConfig) -> KeySet:
    """Open a generation with whichever secret fits; none is needed without encryption.

    That the ring's `config_sha256` is that of `config` is for the caller to check. Raises
    VaultLockedError if no secret fits, VaultDamagedError for what was altered.
    """
    parts = _take_apart(data, config)
    slots = _slots_of(parts)
    master = _master(slots, secrets, config.vault_id) if config.encrypted else NO_MASTER
    identity = hashlib.sha256(parts.public).digest()
    opened = Sealer(parts.header, master).open(0, _KIND, identity, parts.sealed)
    ring = _ring_from_json(opened, parts.header.epoch)
    if ring.holders != tuple(slot.holder for slot in slots):
        raise VaultDamagedError("the slots of the vault's keys are not those that its ring names")
    return KeySet(ring, slots, master)


def _take_apart(data: bytes, config: VaultConfig) -> _Parts:
    header = read_header(data, _KIND, config.vault_id)
    if header.encrypted != config.encrypted:
        raise VaultDamagedError("the vault's keys use another cipher than its configuration names")
    signed, signature = data[:-_SIGNATURE_BYTES], data[-_SIGNATURE_BYTES:]
    try:
        Ed25519PublicKey.from_public_bytes(config.verify_key).verify(signature, signed)
    except (InvalidSignature, ValueError):
        raise VaultDamagedError(
            "the vault's keys are damaged, or somebody else's: their signature is not the vault's"
        ) from None
    start = HEADER_BYTES + _LENGTH_BYTES
    length = int.from_bytes(signed[HEADER_BYTES:start], "little")
    least = start + length + (TAG_BYTES if header.encrypted else 0)
    if length > _MAX_PUBLIC_BYTES or least > len(signed):
        raise VaultDamagedError("the vault's keys cannot be read")
    return _Parts(header, signed[start : start + length], signed[start + length :])


def _slots_of(parts: _Parts) -> tuple[Slot, ...]:
    try:
        document = json.loads(parts.public)
        generation, listed = document["generation"], document["slots"]
        if len(listed) > MAX_SLOTS or generation != parts.header.epoch:
            raise ValueError
        return tuple(Slot.from_json(one) for one in listed)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise VaultDamagedError("the vault's keys cannot be read") from error


def _master(slots: Sequence[Slot], secrets: Sequence[Secret], vault_id: bytes) -> bytes:
    refusal: DcmvaultError | None = None
    for secret in secrets:
        for slot in slots:
            try:
                master = unwrap(slot, secret, vault_id)
            except DcmvaultError as error:  # another slot or secret may still open the vault
                refusal = refusal or error
                continue
            if master is not None:
                return master
    if refusal is not None:
        raise refusal
    kinds = ", ".join(sorted({slot.holder.kind.value for slot in slots})) or "none"
    if not secrets:
        raise VaultLockedError(
            "the vault is encrypted, and no key was given to open it"
            f" (it has slots of kind: {kinds})",
            hint="Set DCMVAULT_PASSPHRASE, or name a key in the configuration.",
        )
    tried = ", ".join(sorted({secret.kind.value for secret in secrets}))
    raise VaultLockedError(
        f"no key that was given opens the vault (given: {tried}; it has slots of kind: {kinds})",
        hint="Check the passphrase or key file, or use the printed recovery key.",
    )


def _ring_as_json(ring: KeyRing) -> dict[str, Any]:
    return {
        "config": ring.config_sha256.hex(),
        "id_key": ring.id_key.hex(),
        "signing_key": ring.signing_key.hex(),
        "epochs": [
            {"epoch": one.number, "key": one.key.hex(), "opened_at": time_text(one.opened_at)}
            for one in ring.epochs
        ],
        "rotation": {"days": ring.rotation.days, "bytes": ring.rotation.bytes},
        "slots": [holder_as_json(holder) for holder in ring.holders],
    }


def _ring_from_json(content: bytes, generation: int) -> KeyRing:
    try:
        document = json.loads(content)
        rotation = document["rotation"]
        epochs = tuple(
            Epoch(int(one["epoch"]), read_hex(one["key"], KEY_BYTES), read_time(one["opened_at"]))
            for one in document["epochs"]
        )
        if not epochs:
            raise ValueError
        return KeyRing(
            generation=generation,
            config_sha256=read_hex(document["config"], KEY_BYTES),
            id_key=read_hex(document["id_key"], KEY_BYTES),
            signing_key=read_hex(document["signing_key"], KEY_BYTES),
            epochs=tuple(sorted(epochs, key=lambda epoch: epoch.number)),
            rotation=RotationPolicy(int(rotation["days"]), int(rotation["bytes"])),
            holders=tuple(holder_from_json(one) for one in document["slots"]),
        )
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise VaultDamagedError("the vault's key ring cannot be read") from error


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
