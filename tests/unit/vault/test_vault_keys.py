"""Slots and generations: what opens, what does not, and what hostile stores are refused."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pyrage  # type: ignore[import-untyped]
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dcmvault.errors import (
    DcmvaultError,
    UsageError,
    VaultDamagedError,
    VaultFormatError,
    VaultLockedError,
)
from dcmvault.vault import age, slots
from dcmvault.vault.config import VaultConfig
from dcmvault.vault.crypto import Sealer, new_header, read_header
from dcmvault.vault.key_objects import (
    MAX_SLOTS,
    NO_MASTER,
    KeySet,
    check_generation,
    encode_generation,
    generation_of,
    key_of,
    open_generation,
)
from dcmvault.vault.keys import (
    Epoch,
    RotationPolicy,
    new_ring,
    new_signing_key,
    verify_key_of,
)
from dcmvault.vault.slots import (
    AgeIdentity,
    AgeRecipient,
    Applicant,
    Argon2Cost,
    KeyFile,
    Passphrase,
    RecoveryKey,
    Secret,
    Slot,
    new_slot,
    unwrap,
)

_NOW = datetime(2026, 1, 31, 12, 34, 56, 789012, tzinfo=UTC)
_CHEAP = Argon2Cost(iterations=1, lanes=1, memory_kib=8)
_SEED = new_signing_key()
_AGE = pyrage.x25519.Identity.generate()
_IDENTITY = AgeIdentity(f"# created: 2026\n# public key: {_AGE.to_public()}\n{_AGE}\n")
_APPLICANTS: list[Applicant] = [
    Passphrase("céu azul"),
    KeyFile(b"k" * 64),
    RecoveryKey(bytes(range(20))),
    AgeRecipient(str(_AGE.to_public())),
]
_SECRETS: list[Secret] = [
    Passphrase("céu azul"),
    KeyFile(b"k" * 64),
    RecoveryKey(bytes(range(20))),
    _IDENTITY,
]
_WRONG: list[Secret] = [
    Passphrase("céu azul "),
    KeyFile(b"k" * 63),
    RecoveryKey(bytes(range(1, 21))),
    AgeIdentity(str(pyrage.x25519.Identity.generate())),
]


def _config(*, encrypted: bool = True) -> VaultConfig:
    return VaultConfig(bytes(range(16)), "2026", encrypted, 3, True, 0, verify_key_of(_SEED))


def _keys(applicants: list[Applicant], *, encrypted: bool = True) -> KeySet:
    master = os.urandom(32) if encrypted else NO_MASTER
    vault_id = _config().vault_id
    slots = tuple(
        new_slot(one, master, vault_id, label="who", now=_NOW, cost=_CHEAP) for one in applicants
    )
    ring = new_ring(hashlib.sha256(b"config").digest(), _SEED, _NOW)
    return KeySet(replace(ring, holders=tuple(slot.holder for slot in slots)), slots, master)


def _encode(keys: KeySet) -> bytes:
    return encode_generation(keys, _config().vault_id, _NOW, encrypted=True)


def _forge(
    keys: KeySet,
    *,
    public: Callable[[dict[str, Any]], Any] = lambda document: None,
    seed: bytes = _SEED,
) -> bytes:
    """Write a generation whose public part was changed by somebody with these keys."""
    data = _encode(keys)
    length = int.from_bytes(data[64:68], "little")
    document = json.loads(data[68 : 68 + length])
    public(document)
    text = json.dumps(document).encode()
    header = new_header(b"K", _config().vault_id, encrypted=True, epoch=keys.ring.generation)
    original = _ring_bytes(data, keys.master)
    sealed = Sealer(header, keys.master).seal(0, b"K", hashlib.sha256(text).digest(), original)
    signed = header.pack() + len(text).to_bytes(4, "little") + text + sealed
    return signed + Ed25519PrivateKey.from_private_bytes(seed).sign(signed)


def _ring_bytes(data: bytes, master: bytes) -> bytes:
    length = int.from_bytes(data[64:68], "little")
    public, sealed = data[68 : 68 + length], data[68 + length : -64]
    header = read_header(data, b"K", _config().vault_id)
    return Sealer(header, master).open(0, b"K", hashlib.sha256(public).digest(), sealed)


@pytest.mark.parametrize("number", range(4))
def test_every_kind_of_slot_opens_and_a_wrong_key_does_not(number: int) -> None:
    keys = _keys(_APPLICANTS)
    data = _encode(keys)
    assert open_generation(data, [_SECRETS[number]], _config()) == keys
    assert open_generation(data, [*_WRONG, _SECRETS[number]], _config()) == keys
    with pytest.raises(VaultLockedError, match="no key that was given opens the vault"):
        open_generation(data, [_WRONG[number]], _config())
    alone = _keys([_APPLICANTS[number]])
    for other, secret in enumerate(_SECRETS):
        if other != number:
            with pytest.raises(VaultLockedError):
                open_generation(_encode(alone), [secret], _config())


def test_the_refusal_says_what_was_tried_and_what_there_is() -> None:
    data = _encode(_keys([_APPLICANTS[0], _APPLICANTS[2]]))
    with pytest.raises(VaultLockedError) as caught:
        open_generation(data, [_WRONG[0], _WRONG[1]], _config())
    assert caught.value.message == (
        "no key that was given opens the vault (given: key_file, passphrase;"
        " it has slots of kind: passphrase, recovery)"
    )
    assert caught.value.exit_status == 5
    with pytest.raises(VaultLockedError, match="no key was given to open it"):
        open_generation(data, [], _config())


def test_without_encryption_nothing_is_asked() -> None:
    keys = _keys([], encrypted=False)
    config = _config(encrypted=False)
    data = encode_generation(keys, config.vault_id, _NOW, encrypted=False)
    assert open_generation(data, [], config) == keys
    assert open_generation(data, [Passphrase("whatever")], config) == keys


def test_without_encryption_there_are_no_slots() -> None:
    with pytest.raises(UsageError):
        encode_generation(_keys(_APPLICANTS[:1]), _config().vault_id, _NOW, encrypted=False)


def test_secrets_are_not_shown() -> None:
    keys = _keys(_APPLICANTS)
    shown = repr(keys) + "".join(map(repr, [*_SECRETS, *_APPLICANTS[:3]]))
    for secret in (
        keys.master,
        keys.ring.id_key,
        keys.ring.signing_key,
        keys.ring.newest.key,
        b"k" * 64,
        bytes(range(20)),
    ):
        assert repr(secret) not in shown
        assert secret.hex() not in shown
    assert "azul" not in shown
    assert "AGE-SECRET" not in shown


def test_a_passphrase_is_the_same_however_it_was_typed() -> None:
    data = _encode(_keys([Passphrase(unicodedata.normalize("NFD", "ação é só"))]))
    open_generation(data, [Passphrase(unicodedata.normalize("NFC", "ação é só"))], _config())


def test_somebody_elses_ring_wrapped_for_our_public_keys_does_not_count() -> None:
    """Public keys are public: only the signature tells whose ring it is."""
    ours = _keys(_APPLICANTS)
    theirs = _keys(_APPLICANTS)
    ring = replace(
        new_ring(ours.ring.config_sha256, new_signing_key(), _NOW),
        holders=theirs.ring.holders,
        generation=9,
    )
    data = _encode(KeySet(ring, theirs.slots, theirs.master))
    with pytest.raises(VaultDamagedError, match="signature"):
        open_generation(data, _SECRETS, _config())
    with pytest.raises(VaultDamagedError, match="signature"):
        check_generation(data, _config())


def test_slots_that_the_ring_does_not_name_are_refused() -> None:
    keys = _keys(_APPLICANTS[:2])
    stranger = new_slot(
        KeyFile(b"s" * 64), keys.master, _config().vault_id, label="", now=_NOW
    ).as_json()

    def replaced(document: dict[str, Any]) -> None:
        document["slots"][0] = {**stranger, "slot": document["slots"][0]["slot"]}

    def added(document: dict[str, Any]) -> None:
        document["slots"].append(stranger)

    def removed(document: dict[str, Any]) -> None:
        del document["slots"][0]

    for change in (replaced, added, removed):
        with pytest.raises(VaultDamagedError, match="not those that its ring names"):
            open_generation(_forge(keys, public=change), [_SECRETS[1]], _config())
    open_generation(_forge(keys), [_SECRETS[1]], _config())


def test_an_object_without_encryption_does_not_pass_for_an_encrypted_one() -> None:
    keys = _keys([], encrypted=False)
    data = encode_generation(keys, _config().vault_id, _NOW, encrypted=False)
    with pytest.raises(VaultDamagedError, match="another cipher"):
        open_generation(data, _SECRETS, _config())


def test_another_vaults_object_is_told_apart() -> None:
    data = _encode(_keys(_APPLICANTS[:1]))
    with pytest.raises(VaultFormatError, match="another vault"):
        open_generation(data, _SECRETS, replace(_config(), vault_id=bytes(16)))


@pytest.mark.parametrize(
    "cost",
    [
        {"memory_kib": (4 << 20) + 1},
        {"memory_kib": 1 << 40},
        {"memory_kib": 0},
        {"memory_kib": -5},
        {"iterations": 65},
        {"iterations": 1 << 60},
        {"iterations": 0},
        {"lanes": 65},
        {"lanes": 0},
        {"lanes": 2, "memory_kib": 15},
    ],
)
def test_a_slot_that_would_exhaust_the_computer_is_not_computed(cost: dict[str, int]) -> None:
    keys = _keys(_APPLICANTS[:2])
    data = _forge(keys, public=lambda document: document["slots"][0]["argon2id"].update(cost))
    with pytest.raises(VaultFormatError, match="a passphrase slot of the vault asks for"):
        open_generation(data, [Passphrase("céu azul")], _config())
    # Its neighbours still open.
    assert open_generation(data, [_SECRETS[0], _SECRETS[1]], _config()).master == keys.master


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "passphrase", "argon2id": None},
        {"argon2id": {"salt": "00", "iterations": 1, "lanes": 1, "memory_kib": 8}},
        {"argon2id": {"salt": "00" * 16, "iterations": "1", "lanes": 1, "memory_kib": 8}},
        {"public": "zz" * 32},
        {"public": "00" * 31},
        {"ephemeral": None},
        {"wrapped": "00"},
        {"slot": "123"},
        {"label": 5},
        {"created_at": "yesterday"},
        {"created_at": "2026-01-31T12:34:56"},
        {"kind": 7, "public": None},
    ],
)
def test_slots_that_are_none(change: dict[str, Any]) -> None:
    def applied(document: dict[str, Any]) -> None:
        document["slots"][0].update(change)

    with pytest.raises((VaultDamagedError, VaultFormatError)):
        open_generation(_forge(_keys(_APPLICANTS[:1]), public=applied), _SECRETS, _config())


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document.clear(),
        lambda document: document.update(slots=7),
        lambda document: document.update(slots=[7]),
        lambda document: document.update(slots=document["slots"] * (MAX_SLOTS + 1)),
        lambda document: document.update(generation=2),
    ],
)
def test_public_parts_that_are_none(change: Callable[[dict[str, Any]], Any]) -> None:
    with pytest.raises(VaultDamagedError):
        open_generation(_forge(_keys(_APPLICANTS[:1]), public=change), _SECRETS, _config())


def test_a_kind_of_slot_of_a_newer_version_is_said() -> None:
    data = _forge(
        _keys(_APPLICANTS[:1]), public=lambda document: document["slots"][0].update(kind="tpm")
    )
    with pytest.raises(VaultFormatError, match="does not know"):
        open_generation(data, _SECRETS, _config())


def test_a_slot_that_was_moved_or_altered_does_not_give_the_master_key() -> None:
    master, vault_id = os.urandom(32), _config().vault_id
    secret = KeyFile(b"x" * 32)
    slot = new_slot(secret, master, vault_id, label="", now=_NOW)
    assert unwrap(slot, secret, vault_id) == master
    moved = replace(slot, holder=replace(slot.holder, slot="00000000"))
    low_order = replace(slot, ephemeral=bytes(32))
    for wrong in (moved, low_order, replace(slot, wrapped=bytes(48))):
        with pytest.raises(VaultDamagedError, match="belongs to the key that was given"):
            unwrap(wrong, secret, vault_id)
    with pytest.raises(VaultDamagedError):
        unwrap(slot, secret, bytes(16))


def test_slots_come_back_from_their_json() -> None:
    for slot in _keys(_APPLICANTS).slots:
        assert Slot.from_json(json.loads(json.dumps(slot.as_json()))) == slot


@pytest.mark.parametrize(
    "applicant", [Passphrase(""), Passphrase(" \t"), KeyFile(b"x" * 31), AgeRecipient("age1x")]
)
def test_keys_that_could_be_guessed_are_refused(applicant: Applicant) -> None:
    with pytest.raises(UsageError):
        new_slot(applicant, bytes(32), bytes(16), label="", now=_NOW, cost=_CHEAP)


@pytest.mark.parametrize("label", ["x" * 101, "two\nlines", "\x1b[31m"])
def test_labels_are_fit_to_be_shown(label: str) -> None:
    with pytest.raises(UsageError):
        new_slot(KeyFile(b"x" * 32), bytes(32), bytes(16), label=label, now=_NOW)


def test_an_identity_without_a_key_is_said() -> None:
    data = _encode(_keys([_APPLICANTS[3]]))
    with pytest.raises(VaultLockedError, match="no secret key of age"):
        open_generation(data, [AgeIdentity("age1somebody")], _config())


def test_age_that_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    data = _encode(_keys(_APPLICANTS))

    def absent(name: str) -> object:
        raise ImportError(name)

    monkeypatch.setattr(age, "import_module", absent)
    with pytest.raises(VaultLockedError) as caught:
        open_generation(data, [_IDENTITY], _config())
    assert 'pip install "dcmvault[age]"' in caught.value.hint
    assert open_generation(data, [_IDENTITY, _SECRETS[1]], _config()).slots


def test_names_of_generations() -> None:
    key = key_of(7, b"data")
    assert key == f"keys/00000007-{hashlib.sha256(b'data').hexdigest()}"
    assert generation_of(key) == 7
    for other in ("keys/7-" + "0" * 64, key + "0", "keys/README", "x" + key):
        assert generation_of(other) is None


def test_more_generations_than_eight_digits_count_are_refused() -> None:
    keys = _keys(_APPLICANTS[:1])
    with pytest.raises(VaultDamagedError):
        _encode(replace(keys, ring=replace(keys.ring, generation=100_000_000)))


def test_epochs_and_their_policy() -> None:
    ring = new_ring(bytes(32), _SEED, _NOW)
    assert ring.newest.number == 1
    assert ring.epoch_key(1) == ring.newest.key
    with pytest.raises(VaultDamagedError, match="key epoch 2"):
        ring.epoch_key(2)
    assert not ring.rotation_due(_NOW + timedelta(days=364, hours=23), (1 << 40) - 1)
    assert ring.rotation_due(_NOW + timedelta(days=365), 0)
    assert ring.rotation_due(_NOW, 1 << 40)
    never = replace(ring, rotation=RotationPolicy(0, 0))
    assert not never.rotation_due(_NOW + timedelta(days=9999), 1 << 60)
    second = Epoch(2, bytes(32), _NOW + timedelta(days=300))
    renewed = replace(ring, epochs=(*ring.epochs, second))
    assert not renewed.rotation_due(_NOW + timedelta(days=400), 0)
    with pytest.raises(ValueError, match="negative"):
        RotationPolicy(days=-1)


def test_every_tampered_byte_is_found_without_any_key() -> None:
    """The signature covers everything: no key is needed to tell."""
    keys = _keys(_APPLICANTS)
    data = _encode(keys)
    for at in range(len(data)):
        wrong = bytearray(data)
        wrong[at] ^= 1 << (at % 8)
        with pytest.raises(DcmvaultError):
            check_generation(bytes(wrong), _config())
    for length in range(0, len(data), 7):
        with pytest.raises(DcmvaultError):
            check_generation(data[:length], _config())


def test_every_tampered_byte_is_found_although_the_signature_is_made_anew() -> None:
    """Somebody who was removed may know the signing key, but not the master key."""
    keys = _keys(_APPLICANTS[1:3])
    data = _encode(keys)
    signer = Ed25519PrivateKey.from_private_bytes(_SEED)
    ignored = {7, 12, 13, 14, 15}  # bytes of the header that say nothing
    for at in range(len(data) - 64):
        wrong = bytearray(data[:-64])
        wrong[at] ^= 1 << (at % 8)
        signed = bytes(wrong) + signer.sign(bytes(wrong))
        if at in ignored:
            assert open_generation(signed, _SECRETS, _config()) == keys
            continue
        with pytest.raises(DcmvaultError):
            open_generation(signed, _SECRETS[1:3], _config())


def _opens(slot: Slot, text: str) -> bool:
    return unwrap(slot, Passphrase(text), bytes(16)) is not None


def test_a_passphrase_is_derived_once_for_each_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon opens its vaults every few minutes; a wrong passphrase costs no more than once."""
    derived = []

    def counted(words: bytes, salt: bytes, cost: Argon2Cost) -> bytes:
        derived.append(words)
        return hashlib.sha256(words + salt).digest()

    monkeypatch.setattr(slots, "_derived_keys", slots._DerivedKeys())
    monkeypatch.setattr(slots, "_argon2id", counted)
    one, other = (
        new_slot(Passphrase("sky"), bytes(32), bytes(16), label="", now=_NOW, cost=_CHEAP)
        for _number in range(2)
    )
    assert len(derived) == 2  # each has its own salt
    for _look in range(5):
        assert _opens(one, "sky")
        assert _opens(other, "sky")
        assert not _opens(one, "sea")
    assert derived == [b"sky", b"sky", b"sea"]
    assert not _opens(replace(one, cost=replace(_CHEAP, iterations=2)), "ski")
    for number in range(100):
        assert not _opens(one, f"sea {number}")
    assert len(slots._derived_keys._keys) == slots._MOST_DERIVED


@pytest.mark.timeout(120)
def test_threads_open_a_vault_at_once() -> None:
    """Derivations of several lanes do not wait for each other for ever."""
    cost = Argon2Cost(iterations=3, lanes=4, memory_kib=8192)
    slot = new_slot(Passphrase("sky"), bytes(32), bytes(16), label="", now=_NOW, cost=cost)
    opened = []

    def open_again(name: str) -> None:
        for number in range(10):
            opened.append(_opens(slot, f"{name}{number}"))
        opened.append(_opens(slot, "sky"))

    threads = [
        threading.Thread(target=open_again, args=(name,), daemon=True) for name in ("a", "b", "c")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(opened) == {False: 30, True: 3}
