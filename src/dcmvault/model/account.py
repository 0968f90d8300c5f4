"""Who may come into the dashboard, and what each may see and do there."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Role(StrEnum):
    """What somebody may do. Each may all that those before it may."""

    #: States and figures; no patient data at all.
    VIEWER = "viewer"
    #: Looks at studies and steers work; names of patients are hidden until revealed.
    OPERATOR = "operator"
    #: Settings, accounts, and tests of any address.
    ADMINISTRATOR = "administrator"

    @property
    def rank(self) -> int:
        """How much it may, to be compared."""
        return list(Role).index(self)

    def may(self, needed: Role) -> bool:
        """Say whether this role may what `needed` may."""
        return self.rank >= needed.rank


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who may log in; nothing secret is in it."""

    #: Lower case; never changes.
    name: str
    role: Role
    #: A language code of the product; empty: as the browser asks.
    language: str
    #: Aware.
    created_at: datetime
    last_seen_at: datetime | None = None
    disabled: bool = False
    #: Whether a one-time code is asked for after the password.
    has_totp: bool = False
    #: The OpenID Connect provider at which its person logs in; empty: here, by a password.
    issuer: str = ""


@dataclass(frozen=True, slots=True)
class Session:
    """A browser that is logged in. Who knows `digest` cannot make the token of it."""

    #: SHA-256 of the token in the cookie.
    digest: bytes
    account: str
    #: Aware.
    created_at: datetime
    used_at: datetime
    address: str
    #: The password was right; the one-time code is still to come.
    is_half: bool = False
    #: Until then names of patients are shown.
    revealed_until: datetime | None = None
