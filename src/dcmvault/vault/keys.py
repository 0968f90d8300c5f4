"""The key ring: what opens a vault's objects, and who may be given it (format page, 4)."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from dcmvault.errors import VaultDamagedError

KEY_BYTES = 32


class SlotKind(StrEnum):
    """Ways to hold the master key; the values are those of the format."""

    PASSPHRASE = "passphrase"  # noqa: S105 -- the name of a kind
    KEY_FILE = "key_file"
    RECOVERY = "recovery"
    AGE = "age"


@dataclass(frozen=True, slots=True)
class Epoch:
    """One key that objects are sealed with, and when it came into use."""

    number: int  #: from 1
    key: bytes = field(repr=False)  #: 32 bytes
    opened_at: datetime


@dataclass(frozen=True, slots=True)
class RotationPolicy:
    """When a new epoch is opened by itself; 0 means no such limit."""

    days: int = 365
    #: Written in the newest epoch.
    bytes: int = 1 << 40

    def __post_init__(self) -> None:
        """Refuse limits below 0 (ValueError)."""
        if self.days < 0 or self.bytes < 0:
            message = "limits of a rotation policy are not negative"
            raise ValueError(message)


@dataclass(frozen=True, slots=True)
class SlotHolder:
    """Who may be given a new master key."""

    slot: str  #: 8 hexadecimal digits
    kind: SlotKind
    #: X25519 public key as 64 hexadecimal digits; of kind `age` the recipient `age1...`.
    public_or_recipient: str


@dataclass(frozen=True, slots=True)
class KeyRing:
    """All secrets of a vault but the master key, as one generation has them."""

    generation: int  #: from 1
    config_sha256: bytes
    id_key: bytes = field(repr=False)
    signing_key: bytes = field(repr=False)  #: Ed25519 seed
    epochs: tuple[Epoch, ...]  #: ascending
    rotation: RotationPolicy
    holders: tuple[SlotHolder, ...]

    @property
    def newest(self) -> Epoch:
        """The epoch that writers use."""
        return self.epochs[-1]

    def epoch_key(self, number: int) -> bytes:
        """Return the key of an epoch; VaultDamagedError if the ring does not have it."""
        for epoch in reversed(self.epochs):
            if epoch.number == number:
                return epoch.key
        raise VaultDamagedError(
            f"an object of the vault belongs to key epoch {number}, which its key ring does not"
            f" have (the newest is {self.newest.number})",
            hint="The objects under keys/ may be older than the rest of the vault; bring the newer"
            " ones back from another copy of it.",
        )

    def rotation_due(self, now: datetime, bytes_written: int) -> bool:
        """Say whether the policy asks for a new epoch.

        `bytes_written` is what was stored under the newest epoch.
        """
        policy = self.rotation
        too_old = policy.days and now - self.newest.opened_at >= timedelta(days=policy.days)
        too_large = policy.bytes and bytes_written >= policy.bytes
        return bool(too_old or too_large)


def new_signing_key() -> bytes:
    """Make the seed that a new vault signs with; its verify key belongs in `config`."""
    return os.urandom(KEY_BYTES)


def verify_key_of(signing_key: bytes) -> bytes:
    """Return the Ed25519 public key of a seed, as `config` names it."""
    public = Ed25519PrivateKey.from_private_bytes(signing_key).public_key()
    return public.public_bytes(Encoding.Raw, PublicFormat.Raw)


def new_ring(
    config_sha256: bytes,
    signing_key: bytes,
    now: datetime,
    rotation: RotationPolicy | None = None,
) -> KeyRing:
    """Make the ring of a new vault: one epoch, nobody who holds the master key yet."""
    return KeyRing(
        generation=1,
        config_sha256=config_sha256,
        id_key=os.urandom(KEY_BYTES),
        signing_key=signing_key,
        epochs=(Epoch(1, os.urandom(KEY_BYTES), now),),
        rotation=rotation or RotationPolicy(),
        holders=(),
    )
