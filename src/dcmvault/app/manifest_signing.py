"""The key that manifests are signed with (Ed25519), and signatures of whole files.

A signature proves that the file is as the holder of this state folder's key wrote it. It does not
prove when, nor that what was written is true of the copies: that is what validation is for.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from dcmvault.durability import make_durable
from dcmvault.errors import ManifestDamagedError, StateError
from dcmvault.i18n import gettext as _

#: Below the state folder.
MANIFEST_FOLDER = "manifests"
_KEY = "signing-key.pem"
PUBLIC_KEY = "public-key.pem"
#: What follows a file's name to name its signature.
SIGNATURE = ".sig"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key; never shown."""

    _key: Ed25519PrivateKey

    def sign(self, data: bytes) -> bytes:
        """Return the signature of some bytes (64 bytes)."""
        return self._key.sign(data)

    @property
    def public_pem(self) -> bytes:
        """The public key (PEM), for whoever checks."""
        return self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    @property
    def fingerprint(self) -> str:
        """What people compare to know a key."""
        return _fingerprint(self._key.public_key())


def signing_key(home: Path) -> SigningKey:
    """Return the key of a state folder, made at first sight (mode 0600).

    Raises StateError when it cannot be read or written.
    """
    folder = home / MANIFEST_FOLDER
    path = folder / _KEY
    try:
        folder.mkdir(0o700, parents=True, exist_ok=True)
        if not path.exists():
            _make(path)
        content = path.read_bytes()
    except OSError as error:
        raise StateError(
            _("The key that manifests are signed with cannot be used."),
            hint=f"{path}: {error.strerror}",
        ) from None
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError) as error:
        raise _no_key(path) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _no_key(path)
    return SigningKey(key)


def _make(path: Path) -> None:
    """Make a key; where somebody else makes one at the same time, the first counts."""
    content = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    fresh = path.with_name(f".{secrets.token_hex(8)}.new")
    write_new(fresh, content)
    with suppress(FileExistsError):
        os.link(fresh, path)
    fresh.unlink()


def write_new(path: Path, content: bytes) -> None:
    """Write a file that is not there yet, mode 0600; durable on return (OSError as it comes)."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        make_durable(file.fileno())


def is_signed(data: bytes, signature: bytes, public_pem: bytes) -> bool:
    """Say whether a signature is that of these bytes by this key; ManifestDamagedError for none."""
    try:
        _public(public_pem).verify(signature, data)
    except InvalidSignature:
        return False
    return True


def fingerprint_of(public_pem: bytes) -> str:
    """Return what people compare to know a public key; ManifestDamagedError if it is none."""
    return _fingerprint(_public(public_pem))


def _public(public_pem: bytes) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(public_pem)
    except ValueError as error:
        raise _no_public_key() from error
    if not isinstance(key, Ed25519PublicKey):
        raise _no_public_key()
    return key


def _fingerprint(key: Ed25519PublicKey) -> str:
    raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def _no_key(path: Path) -> StateError:
    return StateError(
        _("The key that manifests are signed with is damaged."),
        hint=_("Put it back from a copy, or move it away to begin with a new one: %s") % path,
    )


def _no_public_key() -> ManifestDamagedError:
    return ManifestDamagedError(
        "the public key beside the manifest is none",
        hint="Take another copy of the manifest.",
    )
