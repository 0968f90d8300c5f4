"""The token of the daemon's API: made once, shown once, kept as a digest."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from datetime import datetime
from pathlib import Path

from dcmvault.durability import make_durable
from dcmvault.errors import StateError
from dcmvault.i18n import gettext as _

_NAME = "api-token.json"
#: What tokens begin with, so that scanners of repositories and people recognise them.
_PREFIX = "dcmvault_"
#: Random bytes: nobody guesses 256 bits, so a plain digest keeps them.
_BYTES = 32


class ApiToken:
    """The token that lets in; only its SHA-256 is known."""

    def __init__(self, digest: bytes) -> None:
        self._digest = digest

    def lets_in(self, token: str) -> bool:
        """Say whether this is the token, in a time that tells nothing about it."""
        return hmac.compare_digest(_digest_of(token), self._digest)


def token_path(home: Path) -> Path:
    """Return where a state folder keeps its token's digest. Without the file a new one is made."""
    return home / _NAME


def make_token(home: Path, now: datetime) -> str:
    """Make the token of a state folder and return it, for this one time; empty if it has one.

    Two who ask at once get one token between them. StateError where it cannot be written.
    """
    token = _PREFIX + secrets.token_urlsafe(_BYTES)
    kept = {"sha256": _digest_of(token).hex(), "made_at": now.isoformat(timespec="seconds")}
    path = token_path(home)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                json.dump(kept, file)
                file.flush()
                make_durable(file.fileno())
            # A link, unlike a rename, never replaces what is there.
            os.link(fresh, path)
        finally:
            fresh.unlink(missing_ok=True)
    except FileExistsError:
        return ""
    except OSError as error:
        raise StateError(
            _("The token of the API cannot be written: %s.") % error.strerror,
            hint=_("Check the state folder and its permissions."),
        ) from error
    return token


def known_token(home: Path) -> ApiToken:
    """Read the digest of a state folder's token; StateError where it is missing or damaged."""
    path = token_path(home)
    try:
        digest = bytes.fromhex(json.loads(path.read_text("ascii"))["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        digest = b""
    if len(digest) != hashlib.sha256().digest_size:
        raise StateError(
            _("The token of the API cannot be read."),
            hint=_("Remove %s; the next start makes a new token and shows it once.") % path,
        )
    return ApiToken(digest)


def _digest_of(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
