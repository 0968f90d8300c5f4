"""Accounts of the dashboard: made, changed and removed; links that lead in once."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from dcmvault.app.one_time_codes import recovery_digest
from dcmvault.app.passwords import Passwords, check_new
from dcmvault.app.sessions import digest_of
from dcmvault.errors import LoginError, UsageError
from dcmvault.i18n import gettext as _
from dcmvault.i18n import normalise_language
from dcmvault.model.account import Account, Role
from dcmvault.ports.accounts import AccountBook, AccountChange, KeptAccount, LinkBook, SessionBook
from dcmvault.ports.clock import Clock

#: What names are made of: they stand in journals, headers and addresses.
_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
#: How long a link leads in.
LINK_LASTS = timedelta(hours=1)
_TOKEN_BYTES = 32


@dataclass(frozen=True, slots=True)
class AccountDesk:
    """Makes, changes and removes accounts. Whoever is changed has to log in again."""

    book: AccountBook
    sessions: SessionBook
    links: LinkBook
    passwords: Passwords
    clock: Clock

    def accounts(self) -> list[Account]:
        """List the accounts by name."""
        return self.book.accounts()

    def known(self, name: str) -> KeptAccount:
        """Return an account; UsageError for a name that nobody has."""
        kept = self.book.account(normal_name(name))
        if kept is None:
            raise UsageError(
                _("There is no account of this name."), hint=_("See: dcmvault web user list")
            )
        return kept

    def add(
        self,
        name: str,
        password: str,
        role: Role,
        *,
        language: str = "",
        only_first: bool = False,
    ) -> Account:
        """Make an account; without a password nobody comes in until one is set, by a link.

        UsageError for a name or password that will not do, and for a name that is taken.
        """
        name = checked_name(name)
        if password:
            check_new(password, name)
        now = self.clock.now()
        account = Account(name, role, normalise_language(language), now)
        digest = self.passwords.digest(password) if password else ""
        if not self.book.add(account, digest, only_first=only_first):
            if only_first:
                raise UsageError(_("There is an account already."), hint=_("Log in with it."))
            raise UsageError(_("There is an account of this name already."))
        return account

    def set_password(self, name: str, password: str, *, but: bytes = b"") -> None:
        """Set a password; all sessions end but the one whose digest is `but`."""
        name = with_password(self.known(name).account).name
        check_new(password, name)
        self.book.change(name, AccountChange(password=self.passwords.digest(password)))
        self.sessions.end_all(name, but)

    def set_role(self, name: str, role: Role) -> None:
        """Give another role; its sessions end. UsageError for the last administrator."""
        account = with_password(self.known(name).account)
        if role is account.role:
            return
        self._change(account.name, AccountChange(role=role), loses=role is not Role.ADMINISTRATOR)
        self.sessions.end_all(account.name)

    def set_disabled(self, name: str, *, disabled: bool) -> None:
        """Let an account in no more, or again. UsageError for the last administrator."""
        account = self.known(name).account
        self._change(account.name, AccountChange(disabled=disabled), loses=disabled)
        self.sessions.end_all(account.name)

    def set_language(self, name: str, language: str) -> None:
        """Set the language that the dashboard speaks to somebody."""
        self.book.change(name, AccountChange(language=normalise_language(language)))

    def remove(self, name: str) -> None:
        """Forget an account. UsageError for the last administrator."""
        account = self.known(name).account
        if not self.book.remove(account.name, leaves_administrator=True):
            self.known(account.name)
            raise _last_administrator()

    def set_totp(self, name: str, secret: bytes, recovery: list[str]) -> None:
        """Ask for one-time codes of this secret from now on; an empty one: ask for none."""
        name = with_password(self.known(name).account).name
        self.book.set_totp(name, secret, [recovery_digest(code) for code in recovery])

    def reset_totp(self, name: str) -> None:
        """Ask for one-time codes no more, for who lost the authenticator; all sessions end."""
        self.set_totp(name, b"", [])
        self.end_sessions(name)

    def end_sessions(self, name: str) -> None:
        """Log an account out everywhere."""
        self.sessions.end_all(self.known(name).account.name)

    def make_link(self, name: str = "") -> tuple[str, datetime]:
        """Make the token of a link and when it expires; it replaces the one before.

        With a name it lets that account choose a password; without, whoever comes first makes
        the first account: UsageError where there is one.
        """
        if name:
            name = with_password(self.known(name).account).name
        elif self.book.accounts():
            raise UsageError(
                _("There is an account already."), hint=_("Name the account that the link is for.")
            )
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        expires_at = self.clock.now() + LINK_LASTS
        self.links.put(digest_of(token), name, expires_at)
        return token, expires_at

    def link(self, token: str) -> str:
        """Return the account that a link is for, empty for the first one; it is not used up.

        LoginError for a link that was used, replaced, or has expired.
        """
        name = self.links.link(digest_of(token), self.clock.now())
        if name is None or (not name and self.book.accounts()):
            raise _bad_link()
        return name

    def take_link(self, token: str, password: str, *, name: str = "", language: str = "") -> str:
        """Use a link up: set the password of its account, or make the first; return its name.

        LoginError as `link`; UsageError for a name or password that will not do, with which the
        link is not used up.
        """
        whose = self.link(token)
        check_new(password, whose or checked_name(name))
        if not self.links.take(digest_of(token), self.clock.now()):
            raise _bad_link()
        if whose:
            self.set_password(whose, password)
            return whose
        role = Role.ADMINISTRATOR
        return self.add(name, password, role, language=language, only_first=True).name

    def _change(self, name: str, change: AccountChange, *, loses: bool) -> None:
        if not self.book.change(name, change, leaves_administrator=loses):
            self.known(name)  # somebody may have removed it just now
            raise _last_administrator()


def with_password(account: Account) -> Account:
    """Return an account that logs in here; UsageError for one that does at a provider."""
    if account.issuer:
        raise UsageError(
            _("This account logs in at the identity provider, which gives its role, too."),
            hint=_("Change it there, or the roles in [web.oidc]."),
        )
    return account


class KeepsAccounts(Protocol):
    """What is needed of a catalogue."""

    @property
    def accounts(self) -> AccountBook:
        """Accounts."""
        ...

    @property
    def sessions(self) -> SessionBook:
        """Sessions."""
        ...

    @property
    def links(self) -> LinkBook:
        """Links."""
        ...


def account_desk(
    catalogue: KeepsAccounts, clock: Clock, passwords: Passwords | None = None
) -> AccountDesk:
    """Make the desk of a catalogue; passwords cost what RFC 9106 says unless others are given."""
    return AccountDesk(
        catalogue.accounts, catalogue.sessions, catalogue.links, passwords or Passwords(), clock
    )


def normal_name(name: str) -> str:
    """Return a name as it is kept, whatever was typed."""
    return name.strip().lower()


def checked_name(name: str) -> str:
    """Return a name as it is kept; UsageError for one that will not do."""
    name = normal_name(name)
    if not _NAME.fullmatch(name):
        raise UsageError(
            _("This cannot be the name of an account."),
            hint=_("Use letters a-z, digits, and “.”, “_”, “-”, “@”; 64 at most."),
        )
    return name


def _bad_link() -> LoginError:
    return LoginError(
        _("This link was used, replaced, or has expired."),
        hint=_("Make another one on that machine: dcmvault web user link"),
    )


def _last_administrator() -> UsageError:
    return UsageError(
        _("This is the last administrator."),
        hint=_("Make another one first: dcmvault web user add NAME --role administrator"),
    )
