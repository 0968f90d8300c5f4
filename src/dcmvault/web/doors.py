"""The doors of the dashboard: who a request's cookie belongs to, and the desks behind."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import Response
from starlette.types import Scope

from dcmvault.app.accounts import AccountDesk, account_desk
from dcmvault.app.auditing import Auditing
from dcmvault.app.identities import IdentityDesk
from dcmvault.app.login import Asking, Entered, LoginDesk
from dcmvault.app.login_throttle import LoginThrottle
from dcmvault.app.oidc import build_oidc
from dcmvault.app.oidc_login import OidcDesk
from dcmvault.app.oidc_tickets import LASTS_S
from dcmvault.app.passwords import Passwords
from dcmvault.app.sessions import SessionDesk, SessionLimits
from dcmvault.app.wiring.workplace import Workplace
from dcmvault.errors import ConfigurationError
from dcmvault.model.audit import Actor
from dcmvault.web.visitors import Visitor

_log = logging.getLogger(__name__)

#: The header of requests that a page makes by itself: they do not keep a session from idleness.
UNASKED = "x-unasked"
#: What a page keeps open by itself.
_STREAMS = frozenset({"/api/events"})
_DEVICE_LASTS = timedelta(days=180)
_TICKET_LASTS = timedelta(seconds=LASTS_S)


@dataclass(frozen=True, slots=True)
class Doors:
    """Who may come in, and by which cookie."""

    accounts: AccountDesk
    sessions: SessionDesk
    login: LoginDesk
    #: Whether browsers come by TLS: cookies are then bound to it and to this host.
    is_secure: bool
    #: Login at an identity provider; None where none is configured, or its extra is not installed.
    oidc: OidcDesk | None = None

    @property
    def session_cookie(self) -> str:
        """The name of the cookie of a session (RFC 6265bis, section 4.1.3.2)."""
        return "__Host-dcmvault" if self.is_secure else "dcmvault"

    @property
    def device_cookie(self) -> str:
        """The name of the cookie that lets a browser try again whatever others do."""
        return f"{self.session_cookie}-device"

    @property
    def ticket_cookie(self) -> str:
        """The name of the cookie that goes with a browser to an identity provider and back."""
        return f"{self.session_cookie}-oidc"

    def asking(self, headers: Headers, scope: Scope) -> Asking:
        """Say from where a request comes."""
        cookies = cookie_parser(headers.get("cookie", ""))
        return Asking(address_of(scope), cookies.get(self.device_cookie, ""))

    def token(self, headers: Headers) -> str:
        """Return the token in the cookie of a request; empty for none."""
        return cookie_parser(headers.get("cookie", "")).get(self.session_cookie, "")

    def visitor(self, headers: Headers, scope: Scope) -> Visitor | None:
        """Return whose cookie a request has; None for none that holds now, whole and not half."""
        token = self.token(headers)
        is_used = scope["path"] not in _STREAMS and UNASKED not in headers
        opened = self.sessions.open(token, is_used=is_used)
        if opened is None or opened.is_half:
            return None
        return Visitor(
            opened.account.name,
            opened.account.role,
            address_of(scope),
            opened,
            token,
            self.sessions.shows_names(opened),
        )

    def still_in(self, visitor: Visitor) -> bool:
        """Say whether somebody whose request goes on and on may still be answered."""
        return visitor.opened is None or bool(self.sessions.open(visitor.token, is_used=False))

    def let_in(self, answer: Response, entered: Entered) -> None:
        """Give a browser the cookies of a login."""
        # Without an age: the session of the browser ends it, ours long before.
        self._set(answer, self.session_cookie, entered.token)
        if entered.device:
            self._set(answer, self.device_cookie, entered.device, _DEVICE_LASTS)

    def let_out(self, answer: Response) -> None:
        """Take the cookie of a session from a browser."""
        self._set(answer, self.session_cookie, "", timedelta(0))

    def send_away(self, answer: Response, ticket: str) -> None:
        """Give a browser what it brings back from an identity provider."""
        # Strict ones are not sent when another site leads here.
        self._set(answer, self.ticket_cookie, ticket, _TICKET_LASTS, samesite="lax")

    def take_ticket(self, answer: Response) -> None:
        """Take from a browser what it brought back."""
        self._set(answer, self.ticket_cookie, "", timedelta(0), samesite="lax")

    def _set(
        self,
        answer: Response,
        name: str,
        value: str,
        lasts: timedelta | None = None,
        *,
        samesite: Literal["lax", "strict"] = "strict",
    ) -> None:
        answer.set_cookie(
            name,
            value,
            max_age=None if lasts is None else int(lasts.total_seconds()),
            path="/",
            secure=self.is_secure,
            httponly=True,
            samesite=samesite,
        )


def address_of(scope: Scope) -> str:
    """Return the network address that a request comes from; empty where it is not known."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def doors_of(workplace: Workplace, passwords: Passwords | None = None) -> Doors:
    """Make the doors of an opened state folder."""
    web, catalogue, clock = workplace.settings.web, workplace.catalogue, workplace.clock

    def auditing(actor: Actor) -> Auditing:
        return Auditing(workplace.home, actor, workplace.settings.audit, clock=clock)

    limits = SessionLimits(timedelta(minutes=web.idle_minutes), timedelta(hours=web.session_hours))
    accounts = account_desk(catalogue, clock, passwords)
    sessions = SessionDesk(catalogue.sessions, clock, limits)
    throttle = LoginThrottle(catalogue.login_failures, clock)
    login = LoginDesk(catalogue.accounts, sessions, accounts.passwords, clock, auditing, throttle)
    identities = IdentityDesk(catalogue.identities, accounts)
    identities.turn_out_others(web.oidc.issuer if web.oidc else "")
    oidc = None
    if web.oidc is not None:
        try:
            oidc = build_oidc(web.oidc, identities, login, clock)
        except ConfigurationError as error:
            # Whoever has a password comes in all the same; doctor says it, too.
            _log.warning("nobody can log in at the identity provider: %s", error.message)
    return Doors(accounts, sessions, login, web.has_tls, oidc)
