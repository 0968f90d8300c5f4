"""age, the file encryption (age-encryption.org/v1), for slots of its recipients; optional extra."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from dcmvault.errors import UsageError, VaultLockedError

_IDENTITY = "AGE-SECRET-KEY-1"


def checked_recipient(text: str) -> str:
    """Return a recipient as slots keep it; UsageError for what is none."""
    text = text.strip()
    _recipient(text)
    return text


def encrypt(content: bytes, recipient: str) -> bytes:
    """Return an age file that only the recipient opens."""
    sealed: bytes = _pyrage().encrypt(content, [_recipient(recipient)])
    return sealed


def decrypt(sealed: bytes, identities: str) -> bytes | None:
    """Return the content of an age file, None if none of the identities opens it.

    `identities` is the text of an identity file: secret keys and comments, line by line.
    """
    pyrage = _pyrage()
    lines = [line.strip() for line in identities.splitlines()]
    try:
        keys = [pyrage.x25519.Identity.from_str(one) for one in lines if one.startswith(_IDENTITY)]
    except pyrage.IdentityError:
        keys = []
    if not keys:
        raise VaultLockedError(
            "the age identity that was given has no secret key of age in it",
            hint=f"Such a key is a line that begins with {_IDENTITY}.",
        )
    try:
        content: bytes = pyrage.decrypt(sealed, keys)
    except pyrage.DecryptError:
        return None
    return content


def _recipient(text: str) -> Any:
    pyrage = _pyrage()
    try:
        return pyrage.x25519.Recipient.from_str(text)
    except pyrage.RecipientError:
        raise UsageError(
            "this is no recipient of age",
            hint="A recipient begins with age1; `age-keygen -y FILE` prints that of an identity.",
        ) from None


def _pyrage() -> Any:
    try:
        return import_module("pyrage")
    except ImportError:
        raise VaultLockedError(
            "keys of age need a part of dcmvault that is not installed",
            hint='Install it with: pip install "dcmvault[age]"',
        ) from None
