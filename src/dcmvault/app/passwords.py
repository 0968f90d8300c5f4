"""Passwords of people: kept as Argon2id digests (RFC 9106), compared with equal work."""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import secrets
import threading
import unicodedata
from dataclasses import dataclass

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from dcmvault.errors import UsageError
from dcmvault.i18n import gettext as _

#: Characters of a new password, at least.
SHORTEST = 10
#: Characters that are looked at: more is no password but an attack on memory.
LONGEST = 500
_SALT_BYTES = 16
_DIGEST_BYTES = 32
#: Each takes 64 MiB for a moment: further ones wait.
_AT_ONCE = 2
_PHC = re.compile(r"\$argon2id\$v=19\$m=(\d{1,8}),t=(\d{1,3}),p=(\d{1,2})\$([^$]+)\$([^$]+)")


@dataclass(frozen=True, slots=True)
class PasswordCost:
    """What one comparison costs; by default what RFC 9106 section 4 recommends second."""

    memory_kib: int = 65_536
    passes: int = 3
    lanes: int = 4


class Passwords:
    """Makes and compares digests; safe for several threads."""

    def __init__(self, cost: PasswordCost | None = None) -> None:
        self._cost = cost or PasswordCost()
        self._turn = threading.BoundedSemaphore(_AT_ONCE)

    def digest(self, password: str) -> str:
        """Return what is kept of a password: a PHC string."""
        salt = secrets.token_bytes(_SALT_BYTES)
        cost = self._cost
        digest = self._derived(password, salt, cost)
        return (
            f"$argon2id$v=19$m={cost.memory_kib},t={cost.passes},p={cost.lanes}"
            f"${_coded(salt)}${_coded(digest)}"
        )

    def matches(self, password: str, kept: str) -> bool:
        """Say whether this is the password; with nothing kept, the same work is done for nothing.

        So how long it takes does not tell who has an account.
        """
        found = _PHC.fullmatch(kept)
        if found is None:
            self._derived(password, bytes(_SALT_BYTES), self._cost)
            return False
        cost = PasswordCost(*(int(found[number]) for number in (1, 2, 3)))
        digest = self._derived(password, _decoded(found[4]), cost)
        return hmac.compare_digest(digest, _decoded(found[5]))

    def is_stale(self, kept: str) -> bool:
        """Say whether a digest was made at another cost than today's."""
        cost = self._cost
        return f"$m={cost.memory_kib},t={cost.passes},p={cost.lanes}$" not in kept

    def _derived(self, password: str, salt: bytes, cost: PasswordCost) -> bytes:
        text = unicodedata.normalize("NFC", password[: LONGEST + 1])
        with self._turn:
            return Argon2id(
                salt=salt,
                length=_DIGEST_BYTES,
                iterations=cost.passes,
                lanes=cost.lanes,
                memory_cost=cost.memory_kib,
            ).derive(text.encode("utf-8", "surrogatepass"))


def check_new(password: str, name: str) -> None:
    """Raise UsageError for a password that nobody should choose."""
    if len(password) < SHORTEST:
        raise UsageError(
            _("The password is too short: it needs %d characters.") % SHORTEST,
            hint=_("Three or four words that do not belong together are good, and easy to keep."),
        )
    if len(password) > LONGEST:
        raise UsageError(_("The password is too long: it may have %d characters.") % LONGEST)
    if password.casefold() == name.casefold() or len(set(password)) < 4:
        raise UsageError(
            _("The password is too easy to guess."),
            hint=_("Three or four words that do not belong together are good, and easy to keep."),
        )


def _coded(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii").rstrip("=")


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        return b""
