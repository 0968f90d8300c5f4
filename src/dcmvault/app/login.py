"""Login: a password, where set a one-time code, slowly for guessers; all of it is audited."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from math import ceil

from dcmvault.app.accounts import normal_name
from dcmvault.app.auditing import Auditing
from dcmvault.app.login_throttle import Counted, LoginThrottle, Scope
from dcmvault.app.one_time_codes import matching_step, recovery_digest
from dcmvault.app.passwords import Passwords
from dcmvault.app.sessions import SessionDesk
from dcmvault.errors import LoginError, LoginServiceError, LoginWaitError
from dcmvault.i18n import gettext as _
from dcmvault.i18n import ngettext
from dcmvault.model.audit import Actor, ActorKind, AuditKind, AuditOutcome
from dcmvault.ports.accounts import AccountBook, AccountChange, KeptAccount
from dcmvault.ports.clock import Clock

#: Who tried, where the name is unknown: people type passwords there.
_UNKNOWN = "unknown"
#: Bits of an IPv6 address that its owner does not choose.
_NETWORK_BITS = 64


@dataclass(frozen=True, slots=True)
class Asking:
    """From where somebody logs in."""

    address: str
    #: What `Entered.device` was at an earlier login of this browser; empty for none.
    device: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Entered:
    """A login that went well, as far as it went."""

    account: str
    #: The token of a session, for the cookie.
    token: str = field(repr=False)
    #: The one-time code is still to come.
    is_half: bool
    #: What lets this browser try again whatever others do.
    device: str = field(default="", repr=False)


class LoginDesk:
    """Lets people in. Nothing it says tells a known name from an unknown one."""

    def __init__(
        self,
        accounts: AccountBook,
        sessions: SessionDesk,
        passwords: Passwords,
        clock: Clock,
        auditing: Callable[[Actor], Auditing],
        throttle: LoginThrottle,
    ) -> None:
        self._accounts = accounts
        self._sessions = sessions
        self._passwords = passwords
        self._clock = clock
        self._auditing = auditing
        self._throttle = throttle

    def by_password(self, name: str, password: str, asking: Asking) -> Entered:
        """Begin a session; LoginError where that must not be, LoginWaitError for now."""
        typed = normal_name(name)
        kept = self._accounts.account(typed)
        counted = self._counted(typed, kept, asking)
        self._wait(counted)
        matches = self._passwords.matches(password, kept.password if kept else "")
        if kept is None or not matches or kept.account.disabled:
            self._note_failure(kept, asking, "password")
            raise LoginError(
                _("The name or the password is wrong."),
                hint=_("Who forgot it asks an administrator for a link."),
            )
        if self._passwords.is_stale(kept.password):
            fresh = self._passwords.digest(password)
            self._accounts.change(typed, AccountChange(password=fresh))
            kept = self._accounts.account(typed) or kept
        if kept.account.has_totp:
            # For the account it goes on counting as failed until the code has come.
            self._throttle.succeeded(one for one in counted if one[0] is Scope.ADDRESS)
            return Entered(typed, self._sessions.begin(typed, asking.address, is_half=True), True)
        self._throttle.succeeded(counted)
        return self._enter(kept, asking, "password")

    def by_code(self, token: str, code: str, asking: Asking) -> Entered:
        """Make a whole session of a half one, by a one-time or recovery code; a new token."""
        opened = self._sessions.open(token)
        kept = self._accounts.account(opened.account.name) if opened else None
        if opened is None or not opened.is_half or kept is None:
            raise LoginError(_("That took too long."), hint=_("Log in again."))
        name = kept.account.name
        counted = self._counted(name, kept, asking)
        self._wait(counted)
        step = matching_step(kept.totp_secret, code, self._clock.now())
        if step is not None and self._accounts.use_totp(name, step):
            how = "password+code"
        elif step is None and self._accounts.use_recovery(name, recovery_digest(code)):
            how = "password+recovery"
        else:
            self._note_failure(kept, asking, "code")
            raise LoginError(
                _("The code is wrong, or was used already."),
                hint=_("Wait for the next one, or use a recovery code."),
            )
        self._throttle.succeeded(counted)
        self._sessions.end(token)
        return self._enter(kept, asking, how)

    def check_password(self, name: str, password: str, asking: Asking) -> None:
        """Raise LoginError unless this is the password of an account, LoginWaitError for now."""
        kept = self._accounts.account(name)
        if kept is not None and kept.account.issuer:
            raise LoginError(
                _("This account has no password here."),
                hint=_("Use one that has, or “dcmvault web user” on the machine."),
            )
        counted = self._counted(name, kept, asking)
        self._wait(counted)
        if kept is None or not self._passwords.matches(password, kept.password):
            self._note_failure(kept, asking, "password-again")
            raise LoginError(_("The password is wrong."))
        self._throttle.succeeded(counted)

    def renewed(self, name: str, asking: Asking) -> Entered:
        """Begin a session in the place of one that has just been proven; a new token."""
        kept = self._accounts.account(name)
        if kept is None:
            raise LoginError(_("This account is disabled."))
        return Entered(name, self._sessions.begin(name, asking.address), False, _device_of(kept))

    def by_link(self, name: str, asking: Asking) -> Entered:
        """Let in who used a link of this account; a one-time code is asked for all the same."""
        kept = self._accounts.account(name)
        if kept is None or kept.account.disabled:
            raise LoginError(_("This account is disabled."))
        if kept.account.has_totp:
            return Entered(name, self._sessions.begin(name, asking.address, is_half=True), True)
        return self._enter(kept, asking, "link")

    @contextmanager
    def counting(self, asking: Asking) -> Iterator[None]:
        """Count an attempt of an address as failed unless it goes well; LoginWaitError for now.

        That somebody else's service does not answer is no failure.
        """
        counted = [(Scope.ADDRESS, _network_of(asking.address))]
        self._wait(counted)
        try:
            yield
        except LoginServiceError:
            self._throttle.succeeded(counted)
            raise
        self._throttle.succeeded(counted)

    def by_identity(
        self, kept: KeptAccount, asking: Asking, how: str, more: Mapping[str, str]
    ) -> Entered:
        """Let in who proved elsewhere to be the person of this account."""
        name = kept.account.name
        token = self._sessions.begin(name, asking.address)
        self.note(AuditKind.LOGIN, name, asking.address, how, more)
        return Entered(name, token, False)

    def _enter(self, kept: KeptAccount, asking: Asking, how: str) -> Entered:
        name = kept.account.name
        token = self._sessions.begin(name, asking.address)
        self.note(AuditKind.LOGIN, name, asking.address, how)
        return Entered(name, token, False, _device_of(kept))

    def leave(self, token: str, asking: Asking) -> None:
        """End the session of a token."""
        opened = self._sessions.open(token, is_used=False)
        if opened is not None and self._sessions.end(token):
            self.note(AuditKind.LOGOUT, opened.account.name, asking.address, "asked")

    def _counted(self, name: str, kept: KeptAccount | None, asking: Asking) -> list[Counted]:
        if kept is not None and _is_device_of(kept, asking.device):
            return [(Scope.DEVICE, asking.device)]
        return [(Scope.ACCOUNT, name), (Scope.ADDRESS, _network_of(asking.address))]

    def _wait(self, counted: list[Counted]) -> None:
        wait = ceil(self._throttle.attempt(counted))
        if wait:
            raise LoginWaitError(
                ngettext(
                    "Too many attempts failed. Wait %d second.",
                    "Too many attempts failed. Wait %d seconds.",
                    wait,
                )
                % wait,
                hint=_("A link from “dcmvault web user link” works at once."),
            )

    def _note_failure(self, kept: KeptAccount | None, asking: Asking, what: str) -> None:
        name = kept.account.name if kept else _UNKNOWN
        self.note(AuditKind.LOGIN_FAILED, name, asking.address, what)

    def note(
        self,
        kind: AuditKind,
        name: str,
        address: str,
        how: str,
        more: Mapping[str, str] | None = None,
    ) -> None:
        """Write down in the audit journal what somebody did at the doors, how, and what more."""
        failed = kind is AuditKind.LOGIN_FAILED
        outcome = AuditOutcome.MINOR_FAILURE if failed else AuditOutcome.SUCCESS
        auditing = self._auditing(Actor(ActorKind.WEB, name, address))
        auditing.note(kind, outcome, details={"how": how, **(more or {})})


def _network_of(address: str) -> str:
    """Return what one machine cannot leave: its address, of IPv6 the network (RFC 7421)."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    if found.version == 4 or found.ipv4_mapped is not None:
        return str(found)
    return str(ip_network((found, _NETWORK_BITS), strict=False))


def _device_of(kept: KeptAccount) -> str:
    """Make what proves that a browser was logged in; it ends with the password."""
    nonce = secrets.token_hex(16)
    return f"{nonce}.{_device_mac(kept, nonce)}"


def _is_device_of(kept: KeptAccount, device: str) -> bool:
    if not kept.password:  # else everybody knew the key
        return False
    nonce, _dot, mac = device.partition(".")
    expected = _device_mac(kept, nonce)
    return bool(nonce) and hmac.compare_digest(mac.encode("utf-8", "replace"), expected.encode())


def _device_mac(kept: KeptAccount, nonce: str) -> str:
    told = f"dcmvault device\0{kept.account.name}\0{nonce}".encode("utf-8", "replace")
    return hmac.digest(kept.password.encode(), told, "sha256").hex()
