"""Snapshots: signed links of a chain that says what the vault held (format page, 10)."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from dcmvault.errors import VaultDamagedError
from dcmvault.vault.crypto import HEADER_BYTES, Header, Sealer, read_header
from dcmvault.vault.records import pack_json, unpack_json

_LENGTH = struct.Struct("<I")
_SIGNATURE_BYTES = 64
_KIND = b"S"


@dataclass(frozen=True, slots=True)
class SnapshotState:
    """What a snapshot says of the whole vault; ids are those of blobs of type STATE."""

    kind: str  #: "backup", "forget", "hold", "merge" or "repair"
    run: str
    source: str
    created_at: str
    studies: int
    instances: int
    size: int  #: bytes of all files
    shards: Mapping[str, bytes]  #: by the first byte of SHA-256(Study Instance UID), hexadecimal
    added: Mapping[str, int] = field(default_factory=dict)
    holds: bytes = b""
    forgotten: bytes = b""
    #: By source: (name, size, SHA-256, value blobs) of each file.
    sidecars: Mapping[str, tuple[tuple[str, int, bytes, tuple[bytes, ...]], ...]] = field(
        default_factory=dict
    )
    #: Everything that it needs is locked until then; empty: not by who took it.
    retained_until: str = ""

    def document(self) -> dict[str, object]:
        """Return the state as the format writes it."""
        return {
            "kind": self.kind,
            "run": self.run,
            "source": self.source,
            "created_at": self.created_at,
            "studies": self.studies,
            "instances": self.instances,
            "bytes": self.size,
            "added": dict(self.added),
            "shards": {name: blob.hex() for name, blob in sorted(self.shards.items())},
            "holds": self.holds.hex(),
            "forgotten": self.forgotten.hex(),
            "sidecars": {
                source: [
                    [name, size, digest.hex(), [blob.hex() for blob in blobs]]
                    for name, size, digest, blobs in files
                ]
                for source, files in self.sidecars.items()
            },
            **({"retained_until": self.retained_until} if self.retained_until else {}),
        }

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> SnapshotState:
        """Read a state; VaultDamagedError if it is none."""
        try:
            return cls(
                document["kind"],
                document["run"],
                document["source"],
                document["created_at"],
                int(document["studies"]),
                int(document["instances"]),
                int(document["bytes"]),
                {name: bytes.fromhex(blob) for name, blob in document["shards"].items()},
                {name: int(number) for name, number in document["added"].items()},
                bytes.fromhex(document["holds"]),
                bytes.fromhex(document["forgotten"]),
                {
                    source: tuple(
                        (name, int(size), bytes.fromhex(sha), tuple(map(bytes.fromhex, blobs)))
                        for name, size, sha, blobs in files
                    )
                    for source, files in document["sidecars"].items()
                },
                str(document.get("retained_until", "")),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise VaultDamagedError("a snapshot's state cannot be read") from error


@dataclass(frozen=True, slots=True)
class Link:
    """What everybody can read of a snapshot: its place in the chain."""

    name: str  #: GGGGGGGG-SHA
    generation: int
    parents: tuple[str, ...]
    created_at: str

    @property
    def key(self) -> str:
        """The object key."""
        return f"snapshots/{self.name}"


def encode_snapshot(
    state: SnapshotState,
    parents: Iterable[Link],
    *,
    header: Header,
    key: bytes,
    signing_key: bytes,
) -> tuple[Link, bytes]:
    """Return a new snapshot's link and bytes."""
    known = sorted(parents, key=lambda link: link.name)
    generation = 1 + max((parent.generation for parent in known), default=0)
    names = tuple(parent.name for parent in known)
    public = json.dumps(
        {"generation": generation, "parents": names, "created_at": state.created_at}
    ).encode()
    identity = hashlib.sha256(public).digest()
    sealed = Sealer(header, key).seal(0, _KIND, identity, pack_json(state.document()))
    signed = header.pack() + _LENGTH.pack(len(public)) + public + sealed
    data = signed + Ed25519PrivateKey.from_private_bytes(signing_key).sign(signed)
    name = f"{generation:08}-{hashlib.sha256(data).hexdigest()}"
    return Link(name, generation, names, state.created_at), data


def read_link(name: str, data: bytes, vault_id: bytes, verify_key: bytes) -> Link:
    """Read the public part; needs no secret. VaultDamagedError unless name and signature hold."""
    read_header(data, _KIND, vault_id)
    if name.rpartition("-")[2] != hashlib.sha256(data).hexdigest():
        raise VaultDamagedError(f"the snapshot {name} is damaged")
    try:
        Ed25519PublicKey.from_public_bytes(verify_key).verify(
            data[-_SIGNATURE_BYTES:], data[:-_SIGNATURE_BYTES]
        )
        public = json.loads(_public(data))
        link = Link(name, int(public["generation"]), tuple(public["parents"]), public["created_at"])
    except InvalidSignature:
        raise VaultDamagedError(f"the signature of the snapshot {name} is wrong") from None
    except (struct.error, ValueError, KeyError, TypeError) as error:
        raise VaultDamagedError(f"the snapshot {name} cannot be read") from error
    if name != f"{link.generation:08}-{name.rpartition('-')[2]}":
        raise VaultDamagedError(f"the snapshot {name} has a name that is not its own")
    return link


def read_state(data: bytes, header: Header, key: bytes) -> SnapshotState:
    """Open a snapshot whose link was read."""
    public = _public(data)
    start = HEADER_BYTES + _LENGTH.size + len(public)
    sealed = data[start:-_SIGNATURE_BYTES]
    identity = hashlib.sha256(public).digest()
    return SnapshotState.read(unpack_json(Sealer(header, key).open(0, _KIND, identity, sealed)))


def heads(links: Iterable[Link]) -> list[Link]:
    """Return the links that no other names as its parent, oldest first."""
    every = list(links)
    parents = {parent for link in every for parent in link.parents}
    return sorted((link for link in every if link.name not in parents), key=lambda link: link.name)


def shard_of(study_instance_uid: str) -> str:
    """Return the name of the shard that a study is in."""
    return f"{hashlib.sha256(study_instance_uid.encode()).digest()[0]:02x}"


def _public(data: bytes) -> bytes:
    (length,) = _LENGTH.unpack_from(data, HEADER_BYTES)
    start = HEADER_BYTES + _LENGTH.size
    return data[start : start + length]
