"""An OpenID Connect provider over HTTP: what it says of itself, its keys, and codes for tokens.

It is asked at its configured address, and at those that its own discovery document names; no
redirection is followed, every wait ends, and no answer is too long.
"""

from __future__ import annotations

import json
import logging
import threading
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_plus, urlencode, urlsplit

from dcmvault.config import secrets
from dcmvault.config.oidc_section import OidcSection
from dcmvault.config.peer_sections import is_private_way
from dcmvault.dicom.http_connection import HttpConnection, HttpPeer, HttpRequest
from dcmvault.dicom.tls import TlsClient, TlsOptions
from dcmvault.errors import (
    ConfigurationError,
    DestinationError,
    LoginError,
    LoginServiceError,
)
from dcmvault.i18n import gettext as _
from dcmvault.ports.clock import Clock

_log = logging.getLogger(__name__)

_WELL_KNOWN = "/.well-known/openid-configuration"
#: Bytes of an answer, at most.
_LONGEST_ANSWER = 256 * 1024
_CONNECT_S = 5.0
#: Until an answer begins, and again until it ends.
_ANSWER_S = 5.0
#: Requests to the provider at once: each holds a thread that pages are made by.
_AT_ONCE = 4
#: How long what it says of itself is believed (seconds).
_BELIEVED_S = 3600.0
#: Keys that are not known are asked for so often, at most (seconds).
_KEYS_AGAIN_S = 30.0
#: After a failure it is left alone so long (seconds).
_AFTER_FAILURE_S = 5.0
_MOST_KEYS = 64
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class ProviderDocument:
    """What of its discovery document is used (OpenID Connect Discovery 1.0, section 3)."""

    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    #: How we say at the token endpoint who we are.
    takes_basic: bool
    #: Its answers to browsers name it (RFC 9207).
    names_itself: bool


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a code was exchanged for."""

    id_token: str = field(repr=False)
    #: Only looked at to check that it belongs to the ID token; nothing is asked with it.
    access_token: str = field(repr=False)


class OidcProvider:
    """The configured provider. Safe for several threads."""

    def __init__(self, section: OidcSection, clock: Clock) -> None:
        self._section = section
        self._clock = clock
        self._turns = threading.BoundedSemaphore(_AT_ONCE)
        # Each with when it was asked for; replaced as a whole, so that no lock is needed.
        self._document: tuple[ProviderDocument, float] | None = None
        self._keys: tuple[Sequence[Mapping[str, Any]], float] | None = None
        self._failed_at: float | None = None

    def document(self) -> ProviderDocument:
        """Return what it says of itself; LoginServiceError where it does not, or not rightly."""
        kept = self._document
        if kept is not None and self._since(kept[1]) < _BELIEVED_S:
            return kept[0]
        with self._turn(), self._remembering_failure():
            said = self._exchanged(self._section.issuer.rstrip("/") + _WELL_KNOWN)
            document = _document(said, self._section.issuer)
        self._document = (document, self._clock.monotonic())
        return document

    def keys(
        self, *, but: Sequence[Mapping[str, Any]] | None = None
    ) -> Sequence[Mapping[str, Any]]:
        """Return its keys as JWKs; asked for anew where `but`, as they were, are not enough.

        LoginServiceError as `document`.
        """
        kept = self._keys
        if kept is not None:
            longest = _KEYS_AGAIN_S if kept[0] is but else _BELIEVED_S
            if self._since(kept[1]) < longest:
                return kept[0]
        url = self.document().jwks_uri
        with self._turn(), self._remembering_failure():
            said = self._exchanged(url).get("keys")
            if not isinstance(said, list) or len(said) > _MOST_KEYS:
                raise _strange()
        keys = [one for one in said if isinstance(one, dict)]
        self._keys = (keys, self._clock.monotonic())
        return keys

    def redeem(self, code: str, verifier: str) -> Tokens:
        """Exchange a code for tokens (RFC 6749 section 4.1.3, RFC 7636 section 4.5).

        LoginError where the provider refuses the code, LoginServiceError as `document`.
        """
        document, section = self.document(), self._section
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": section.redirect_uri,
            "code_verifier": verifier,
        }
        headers = {}
        secret = _secret(section)
        if secret and document.takes_basic:
            # Both are encoded as in a form first (RFC 6749 section 2.3.1).
            who = f"{quote_plus(section.client_id)}:{quote_plus(secret)}"
            headers["Authorization"] = "Basic " + b64encode(who.encode("ascii")).decode("ascii")
        else:
            form["client_id"] = section.client_id
            if secret:
                form["client_secret"] = secret
        body = urlencode(form).encode("ascii")
        with self._turn():
            said = self._exchanged(document.token_endpoint, body, headers)
        tokens = [said.get("id_token"), said.get("access_token", "")]
        if not all(isinstance(one, str) for one in tokens) or not tokens[0]:
            raise _strange()
        return Tokens(*map(str, tokens))

    def _since(self, at: float) -> float:
        return self._clock.monotonic() - at

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait for nobody: so many requests run at once, and no more."""
        if not self._turns.acquire(blocking=False):
            raise LoginServiceError(
                _("Too many people log in with the identity provider at once."),
                hint=_("Try again in a moment."),
            )
        try:
            yield
        finally:
            self._turns.release()

    @contextmanager
    def _remembering_failure(self) -> Iterator[None]:
        """Leave a provider alone for a while that failed: anybody can make us ask."""
        if self._failed_at is not None and self._since(self._failed_at) < _AFTER_FAILURE_S:
            raise LoginServiceError(
                _("The identity provider did not answer rightly a moment ago."),
                hint=_("Log in with a password here, or try again later."),
            )
        try:
            yield
        except LoginServiceError:
            self._failed_at = self._clock.monotonic()
            raise

    def _exchanged(
        self, url: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Mapping[str, Any]:
        """Ask the provider; return the JSON object that it answers with."""
        sent = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": "dcmvault",
            "Connection": "close",
        }
        if body is None:
            request = HttpRequest("GET", _target(url), {**sent, **(headers or {})})
        else:
            sent["Content-Type"] = "application/x-www-form-urlencoded"
            request = HttpRequest(
                "POST", _target(url), {**sent, **(headers or {})}, lambda: (body,), len(body)
            )
        try:
            with HttpConnection(self._peer(url)) as connection:
                answer = connection.exchange(request, longest_answer=_LONGEST_ANSWER)
        except (DestinationError, ConfigurationError) as error:
            _log.warning("the identity provider cannot be asked: %s", error.message)
            raise LoginServiceError(
                _("The identity provider does not answer."),
                hint=_("Log in with a password here, or try again later."),
            ) from error
        said = _object(answer.body)
        if body is not None and answer.status in (400, 401):
            raise _refusal(said.get("error"))
        if answer.status != 200:
            _log.warning("the identity provider answers with HTTP status %d", answer.status)
            raise LoginServiceError(
                _("The identity provider answers with HTTP status %d.") % answer.status,
                hint=_ask_administrator(),
            )
        return said

    def _peer(self, url: str) -> HttpPeer:
        parts = urlsplit(url)
        tls = None
        if parts.scheme == "https":
            tls = TlsClient(TlsOptions(ca_file=self._section.tls_ca_file))
        return HttpPeer(
            parts.hostname or "",
            parts.port or _DEFAULT_PORTS[parts.scheme],
            tls,
            connect_timeout_s=_CONNECT_S,
            response_timeout_s=_ANSWER_S,
        )


def _document(said: Mapping[str, Any], issuer: str) -> ProviderDocument:
    if said.get("issuer") != issuer:
        raise LoginServiceError(
            _("The identity provider calls itself otherwise than the configuration does."),
            hint=_("Write “issuer” in [web.oidc] exactly as its discovery document has it."),
        )
    ways = said.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
    challenges = said.get("code_challenge_methods_supported", ["S256"])
    if not isinstance(ways, list) or not isinstance(challenges, list) or "S256" not in challenges:
        raise _strange()
    return ProviderDocument(
        authorization_endpoint=_endpoint(said.get("authorization_endpoint"), issuer),
        token_endpoint=_endpoint(said.get("token_endpoint"), issuer),
        jwks_uri=_endpoint(said.get("jwks_uri"), issuer),
        takes_basic="client_secret_basic" in ways or "client_secret_post" not in ways,
        names_itself=said.get("authorization_response_iss_parameter_supported") is True,
    )


def _endpoint(url: object, issuer: str) -> str:
    """Return an address that may be asked: by TLS, but where the provider is on this machine."""
    try:
        is_fine = isinstance(url, str) and len(url) < 2000 and is_private_way(url)
    except ValueError:
        is_fine = False
    if (
        not is_fine
        or "#" in str(url)
        or not (str(url).startswith("https:") or issuer.startswith("http:"))
    ):
        raise _strange()
    return str(url)


def _target(url: str) -> str:
    parts = urlsplit(url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _secret(section: OidcSection) -> str:
    try:
        return secrets.resolve(section.client_secret) if section.client_secret else ""
    except ConfigurationError as error:
        raise LoginServiceError(
            _("The secret for the identity provider cannot be read."), hint=_ask_administrator()
        ) from error


def _refusal(word: object) -> LoginError:
    """Say what a refused code means: who brought it is to blame, or how we are known there."""
    if word in ("invalid_client", "unauthorized_client"):
        return LoginServiceError(
            _("The identity provider does not know this dashboard, or not with this secret."),
            hint=_ask_administrator(),
        )
    return LoginError(
        _("The identity provider does not confirm this login."), hint=_("Log in again.")
    )


def _strange() -> LoginServiceError:
    return LoginServiceError(
        _("The identity provider does not answer as OpenID Connect asks."),
        hint=_ask_administrator(),
    )


def _ask_administrator() -> str:
    return _("Tell an administrator, who runs “dcmvault doctor”, and log in with a password here.")
