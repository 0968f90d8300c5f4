"""Sessions of the dashboard: begun, found again by their token, and ended."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import timedelta

from dcmvault.model.account import Account, Role, Session
from dcmvault.ports.accounts import SessionBook
from dcmvault.ports.clock import Clock

_TOKEN_BYTES = 32
#: How long the one-time code may take to come.
_HALF = timedelta(minutes=5)
#: That a session is used is written down at most so often.
_NOTED = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """When sessions end by themselves, and names are hidden again."""

    idle: timedelta = timedelta(minutes=15)
    whole: timedelta = timedelta(hours=12)
    revealed: timedelta = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A session that holds now, and whose it is."""

    session: Session
    account: Account
    #: What forms and headers show to prove that a page of ours made the request.
    csrf: str

    @property
    def is_half(self) -> bool:
        """Whether the one-time code is still to come: nothing may be seen before."""
        return self.session.is_half


class SessionDesk:
    """Gives out sessions and takes them back. The token itself is kept nowhere."""

    def __init__(self, book: SessionBook, clock: Clock, limits: SessionLimits) -> None:
        self._book = book
        self._clock = clock
        self.limits = limits

    def begin(self, account: str, address: str, *, is_half: bool = False) -> str:
        """Begin a session of an account; return its token, for this one time."""
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        now = self._clock.now()
        self._book.forget(now - self.limits.idle, now - self.limits.whole)
        self._book.begin(Session(digest_of(token), account, now, now, address, is_half))
        return token

    def open(self, token: str, *, is_used: bool = True) -> OpenSession | None:
        """Return the session of a token; None where it ended. With `is_used` idleness is over."""
        if not token:
            return None
        digest = digest_of(token)
        found = self._book.session(digest)
        if found is None:
            return None
        session, account = found
        now = self._clock.now()
        idle, whole = (_HALF, _HALF) if session.is_half else (self.limits.idle, self.limits.whole)
        if account.disabled or now - session.used_at >= idle or now - session.created_at >= whole:
            self._book.end(digest)
            return None
        # Idleness is noticed to the minute; shorter limits are kept exactly by tests only.
        if is_used and now - session.used_at >= min(_NOTED, idle / 10):
            self._book.touch(digest, now)
        return OpenSession(session, account, csrf_of(token))

    def end(self, token: str) -> bool:
        """End a session; False where there was none."""
        return self._book.end(digest_of(token))

    def end_others(self, account: str, token: str) -> int:
        """End all sessions of an account but that of a token; return how many they were."""
        return self._book.end_all(account, digest_of(token) if token else b"")

    def of(self, account: str) -> list[Session]:
        """List the sessions of an account, the one used last first."""
        return self._book.sessions(account)

    def reveal(self, opened: OpenSession) -> bool:
        """Show names of patients in a session for a while; False where its role never sees any."""
        if not opened.account.role.may(Role.OPERATOR):
            return False
        return self._book.reveal(opened.session.digest, self._clock.now() + self.limits.revealed)

    def hide(self, opened: OpenSession) -> None:
        """Hide names of patients again."""
        self._book.reveal(opened.session.digest, None)

    def shows_names(self, opened: OpenSession) -> bool:
        """Say whether names of patients are shown in a session now."""
        until = opened.session.revealed_until
        may = opened.account.role.may(Role.OPERATOR)
        return may and until is not None and self._clock.now() < until


def digest_of(token: str) -> bytes:
    """Return what is kept of a token: nobody guesses 256 bits, so a plain digest does."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def csrf_of(token: str) -> str:
    """Return the token for forms of a session; the session's own cannot be made from it."""
    key = token.encode("utf-8", "surrogatepass")
    return hmac.digest(key, b"dcmvault csrf", "sha256").hex()
