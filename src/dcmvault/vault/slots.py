"""Slots: the master key, wrapped for each who may open the vault (format page, 4)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import threading
import unicodedata
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, ClassVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from dcmvault.errors import UsageError, VaultDamagedError, VaultFormatError, VaultLockedError
from dcmvault.vault import age
from dcmvault.vault.crypto import TAG_BYTES, derive
from dcmvault.vault.keys import KEY_BYTES, SlotHolder, SlotKind
from dcmvault.vault.records import time_text
from dcmvault.vault.recovery_words import ENTROPY_BYTES

#: Shorter key files are refused: they could be guessed.
MIN_KEY_FILE_BYTES = 32
MAX_LABEL_LENGTH = 100
_SLOT_BYTES = 4
_SALT_BYTES = 16
_NONCE = bytes(12)
#: More than these are asked for by nobody who wants the vault to be opened.
_MAX_MEMORY_KIB = 4 << 20
_MAX_ITERATIONS = 64
_MAX_LANES = 64
#: Keys of passphrases that a process remembers.
_MOST_DERIVED = 16


@dataclass(frozen=True, slots=True)
class Argon2Cost:
    """What guessing a passphrase costs (RFC 9106); the default takes a moment and 64 MiB."""

    iterations: int = 3
    lanes: int = 4
    memory_kib: int = 65536

    def check(self) -> None:
        """Refuse what would exhaust this computer (VaultFormatError); slots are not our words."""
        if not 0 < self.memory_kib <= _MAX_MEMORY_KIB:
            raise VaultFormatError(
                f"a passphrase slot of the vault asks for {self.memory_kib} KiB of memory;"
                f" dcmvault gives at most {_MAX_MEMORY_KIB}",
                hint="No dcmvault writes such a slot. Use another key, and ask who changed it.",
            )
        sane = 0 < self.iterations <= _MAX_ITERATIONS and 0 < self.lanes <= _MAX_LANES
        if not sane or self.memory_kib < 8 * self.lanes:
            raise VaultFormatError(
                f"a passphrase slot of the vault asks for {self.iterations} iterations in"
                f" {self.lanes} lanes, which dcmvault does not compute",
                hint="No dcmvault writes such a slot. Use another key, and ask who changed it.",
            )


@dataclass(frozen=True, slots=True)
class Passphrase:
    """Words that somebody remembers; whoever reads them takes off the line's end."""

    kind: ClassVar = SlotKind.PASSPHRASE
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class KeyFile:
    """The bytes of a file that somebody keeps."""

    kind: ClassVar = SlotKind.KEY_FILE
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class RecoveryKey:
    """The 20 bytes of a printed recovery key."""

    kind: ClassVar = SlotKind.RECOVERY
    entropy: bytes = field(repr=False)

    def __post_init__(self) -> None:
        """Refuse another length (ValueError)."""
        if len(self.entropy) != ENTROPY_BYTES:
            message = f"a recovery key has {ENTROPY_BYTES} bytes"
            raise ValueError(message)


@dataclass(frozen=True, slots=True)
class AgeIdentity:
    """The text of an age identity file: opens slots of its recipient."""

    kind: ClassVar = SlotKind.AGE
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class AgeRecipient:
    """An age recipient, `age1...`: who may open the vault, without the secret to do so."""

    kind: ClassVar = SlotKind.AGE
    text: str


#: What opens a vault.
Secret = Passphrase | KeyFile | RecoveryKey | AgeIdentity
#: What a slot can be made for.
Applicant = Passphrase | KeyFile | RecoveryKey | AgeRecipient


@dataclass(frozen=True, slots=True)
class Slot:
    """The master key wrapped for one holder. Nothing here is secret."""

    holder: SlotHolder
    label: str
    created_at: datetime
    wrapped: bytes
    #: X25519 public key of who wrapped; empty for `age`.
    ephemeral: bytes = b""
    #: Of kind `passphrase`.
    salt: bytes = b""
    cost: Argon2Cost | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the JSON object of the format page."""
        shown: dict[str, Any] = {
            "slot": self.holder.slot,
            "kind": self.holder.kind.value,
            "label": self.label,
            "created_at": time_text(self.created_at),
        }
        if self.holder.kind is SlotKind.AGE:
            shown["recipient"] = self.holder.public_or_recipient
            shown["wrapped"] = base64.b64encode(self.wrapped).decode()
            return shown
        if self.cost is not None:
            shown["argon2id"] = {
                "salt": self.salt.hex(),
                "iterations": self.cost.iterations,
                "lanes": self.cost.lanes,
                "memory_kib": self.cost.memory_kib,
            }
        shown["public"] = self.holder.public_or_recipient
        shown["ephemeral"] = self.ephemeral.hex()
        shown["wrapped"] = self.wrapped.hex()
        return shown

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Slot:
        """Read a slot.

        VaultDamagedError for what is none, VaultFormatError for a kind of a newer dcmvault.
        """
        try:
            holder = holder_from_json(document)
            label, created_at = document["label"], read_time(document["created_at"])
            if not isinstance(label, str):
                raise TypeError
            if holder.kind is SlotKind.AGE:
                wrapped = base64.b64decode(document["wrapped"], validate=True)
                return cls(holder, label, created_at, wrapped)
            salt, cost = b"", None
            if holder.kind is SlotKind.PASSPHRASE:
                salt, cost = _argon2_from_json(document["argon2id"])
            wrapped = read_hex(document["wrapped"], KEY_BYTES + TAG_BYTES)
            ephemeral = read_hex(document["ephemeral"], KEY_BYTES)
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            raise VaultDamagedError("a slot of the vault's keys cannot be read") from error
        return cls(holder, label, created_at, wrapped, ephemeral, salt, cost)


def holder_from_json(document: Mapping[str, Any]) -> SlotHolder:
    """Read who holds a slot; KeyError, TypeError or ValueError for what is none."""
    slot = read_hex(document["slot"], _SLOT_BYTES).hex()
    name = document["kind"]
    if name not in tuple(SlotKind):
        raise VaultFormatError(
            "the vault has a slot of a kind that this dcmvault does not know",
            hint="Use a newer version of dcmvault.",
        )
    kind = SlotKind(name)
    if kind is SlotKind.AGE:
        recipient = document["recipient"]
        if not isinstance(recipient, str):
            raise TypeError
        return SlotHolder(slot, kind, recipient)
    return SlotHolder(slot, kind, read_hex(document["public"], KEY_BYTES).hex())


def holder_as_json(holder: SlotHolder) -> dict[str, Any]:
    """Return a holder as the ring keeps it."""
    member = "recipient" if holder.kind is SlotKind.AGE else "public"
    return {
        "slot": holder.slot,
        "kind": holder.kind.value,
        member: holder.public_or_recipient,
    }


def new_slot(
    applicant: Applicant,
    master: bytes,
    vault_id: bytes,
    *,
    label: str,
    now: datetime,
    cost: Argon2Cost | None = None,
) -> Slot:
    """Make a slot for somebody new. UsageError for a key that is too weak or a bad label."""
    label = _checked_label(label)
    slot = os.urandom(_SLOT_BYTES).hex()
    salt = b""
    if isinstance(applicant, Passphrase):
        salt, cost = os.urandom(_SALT_BYTES), cost or Argon2Cost()
    else:
        cost = None
    if isinstance(applicant, AgeRecipient):
        holder = SlotHolder(slot, SlotKind.AGE, age.checked_recipient(applicant.text))
    else:
        _check_strength(applicant)
        private = _private_key(applicant, salt, cost)
        holder = SlotHolder(slot, applicant.kind, _public(private).hex())
    empty = Slot(holder, label, now, b"", b"", salt, cost)
    return wrap_for(empty, master, vault_id)


def wrap_for(slot: Slot, master: bytes, vault_id: bytes) -> Slot:
    """Wrap a master key for a slot's holder, for which no secret is needed."""
    holder = slot.holder
    if holder.kind is SlotKind.AGE:
        return replace(slot, wrapped=age.encrypt(master, holder.public_or_recipient))
    private = X25519PrivateKey.from_private_bytes(os.urandom(KEY_BYTES))
    ephemeral, public = _public(private), bytes.fromhex(holder.public_or_recipient)
    try:
        shared = private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as error:  # a point of low order: nobody's public key
        raise VaultDamagedError("a slot of the vault has a public key that is none") from error
    wrapped = _wrapping(shared, ephemeral, public).encrypt(
        _NONCE, master, vault_id + bytes.fromhex(holder.slot)
    )
    return replace(slot, ephemeral=ephemeral, wrapped=wrapped)


def unwrap(slot: Slot, secret: Secret, vault_id: bytes) -> bytes | None:
    """Return the master key, or None if the slot is not this secret's.

    VaultFormatError for a slot whose cost is absurd, VaultDamagedError for one that belongs to the
    secret and yet does not open, VaultLockedError if this computer lacks memory or age.
    """
    if slot.holder.kind is not secret.kind:
        return None
    if isinstance(secret, AgeIdentity):
        master = age.decrypt(slot.wrapped, secret.text)
        return master if master is not None and len(master) == KEY_BYTES else None
    private = _private_key(secret, slot.salt, slot.cost)
    public = _public(private)
    if public.hex() != slot.holder.public_or_recipient:
        return None
    try:
        shared = private.exchange(X25519PublicKey.from_public_bytes(slot.ephemeral))
        return _wrapping(shared, slot.ephemeral, public).decrypt(
            _NONCE, slot.wrapped, vault_id + bytes.fromhex(slot.holder.slot)
        )
    except (InvalidTag, ValueError):
        raise VaultDamagedError(
            f"slot {slot.holder.slot} of the vault's keys is damaged: it belongs to the key that"
            " was given, but does not open"
        ) from None


def read_time(text: str) -> datetime:
    """Read a time as the format writes it; ValueError or TypeError for what is none."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        message = "a time without time zone"
        raise ValueError(message)
    return moment.astimezone(UTC)


def read_hex(text: str, length: int) -> bytes:
    """Read hexadecimal digits of so many bytes; ValueError or TypeError for others."""
    value = bytes.fromhex(text)
    if len(value) != length or value.hex() != text:
        message = "not the hexadecimal digits that are expected"
        raise ValueError(message)
    return value


def _argon2_from_json(document: Mapping[str, Any]) -> tuple[bytes, Argon2Cost]:
    numbers = [document[name] for name in ("iterations", "lanes", "memory_kib")]
    if not all(type(number) is int for number in numbers):
        raise TypeError
    return read_hex(document["salt"], _SALT_BYTES), Argon2Cost(*numbers)


def _checked_label(label: str) -> str:
    label = label.strip()
    if len(label) > MAX_LABEL_LENGTH or not label.isprintable():
        raise UsageError(
            f"a label has at most {MAX_LABEL_LENGTH} characters, all of them printable",
        )
    return label


def _check_strength(applicant: Passphrase | KeyFile | RecoveryKey) -> None:
    if isinstance(applicant, Passphrase) and not applicant.text.strip():
        raise UsageError("the passphrase is empty")
    if isinstance(applicant, KeyFile) and len(applicant.content) < MIN_KEY_FILE_BYTES:
        raise UsageError(
            f"the key file has {len(applicant.content)} bytes; at least"
            f" {MIN_KEY_FILE_BYTES} are needed",
            hint="Make one with: head -c 64 /dev/urandom > FILE",
        )


def _private_key(
    secret: Passphrase | KeyFile | RecoveryKey, salt: bytes, cost: Argon2Cost | None
) -> X25519PrivateKey:
    if isinstance(secret, KeyFile):
        raw = derive(secret.content, b"", b"dcmvault 1 key file")
    elif isinstance(secret, RecoveryKey):
        raw = derive(secret.entropy, b"", b"dcmvault 1 recovery")
    else:
        assert cost is not None
        words = unicodedata.normalize("NFC", secret.text).encode()
        raw = _derived_keys.derive(words, salt, cost)
    return X25519PrivateKey.from_private_bytes(raw)


class _DerivedKeys:
    """Remembers which keys passphrases came to, so that a daemon derives each of them once.

    It opens its vaults again every few minutes to see whether they still answer. Passphrases are
    not kept: a key is found by a digest that only this process can make. Safe for threads.
    """

    def __init__(self) -> None:
        self._secret = os.urandom(32)
        self._keys: OrderedDict[bytes, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def derive(self, words: bytes, salt: bytes, cost: Argon2Cost) -> bytes:
        """Derive a key unless it is known; errors as `_argon2id` raises them."""
        numbers = f"{cost.iterations},{cost.lanes},{cost.memory_kib},{len(salt)},".encode()
        name = hashlib.blake2b(numbers + salt + words, key=self._secret).digest()
        # One at a time: two derivations at once, each of several lanes, wait for each other's
        # lanes in OpenSSL's pool of threads, for ever.
        with self._lock:
            if name not in self._keys:
                self._keys[name] = _argon2id(words, salt, cost)
            self._keys.move_to_end(name)
            if len(self._keys) > _MOST_DERIVED:
                self._keys.popitem(last=False)
            return self._keys[name]


_derived_keys = _DerivedKeys()


def _argon2id(words: bytes, salt: bytes, cost: Argon2Cost) -> bytes:
    cost.check()
    derivation = Argon2id(
        salt=salt,
        length=KEY_BYTES,
        iterations=cost.iterations,
        lanes=cost.lanes,
        memory_cost=cost.memory_kib,
    )
    try:
        return derivation.derive(words)
    except MemoryError:
        raise VaultLockedError(
            f"the passphrase needs {cost.memory_kib // 1024} MiB of memory for a moment, and this"
            " computer does not have them free",
            hint="Close other programs, or use a key file.",
        ) from None


def _public(private: X25519PrivateKey) -> bytes:
    return private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def _wrapping(shared: bytes, ephemeral: bytes, public: bytes) -> AESGCM:
    return AESGCM(derive(shared, ephemeral + public, b"dcmvault 1 slot"))
