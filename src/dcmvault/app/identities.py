"""Accounts of people who log in at an OpenID Connect provider: known by issuer and subject."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from dcmvault.app.accounts import AccountDesk
from dcmvault.errors import LoginError
from dcmvault.i18n import gettext as _
from dcmvault.model.account import Account, Role
from dcmvault.ports.accounts import AccountChange, KeptAccount
from dcmvault.ports.identities import IdentityBook

#: What their names begin with: no account that is made here can be called so.
_PREFIX = "oidc:"
_ODD = re.compile(r"[^a-z0-9._@-]+")
_LONGEST_NAME = 48


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody whom a provider named, and what they may."""

    issuer: str
    #: What never changes, and never means somebody else at this provider.
    subject: str
    #: What people call them there; it may change, and others may have the same.
    name: str
    role: Role


@dataclass(frozen=True, slots=True)
class IdentityDesk:
    """Finds the account of a person, or makes one at the first login."""

    book: IdentityBook
    accounts: AccountDesk

    def known(self, issuer: str, subject: str) -> Account | None:
        """Return the account of somebody; None for who was never here."""
        return self.book.find(issuer, subject)

    def account_of(self, person: Person) -> KeptAccount:
        """Return the account of somebody, with the role of now; another one ends its sessions.

        LoginError for one that is disabled.
        """
        account = self.book.find(person.issuer, person.subject) or self._made(person)
        if account.disabled:
            raise LoginError(_("This account is disabled."))
        if account.role is not person.role:
            self.accounts.book.change(account.name, AccountChange(role=person.role))
            self.accounts.sessions.end_all(account.name)
        return self.accounts.known(account.name)

    def turn_out(self, account: Account) -> None:
        """End the sessions of somebody whom the provider does not let in any more."""
        self.accounts.sessions.end_all(account.name)

    def turn_out_others(self, issuer: str) -> None:
        """End the sessions of all people of other providers than the one that is configured now."""
        for account in self.accounts.accounts():
            if account.issuer and account.issuer != issuer:
                self.turn_out(account)

    def _made(self, person: Person) -> Account:
        now = self.accounts.clock.now()
        for name in _names(person):
            account = Account(name, person.role, "", now, issuer=person.issuer)
            if self.book.add(account, person.subject):
                return account
            # Perhaps the same person, in another window.
            if found := self.book.find(person.issuer, person.subject):
                return found
        raise AssertionError


def _names(person: Person) -> Iterator[str]:
    """Yield names for an account, the most telling first."""
    plain = unicodedata.normalize("NFKD", person.name[:200]).encode("ascii", "ignore").decode()
    stem = _ODD.sub("-", plain.strip().lower()).strip("-._@")[:_LONGEST_NAME]
    if not stem:
        told = f"{person.issuer}\0{person.subject}".encode()
        stem = hashlib.sha256(told).hexdigest()[:12]
    yield f"{_PREFIX}{stem}"
    yield from (f"{_PREFIX}{stem}-{number}" for number in count(2))
