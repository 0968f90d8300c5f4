"""People whom an OpenID Connect provider names, as they are kept. Every write is durable."""

from __future__ import annotations

from typing import Protocol

from dcmvault.model.account import Account


class IdentityBook(Protocol):
    """Keeps which account is whose: `issuer` and `sub` together never mean another person."""

    def find(self, issuer: str, subject: str) -> Account | None:
        """Return the account of somebody; None for who was never here."""
        ...

    def add(self, account: Account, subject: str) -> bool:
        """Keep an account without a password; False if its name or its person is known already."""
        ...
