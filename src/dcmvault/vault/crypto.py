"""The envelope of sealed objects: header, subkey, authenticated encryption (format page, 3)."""

from __future__ import annotations

import os
import struct
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from dcmvault.errors import VaultDamagedError, VaultFormatError

FORMAT_VERSION = 1
HEADER_BYTES = 64
#: Bytes that sealing adds with AES-256-GCM.
TAG_BYTES = 16
NO_ID = bytes(32)
#: The number of a pack's footer; blobs count from 0.
FOOTER_NUMBER = (1 << 64) - 1

_HEADER = struct.Struct("<4s1sBBxI4x16s32s")
_MAGIC = b"DCMV"
_NONE, _AES = 0, 1


class Header(NamedTuple):
    """The first 64 bytes of a sealed object."""

    kind: bytes  #: one ASCII letter
    encrypted: bool
    epoch: int  #: of a key ring: its generation
    vault_id: bytes  #: 16 bytes
    salt: bytes  #: 32 bytes

    def pack(self) -> bytes:
        """Return the header's bytes."""
        cipher = _AES if self.encrypted else _NONE
        return _HEADER.pack(
            _MAGIC, self.kind, FORMAT_VERSION, cipher, self.epoch, self.vault_id, self.salt
        )


def new_header(kind: bytes, vault_id: bytes, *, encrypted: bool, epoch: int) -> Header:
    """Make the header of a new object, with a salt of its own."""
    return Header(kind, encrypted, epoch, vault_id, os.urandom(32))


def read_header(data: bytes | memoryview, kind: bytes, vault_id: bytes) -> Header:
    """Read and check a header.

    Raises VaultDamagedError for what is none of this kind, VaultFormatError for a newer format
    or another vault's object.
    """
    if len(data) < HEADER_BYTES or bytes(data[:4]) != _MAGIC or bytes(data[4:5]) != kind:
        raise VaultDamagedError("an object of the vault does not begin as its kind does")
    version, cipher = data[5], data[6]
    if version > FORMAT_VERSION:
        raise VaultFormatError(
            f"the vault has objects of format {version}; this dcmvault reads {FORMAT_VERSION}",
            hint="Use a newer version of dcmvault.",
        )
    if cipher not in (_NONE, _AES):
        raise VaultDamagedError(f"an object of the vault names the unknown cipher {cipher}")
    _magic, _kind, _version, _cipher, epoch, owner, salt = _HEADER.unpack_from(data)
    if owner != vault_id:
        raise VaultFormatError("an object in the vault belongs to another vault")
    return Header(kind, cipher == _AES, epoch, owner, salt)


def derive(key: bytes, salt: bytes, info: bytes) -> bytes:
    """HKDF-SHA256 (RFC 5869), 32 bytes."""
    return HKDF(SHA256(), 32, salt, info).derive(key)


class Sealer:
    """Seals and opens the parts of one object under its subkey. Safe for several threads.

    Without encryption sealing changes nothing: the object's name still tells any damage.
    """

    __slots__ = ("_aead", "_bound", "header")

    def __init__(self, header: Header, key: bytes) -> None:
        self.header = header
        self._bound = header.pack()
        self._aead: AESGCM | None = None
        if header.encrypted:
            self._aead = AESGCM(derive(key, header.salt, b"dcmvault 1 " + header.kind))

    def seal(self, number: int, kind: bytes, identity: bytes, content: bytes) -> bytes:
        """Seal one part; `number` must not be used twice in an object."""
        if self._aead is None:
            return content
        return self._aead.encrypt(_nonce(number), content, self._bound + kind + identity)

    def open(self, number: int, kind: bytes, identity: bytes, sealed: bytes | memoryview) -> bytes:
        """Open one part; VaultDamagedError if it is not what was sealed here under this number."""
        if self._aead is None:
            return bytes(sealed)
        try:
            return self._aead.decrypt(_nonce(number), sealed, self._bound + kind + identity)
        except InvalidTag:
            raise VaultDamagedError(
                "a part of the vault does not open: it is damaged, or not where it belongs"
            ) from None


def _nonce(number: int) -> bytes:
    return bytes(4) + number.to_bytes(8, "little")
