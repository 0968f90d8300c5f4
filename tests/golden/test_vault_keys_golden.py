"""Keys written by the first version open for ever, and the page alone is enough to open them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from dcmvault.vault.config import VaultConfig
from dcmvault.vault.key_objects import encode_generation, key_of, open_generation
from dcmvault.vault.keys import verify_key_of
from dcmvault.vault.slots import (
    AgeIdentity,
    KeyFile,
    Passphrase,
    RecoveryKey,
    Secret,
    Slot,
    unwrap,
)

_NOW = datetime(2026, 1, 31, 12, 34, 56, 789012, tzinfo=UTC)
_VAULT_ID = bytes(range(16))
_SEED = bytes(range(32))
_CONFIG = VaultConfig(_VAULT_ID, "2026", True, 3, True, 0, verify_key_of(_SEED))
_MASTER = "11bad24828b0b372a4569367b2b7e9bae203e8b6b3f30c42387eb273ea57288e"
_SECRETS: list[Secret] = [
    Passphrase("c\u00e9u azul"),
    KeyFile(bytes(range(64))),
    RecoveryKey(bytes(range(0, 200, 10))),
]
_GENERATION = base64.b64decode(
    """
RENNVksBAQACAAAAAAAAAAABAgMEBQYHCAkKCwwNDg9XzK1C6k1Bog9c0ZZJUGmZDu1DYMLvHKepsSm2TMcdheAEAAB7Imdl
bmVyYXRpb24iOjIsImNyZWF0ZWRfYXQiOiIyMDI2LTAxLTMxVDEyOjM0OjU2Ljc4OTAxMloiLCJzbG90cyI6W3sic2xvdCI6
ImU2ZDIzMzlmIiwia2luZCI6InBhc3NwaHJhc2UiLCJsYWJlbCI6ImFuYSIsImNyZWF0ZWRfYXQiOiIyMDI2LTAxLTMxVDEy
OjM0OjU2Ljc4OTAxMloiLCJhcmdvbjJpZCI6eyJzYWx0IjoiNWFkZjhkNDlmYzg5YmQyOGNjOTVhMjM1YTBjMzkwMDkiLCJp
dGVyYXRpb25zIjoyLCJsYW5lcyI6MiwibWVtb3J5X2tpYiI6NjR9LCJwdWJsaWMiOiJhZDM2M2M5NTgwMThmNTBiMDMzZTVl
MTQ2NGNkNzc4NDRhYjIwY2YzYWIyM2Y2OTFmNWIyMTRkZjQ3YmNiNDNjIiwiZXBoZW1lcmFsIjoiOTM0MGY2Njg1OTNlNDBi
YzIzNTQzMGQ4ZTY0NDcwMmQ1Zjc1YzAxNThkMTRkMDZmNGZjNzBiOGZkNmE1NDI3YiIsIndyYXBwZWQiOiI4NDE1YTczNmEw
ZDdiMWMwZmUzMzA5NDI4MjU5MWM0ZTA3Yzc1NDg2M2E2Yjg1NWNiNzNlZWIwMjQyYmMxOWY2OTM4NjEwYjJkZTg3YzIxY2Fk
ZjFiN2NjMGU5MDE3NmQifSx7InNsb3QiOiJkOTQzYjc1ZiIsImtpbmQiOiJrZXlfZmlsZSIsImxhYmVsIjoiY29mcmUiLCJj
cmVhdGVkX2F0IjoiMjAyNi0wMS0zMVQxMjozNDo1Ni43ODkwMTJaIiwicHVibGljIjoiZWEwYTQzMjBkZmM2NmRmYmEzMTUx
YzdkZjhmY2JkYzNiNTZhMDI0OGNjNWJhMDhmMWI0OTYxZWE4MWY0ZjQxMSIsImVwaGVtZXJhbCI6Ijk2NmVjNzY5MmUzYmZl
YjVkZTBmNTNmMjliMjZlYjg3NzYwODQ4N2MwNzFmY2ZiODAxNjZiMTBjMDEwNjA0NzkiLCJ3cmFwcGVkIjoiMTA2NjYwYWQz
NzEzMWEyYjkzMzdjYzFiNTY5ZDMxOWY3ZTI5OTkwZWM2NDBjZGI2MjZmNDE2NzhiMjIzN2M2NDI0MDQ5ZDYzZTE1ZjcwOTkw
ZjllMmVhOGE3MmQ4MzRkIn0seyJzbG90IjoiMDFiMzJlYmQiLCJraW5kIjoicmVjb3ZlcnkiLCJsYWJlbCI6InBhcGVyIiwi
Y3JlYXRlZF9hdCI6IjIwMjYtMDEtMzFUMTI6MzQ6NTYuNzg5MDEyWiIsInB1YmxpYyI6ImQzODE5N2RmN2YwNTMyNzhkMjc4
MTNlNTkxOGQ3ZjFhYzc0ZWM2YzBmYWY4ZjdmZGIxOGQ5MWY4MWE3YmVmMGIiLCJlcGhlbWVyYWwiOiJlMzBlNzJiM2M3Njdk
ZDhiZDUzY2Q0OWFhNGRiMWRmNDRmZDY4NGIwNDg4MzYxODc2MjQ3OTI3YWI3N2VkYjQxIiwid3JhcHBlZCI6Ijk5MzdlZTQy
MDEwMGI2Mzg0M2E1NDM2NjUxZjc4NTAxOTk0YTJhNTUwNGYyNjhkYmVjNTJkMGVhZjNjODA4ZWFhZDYzNmU3MmJiMDk2MjEz
Y2RhZmU5YWI0NDM0OGIxZSJ9XX1xgHNZLu6MbfLgLLd0G+GWX+DyoGnxzjrTovwGqU1I/m28FmoVSLlD9skNHlKAldXdd1J3
cxxO/BODyF2SQp8KrPtKq7KJUuq5xqBQjjB5cqtCwb1X/25HFoMjf1Tzm/a3WJ5vt7B5qHO5ZKWChI/kSA63lMYLJtSdbHJE
GXUmJAdIIr4NNUbwfoHiv6JggW+NqSG27vCgyhh8vKMt04NlyuejwBiLu7gsACbFx4vAXn2shzxR9wQFr6W6FVzWZFM9SE5e
Pg32lqZGNZxYbhQ72At7PNkyojW/XCGuHTySkikU/2WtbUlhTczuyQMwMABR6VL/Ssn/ksadRzI52HkHlFTbUCFz7sskec7o
aishPZh885jSJOfBZ97yGc86i6hyttRUIXUNNbHfiRdjAox+fsA6Pyr/9lHNYhb/vc7+SanPlFn2pMX7X/1Qc27G99ucRnX+
cM4d6px3obVEauKf1bVd+5fhf/ObRzNlWS3z42UTJsKU3Vqod6DibrkYQt6QI1qBhPjze8hsGzpEXCXAZreH7U5QFHlOq8KQ
mpK2dE7y1oHeNT3YvUWqyDoMg6frXlsdBsMq4uYhC2KV/tvTPyNUJrBR0fL8j1YlWUlW9u0LoP6cbzk8qru34UsI5gyA62NN
dZGpgBKgMWDJE4fkWFjjc+moNqJ3AE2Q2Vv9QlJQUqTdmhxU8Lu9hWNcjWubAqe+K4W8iM5aoh+1bDy0gC98qVOrrWTcAH7v
7jEEjXDP1yRVNiFIdaLvJw1/mdGNZU98C3WJKTczZQD/HoO1X6dMmuLkMv4bsagMOYFK2wDIBdNrIcYmIhanfTwsicfhvyRJ
a6HsYYckLImSfr7SXMP2Y6POLU8pyXB7Fkt1J0+0v+LQJC5VumFyg/hioqGJATCQPZ51fIts4dWUuV5nKs6/K2dV3As0cie4
GPLZCgtqxlEUU5IVzWE9wfBLIG2jgR+OxpOf0lwpjtedAPyJj6oF6KcNQ1nlk2SirY6Z15ibEBt3SGVXqcHTM4aFRV3QVMQ1
5cfEd/7QuqKMqIp6pLfTBo8yfrsbq8PTnuRLkt6aMQvIFxeO028Iq3n8ZheaGHqw3VyfCwWaoLV9equpRbs9ryjd7ip6kkZn
O3FxFrppe37OfQH3y+DkHTke1Ns+JfvpXjIbcegOlm68ZpYj2eBCK8QvjlfJePdu0bWNGftsfg5m0sMEcbGYXBj1/lVsin6e
2Kwe8YfTFvWyTC5AlBnzulFDO6trsG+RJGT6Il1VJtyMXJVWwOX1guWLQempB/8lIL1BRM+xaSzIMiJn1hoN
"""
)
_IDENTITY = "AGE-SECRET-KEY-10RA3SHRTXXA60UHCYADUM92K79K9K2X87NLVXGDPN3NNN2689P6SNSAWFY"
_AGE_SLOT = {
    "slot": "5e23685e",
    "kind": "age",
    "label": "age",
    "created_at": "2026-01-31T12:34:56.789012Z",
    "recipient": "age1q4pccvg9muy8prv9j90t76sqjlped8m3thzhdjp2syls7frzasgse94q7e",
    "wrapped": (
        "YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IFgyNTUxOSA2UStuc2UyLzk1UUEzQzE2cjRKZ3ROQU9mbWVW"
        "TjlBY1ZCTXl2NEc3cmkwCmVvT2VqTWkzNWI0UVIrNTlzcDRDcnBIYzROWlBVZTRCRVl4ODRCN1owZWsK"
        "LT4gS3gwPD8lLWdyZWFzZSBhVXoiZ0Q/IFZBNnFnUSAhVUR7c2V3CjJlNlFsL3ZrRzlpaDMwV2ZBRVpK"
        "ZmtFaTBTT1g2b1NUbmZuWTJVSGpFWk9rVk4yWGFHNGJ5QkJsK1B2a2JjUWsKMW1PZFh6aEdNUGVIMWcK"
        "LS0tIHgxVCtEV2piQVRQMjBBZ2JZbnFFV2tFUkVBdnVPMmhBTG4zNGZWMU5LZEUK47Fc3ydQa15AbChM"
        "pltg2O1+hMkUpp/xB/pySYf4yuvftyfXLSDXC+2Pa1drfXV7373eIB6lgPozFqBIMlTRJQ=="
    ),
}
#: Of the same ring without encryption, under a salt of zeros.
_PLAIN_SHA256 = "5c5ae2755ea5d7e68959d421a4d695dadd7ea3f578e7979cb2a0f6ed18610986"


@pytest.mark.parametrize("number", range(3))
def test_opens_with_each_secret(number: int) -> None:
    keys = open_generation(_GENERATION, [_SECRETS[number]], _CONFIG)
    assert keys.master.hex() == _MASTER
    assert keys.ring.generation == 2
    assert [epoch.number for epoch in keys.ring.epochs] == [1, 2]
    assert [slot.label for slot in keys.slots] == ["ana", "cofre", "paper"]
    assert keys.ring.signing_key == _SEED
    assert keys.ring.config_sha256 == hashlib.sha256(b"config").digest()


def test_is_written_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = open_generation(_GENERATION, _SECRETS, _CONFIG)
    salt = _GENERATION[32:64]
    monkeypatch.setattr(os, "urandom", lambda length: salt[:length])
    assert encode_generation(keys, _VAULT_ID, _NOW, encrypted=True) == _GENERATION


def test_is_written_as_it_was_without_encryption(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = open_generation(_GENERATION, _SECRETS, _CONFIG)
    bare = replace(keys, ring=replace(keys.ring, holders=()), slots=(), master=bytes(32))
    monkeypatch.setattr(os, "urandom", bytes)
    data = encode_generation(bare, _VAULT_ID, _NOW, encrypted=False)
    assert key_of(2, data) == f"keys/00000002-{_PLAIN_SHA256}"


def test_a_slot_of_age_opens() -> None:
    master = unwrap(Slot.from_json(_AGE_SLOT), AgeIdentity(_IDENTITY), _VAULT_ID)
    assert master is not None
    assert master.hex() == _MASTER
    assert Slot.from_json(_AGE_SLOT).as_json() == _AGE_SLOT


def _hkdf(ikm: bytes, salt: bytes, info: bytes) -> bytes:
    """RFC 5869 for one block of output."""
    pseudo_random_key = hmac.digest(salt or bytes(32), ikm, "sha256")
    return hmac.digest(pseudo_random_key, info + b"\x01", "sha256")


def _private_key(slot: dict[str, Any]) -> bytes:
    if slot["kind"] == "passphrase":
        argon2id = slot["argon2id"]
        return Argon2id(
            salt=bytes.fromhex(argon2id["salt"]),
            length=32,
            iterations=argon2id["iterations"],
            lanes=argon2id["lanes"],
            memory_cost=argon2id["memory_kib"],
        ).derive("c\u00e9u azul".encode())
    if slot["kind"] == "key_file":
        return _hkdf(bytes(range(64)), b"", b"dcmvault 1 key file")
    return _hkdf(bytes(range(0, 200, 10)), b"", b"dcmvault 1 recovery")


@pytest.mark.parametrize("number", range(3))
def test_opens_by_the_page_alone(number: int) -> None:
    """A second reader of sections 3 and 4, of primitives only."""
    header, rest = _GENERATION[:64], _GENERATION[64:]
    length = int.from_bytes(rest[:4], "little")
    public, sealed, signature = rest[4 : 4 + length], rest[4 + length : -64], rest[-64:]
    slot = json.loads(public)["slots"][number]
    private = X25519PrivateKey.from_private_bytes(_private_key(slot))
    ephemeral, recipient = bytes.fromhex(slot["ephemeral"]), bytes.fromhex(slot["public"])
    shared = private.exchange(X25519PublicKey.from_public_bytes(ephemeral))
    kek = _hkdf(shared, ephemeral + recipient, b"dcmvault 1 slot")
    bound = header[16:32] + bytes.fromhex(slot["slot"])
    master = AESGCM(kek).decrypt(bytes(12), bytes.fromhex(slot["wrapped"]), bound)
    subkey = _hkdf(master, header[32:64], b"dcmvault 1 K")
    aad = header + b"K" + hashlib.sha256(public).digest()
    ring = json.loads(AESGCM(subkey).decrypt(bytes(12), sealed, aad))
    signer = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(ring["signing_key"]))
    signer.public_key().verify(signature, _GENERATION[:-64])
    assert ring["slots"][number] == {name: slot[name] for name in ("slot", "kind", "public")}
    assert ring["rotation"] == {"days": 365, "bytes": 1099511627776}
