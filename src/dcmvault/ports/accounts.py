"""Accounts, sessions and links of the dashboard, as they are kept. Every write is durable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from dcmvault.model.account import Account, Role, Session


@dataclass(frozen=True, slots=True)
class KeptAccount:
    """An account with its secrets."""

    account: Account
    #: The password's Argon2id digest as a PHC string; empty: nobody comes in by a password.
    password: str = field(repr=False)
    #: The shared secret of RFC 6238; empty: no one-time code is asked for.
    totp_secret: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class AccountChange:
    """What becomes of an account; None leaves a thing as it is."""

    password: str | None = field(default=None, repr=False)
    role: Role | None = None
    language: str | None = None
    disabled: bool | None = None
    last_seen_at: datetime | None = None


class AccountBook(Protocol):
    """Keeps accounts."""

    def add(self, account: Account, password: str, *, only_first: bool = False) -> bool:
        """Keep an account; False if its name is taken or, with `only_first`, if there is any."""
        ...

    def account(self, name: str) -> KeptAccount | None:
        """Return an account; None for an unknown name."""
        ...

    def accounts(self) -> list[Account]:
        """List the accounts by name."""
        ...

    def change(
        self, name: str, change: AccountChange, *, leaves_administrator: bool = False
    ) -> bool:
        """Change an account; False for an unknown name.

        With `leaves_administrator` False, too, and nothing is changed, where this is the only
        administrator who can log in, whatever others do at the same moment.
        """
        ...

    def remove(self, name: str, *, leaves_administrator: bool = False) -> bool:
        """Forget an account with its sessions, codes and links; False as `change` says."""
        ...

    def set_totp(self, name: str, secret: bytes, recovery: Sequence[bytes]) -> None:
        """Set the secret and the digests of recovery codes, in the place of all before."""
        ...

    def use_totp(self, name: str, step: int) -> bool:
        """Use the code of a time step; False if that one, or a later one, was used before."""
        ...

    def use_recovery(self, name: str, digest: bytes) -> bool:
        """Use up a recovery code; False if there is none of this digest (any more)."""
        ...


class SessionBook(Protocol):
    """Keeps sessions."""

    def begin(self, session: Session) -> None:
        """Keep a session of an account that exists."""
        ...

    def session(self, digest: bytes) -> tuple[Session, Account] | None:
        """Return a session and whose it is, as that account is now; None for none."""
        ...

    def touch(self, digest: bytes, at: datetime) -> None:
        """Remember that a session was used, and its account seen."""
        ...

    def reveal(self, digest: bytes, until: datetime | None) -> bool:
        """Remember until when names are shown; False for no such session."""
        ...

    def end(self, digest: bytes) -> bool:
        """End a session; False if there is none (any more)."""
        ...

    def end_all(self, account: str, but: bytes = b"") -> int:
        """End all sessions of an account but one; return how many they were."""
        ...

    def sessions(self, account: str) -> list[Session]:
        """List the sessions of an account, the one used last first."""
        ...

    def forget(self, used_before: datetime, created_before: datetime) -> int:
        """End what was not used since, or began before; return how many they were."""
        ...


class LinkBook(Protocol):
    """Keeps links that lead in once."""

    def put(self, digest: bytes, account: str, expires_at: datetime) -> None:
        """Keep a link, in the place of others for this account; empty: for the first one ever."""
        ...

    def link(self, digest: bytes, now: datetime) -> str | None:
        """Return for whom a link is that has not expired; None for none."""
        ...

    def take(self, digest: bytes, now: datetime) -> bool:
        """Use a link up; False if it is gone or has expired."""
        ...
