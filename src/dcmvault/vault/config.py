"""The constants of a vault, in the object `config` (format page, 2)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from dcmvault.errors import VaultDamagedError, VaultFormatError
from dcmvault.vault.crypto import FORMAT_VERSION

CONFIG_KEY = "config"
#: Bytes that a prune can give up on a full disk, to have room for what it must write first.
BALLAST_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class VaultConfig:
    """What never changes in a vault's life."""

    vault_id: bytes  #: 16 bytes
    created_at: str
    encrypted: bool
    copies: int  #: of every object but packs, parity, lease and ballast
    parity: bool
    ballast: int  #: bytes; 0 for none
    verify_key: bytes  #: Ed25519 public key of snapshots

    def encode(self) -> bytes:
        """Return the JSON line, without the line of its digest."""
        document = {
            "format": "dcmvault",
            "version": FORMAT_VERSION,
            "vault_id": self.vault_id.hex(),
            "created_at": self.created_at,
            "cipher": "aes-256-gcm" if self.encrypted else "none",
            "copies": self.copies,
            "parity": self.parity,
            "ballast": self.ballast,
            "verify_key": self.verify_key.hex(),
        }
        return json.dumps(document, indent=1).encode() + b"\n"

    @classmethod
    def decode(cls, data: bytes) -> VaultConfig:
        """Read the object; VaultFormatError for what is not ours or newer."""
        try:
            document = json.loads(data.rpartition(b"sha256:")[0])
        except ValueError as error:
            raise VaultDamagedError("the vault's configuration cannot be read") from error
        if not isinstance(document, dict) or document.get("format") != "dcmvault":
            raise VaultFormatError("what is there is not a vault of dcmvault")
        version = document.get("version")
        if not isinstance(version, int) or version > FORMAT_VERSION:
            raise VaultFormatError(
                f"the vault has the format {version}; this dcmvault reads {FORMAT_VERSION}",
                hint="Use a newer version of dcmvault.",
            )
        try:
            if document["cipher"] not in ("aes-256-gcm", "none"):
                raise VaultFormatError(f"the vault uses the unknown cipher {document['cipher']}")
            return cls(
                bytes.fromhex(document["vault_id"]),
                document["created_at"],
                document["cipher"] != "none",
                int(document["copies"]),
                bool(document["parity"]),
                int(document["ballast"]),
                bytes.fromhex(document["verify_key"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise VaultDamagedError("the vault's configuration cannot be read") from error


def digest_of(data: bytes) -> bytes:
    """Return what the key ring must say of the object `config`."""
    return hashlib.sha256(data).digest()
