"""Login at an OpenID Connect provider: the way there, and what counts of what comes back.

The authorization code flow with PKCE, state and nonce (OpenID Connect Core 1.0, section 3.1).
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn
from urllib.parse import urlencode

from dcmvault.app.identities import IdentityDesk, Person
from dcmvault.app.login import Asking, Entered, LoginDesk
from dcmvault.app.oidc_provider import OidcProvider, Tokens
from dcmvault.app.oidc_tickets import Ticket, TicketDesk
from dcmvault.config.oidc_section import OidcSection
from dcmvault.errors import LoginError, LoginServiceError
from dcmvault.i18n import gettext as _
from dcmvault.model.account import Role
from dcmvault.model.audit import AuditKind
from dcmvault.ports.clock import Clock

#: How it is called in the audit journal.
_HOW = "oidc"
#: Who tried, where nobody was named.
_UNKNOWN = "unknown"
#: RFC 6749 section 4.1.2.1 and OpenID Connect Core 1.0 section 3.1.2.6. Other words of the answer
#: are not repeated: anybody can write them.
_ERRORS = frozenset(
    {
        *("access_denied", "invalid_request", "invalid_scope", "server_error"),
        *("temporarily_unavailable", "unauthorized_client", "unsupported_response_type"),
        *("account_selection_required", "consent_required", "interaction_required"),
        *("login_required", "registration_not_supported", "request_not_supported"),
    }
)
#: Values of the role's claim that are looked at.
_MOST_VALUES = 2000


@dataclass(frozen=True, slots=True)
class ExpectedToken:
    """What an ID token must be about."""

    issuer: str
    client_id: str
    nonce: str = field(repr=False)
    access_token: str = field(repr=False)
    #: Seconds since 1970.
    now_s: float


class UnknownKeyError(Exception):
    """A token is signed by a key that was not among those looked at."""


class TokenRefusedError(Exception):
    """A token does not count; `reason` says why in a word."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


#: Returns what an ID token says, or raises one of the two.
VerifiesToken = Callable[[str, Sequence[Mapping[str, Any]], ExpectedToken], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class OidcAnswer:
    """What a browser brought back from the provider (RFC 6749 section 4.1.2); empty for nothing."""

    code: str = field(default="", repr=False)
    state: str = field(default="", repr=False)
    error: str = ""
    #: Who answers (RFC 9207).
    issuer: str = ""


class OidcDesk:
    """Lets people in whom the provider names, with the role that its claim gives them."""

    def __init__(
        self,
        section: OidcSection,
        provider: OidcProvider,
        verifies: VerifiesToken,
        identities: IdentityDesk,
        login: LoginDesk,
        clock: Clock,
    ) -> None:
        self._section = section
        self._provider = provider
        self._verifies = verifies
        self._identities = identities
        self._login = login
        self._clock = clock
        self._tickets = TicketDesk(clock)

    @property
    def button(self) -> str:
        """What the way there is called, in the language in use."""
        return self._section.button or _("Log in with my organisation")

    def begin(self, where: str) -> tuple[str, str]:
        """Return the provider's address to go to, and what the browser carries meanwhile.

        LoginServiceError where the provider cannot be asked.
        """
        endpoint = self._provider.document().authorization_endpoint
        ticket, carried = self._tickets.give(where)
        challenge = hashlib.sha256(ticket.verifier.encode("ascii")).digest()
        asked = {
            "response_type": "code",
            "client_id": self._section.client_id,
            "redirect_uri": self._section.redirect_uri,
            "scope": " ".join(dict.fromkeys(("openid", *self._section.scopes))),
            "state": ticket.state,
            "nonce": ticket.nonce,
            "code_challenge": urlsafe_b64encode(challenge).rstrip(b"=").decode("ascii"),
            "code_challenge_method": "S256",
        }
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(asked)}", carried

    def finish(self, answer: OidcAnswer, carried: str, asking: Asking) -> tuple[Entered, str]:
        """Begin the session of whom the provider names; return it, and where they wanted to go.

        LoginError where that must not be, LoginServiceError where the provider cannot be asked,
        LoginWaitError for now.
        """
        if not self._tickets.is_ours(carried):
            # Whoever sends a browser here can bring that about, and learns nothing by it.
            raise self._not_begun()
        with self._login.counting(asking):
            ticket = self._tickets.take(carried, answer.state)
            if ticket is None:
                self._refuse(asking, "state", self._not_begun())
            return self._entered(self._proven(answer, ticket, asking), asking), ticket.where

    def _not_begun(self) -> LoginError:
        address = self._section.redirect_uri.partition("/login/")[0]
        return LoginError(
            _("This login was not begun in this browser, or took too long."),
            hint=_("Begin again, at the dashboard's address: %s") % address,
        )

    def _proven(self, answer: OidcAnswer, ticket: Ticket, asking: Asking) -> Mapping[str, Any]:
        """Exchange the code of an answer, and return what the ID token says."""
        document = self._provider.document()
        if answer.issuer != self._section.issuer and (answer.issuer or document.names_itself):
            self._refuse(asking, "issuer", _not_confirmed())
        if answer.error or not answer.code:
            word = answer.error if answer.error in _ERRORS else "unknown_error"
            self._refuse(
                asking,
                word,
                LoginError(
                    _("The identity provider did not let you in (%s).") % word,
                    hint=_("Log in again, or ask who looks after it."),
                ),
            )
        try:
            tokens = self._provider.redeem(answer.code, ticket.verifier)
            return self._verified(tokens, ticket)
        except TokenRefusedError as error:
            self._refuse(asking, error.reason, _not_confirmed())
        except LoginServiceError:
            raise
        except LoginError as error:
            self._refuse(asking, "code", error)

    def _verified(self, tokens: Tokens, ticket: Ticket) -> Mapping[str, Any]:
        now_s = self._clock.now().timestamp()
        section = self._section
        expected = ExpectedToken(
            section.issuer, section.client_id, ticket.nonce, tokens.access_token, now_s
        )
        keys = self._provider.keys()
        try:
            return self._verifies(tokens.id_token, keys, expected)
        except UnknownKeyError:
            pass
        # Keys are rotated: perhaps there is a new one.
        try:
            return self._verifies(tokens.id_token, self._provider.keys(but=keys), expected)
        except UnknownKeyError:
            raise TokenRefusedError("key") from None

    def _entered(self, claims: Mapping[str, Any], asking: Asking) -> Entered:
        issuer, subject = self._section.issuer, str(claims["sub"])
        known = self._identities.known(issuer, subject)
        who = known.name if known else _UNKNOWN
        role = role_of(claims, self._section)
        if role is None:
            if known is not None:
                self._identities.turn_out(known)
            refusal = LoginError(
                _("The identity provider knows you, but gives you no role here."),
                hint=_("Ask an administrator of dcmvault for one."),
            )
            self._refuse(asking, "role", refusal, who, subject)
        if not any(not one.issuer for one in self._identities.accounts.accounts()):
            # Whoever looks after this machine must be able to come in whatever a provider says.
            refusal = LoginError(
                _("The first account is made on the machine itself."),
                hint=_("Run there: dcmvault web user link"),
            )
            self._refuse(asking, "first", refusal, who, subject)
        name = claims.get(self._section.name_claim)
        person = Person(issuer, subject, name if isinstance(name, str) else "", role)
        try:
            kept = self._identities.account_of(person)
        except LoginError as error:
            self._refuse(asking, "disabled", error, who, subject)
        more = {"subject": subject, "role": role.value}
        return self._login.by_identity(kept, asking, _HOW, more)

    def _refuse(
        self,
        asking: Asking,
        reason: str,
        error: LoginError,
        who: str = _UNKNOWN,
        subject: str = "",
    ) -> NoReturn:
        """Write down that somebody does not come in, and why; raise the error."""
        more = {"reason": reason} | ({"subject": subject} if subject else {})
        self._login.note(AuditKind.LOGIN_FAILED, who, asking.address, _HOW, more)
        raise error


def _not_confirmed() -> LoginError:
    return LoginError(
        _("The identity provider's answer does not prove who you are."),
        hint=_("Log in again; if that does not help, tell an administrator."),
    )


def role_of(claims: Mapping[str, Any], section: OidcSection) -> Role | None:
    """Return the highest role that the claim gives; None for none."""
    value: object = claims.get(section.role_claim)
    if value is None:
        value = claims
        for part in section.role_claim.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
    values = value[:_MOST_VALUES] if isinstance(value, list) else [value]
    found = [section.roles[one] for one in values if isinstance(one, str) and one in section.roles]
    return max((Role(word) for word in found), key=lambda role: role.rank, default=None)
