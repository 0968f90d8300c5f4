"""One-time codes from an authenticator (RFC 6238), and recovery codes for who lost it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import struct
from datetime import datetime
from urllib.parse import quote

#: Seconds of a time step, and digits of a code: what every authenticator does.
STEP_S = 30
_DIGITS = 6
_SECRET_BYTES = 20
#: Clocks may differ by so many steps.
_TOLERANCE = 1
_RECOVERY_CODES = 10
_RECOVERY_BYTES = 10


def new_secret() -> bytes:
    """Make a secret to share with an authenticator (160 bits, RFC 4226 section 4)."""
    return secrets.token_bytes(_SECRET_BYTES)


def code_of(secret: bytes, step: int) -> str:
    """Return the code of a time step (RFC 4226 section 5.3, with SHA-1)."""
    mac = hmac.digest(secret, struct.pack(">Q", step), "sha1")
    start = mac[-1] & 0xF
    number = struct.unpack_from(">I", mac, start)[0] & 0x7FFF_FFFF
    return f"{number % 10**_DIGITS:0{_DIGITS}d}"


def step_at(now: datetime) -> int:
    """Return the time step of a moment."""
    return int(now.timestamp()) // STEP_S


def matching_step(secret: bytes, code: str, now: datetime) -> int | None:
    """Return the time step whose code this is, of those around now; None for none."""
    typed = "".join(code.split())
    found = None
    for step in range(step_at(now) - _TOLERANCE, step_at(now) + _TOLERANCE + 1):
        if hmac.compare_digest(code_of(secret, step).encode(), typed.encode("utf-8", "replace")):
            found = step
    return found


def secret_text(secret: bytes) -> str:
    """Return a secret as people type it into an authenticator."""
    return base64.b32encode(secret).decode("ascii")


def otpauth_address(secret: bytes, name: str) -> str:
    """Return the address that authenticators take instead."""
    return f"otpauth://totp/dcmvault:{quote(name)}?secret={secret_text(secret)}&issuer=dcmvault"


def new_recovery_codes() -> list[str]:
    """Make codes that each work once (80 bits)."""
    return [_grouped(secrets.token_bytes(_RECOVERY_BYTES)) for _number in range(_RECOVERY_CODES)]


def recovery_digest(code: str) -> bytes:
    """Return what is kept of a recovery code, however it is typed."""
    plain = "".join(letter for letter in code.lower() if letter.isalnum())
    return hashlib.sha256(plain.encode("utf-8", "surrogatepass")).digest()


def _grouped(content: bytes) -> str:
    text = base64.b32encode(content).decode("ascii").lower()
    return "-".join(text[start : start + 4] for start in range(0, len(text), 4))
