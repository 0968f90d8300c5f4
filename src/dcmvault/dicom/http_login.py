"""Saying who we are to an HTTP service: nothing, basic, a bearer token, or OAuth2."""

from __future__ import annotations

import json
import threading
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import quote_plus, urlencode

from dcmvault.dicom.http_connection import HttpConnection, HttpPeer, HttpRequest
from dcmvault.errors import (
    ConfigurationError,
    DestinationError,
    DestinationStoppedError,
    DestinationUnreachableError,
)

_LONGEST_TOKEN_ANSWER = 64 << 10
#: A token is renewed so many seconds before it expires, or in the middle of a short life.
_MARGIN_S = 60.0
#: Where the answer does not say how long a token is valid (RFC 6749 section 5.1: it should).
_USUAL_LIFE_S = 3600.0
#: RFC 6749 section 5.2. Other words of the peer are not repeated.
_TOKEN_ERRORS = frozenset(
    {
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
    }
)


class Login(Protocol):
    """Gives the value of the `Authorization` header. Safe for several threads."""

    def header(self) -> str:
        """Return the value in force; empty for none.

        Raises DestinationUnreachableError or DestinationStoppedError where it must be asked for.
        """
        ...

    def renew(self, refused: str) -> bool:
        """Get another value after the peer refused this one; say whether there is another.

        Raises as `header`.
        """
        ...


@dataclass(frozen=True, slots=True)
class FixedLogin:
    """The same value for every request."""

    value: str = field(default="", repr=False)

    def header(self) -> str:
        """Return the value."""
        return self.value

    def renew(self, refused: str) -> bool:  # noqa: ARG002 - the protocol
        """Say that there is no other."""
        return False


def basic_login(user: str, password: str) -> FixedLogin:
    """Log in with user and password (RFC 7617)."""
    if ":" in user:
        raise ConfigurationError("The user of a DICOMweb service cannot contain a colon.")
    return FixedLogin("Basic " + b64encode(f"{user}:{password}".encode()).decode("ascii"))


def bearer_login(token: str) -> FixedLogin:
    """Log in with a token that somebody gave us (RFC 6750)."""
    if not _is_token(token):
        raise ConfigurationError("What a bearer token refers to is no token: it has other signs.")
    return FixedLogin(f"Bearer {token}")


def _is_token(text: object) -> bool:
    """Say whether a value can stand in a header as one word."""
    return (
        isinstance(text, str)
        and text.isascii()
        and text.isprintable()
        and 0 < len(text.split()) < 2
    )


@dataclass
class ClientCredentialsLogin:
    """OAuth2 client credentials (RFC 6749 section 4.4); a token is kept while it is valid."""

    #: Where tokens are given.
    peer: HttpPeer
    target: str
    client_id: str
    client_secret: str = field(repr=False)
    scope: str
    #: Seconds that never run backwards.
    monotonic: Callable[[], float]
    _header: str = field(default="", repr=False)
    _renew_at: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def header(self) -> str:
        """Return the token in force, asked for anew where it is about to end."""
        with self._lock:
            if not self._header or self.monotonic() >= self._renew_at:
                self._ask()
            return self._header

    def renew(self, refused: str) -> bool:
        """Ask for another token, unless another thread did so meanwhile."""
        with self._lock:
            if self._header == refused:
                self._ask()
            return True

    def _ask(self) -> None:
        form = {"grant_type": "client_credentials"} | ({"scope": self.scope} if self.scope else {})
        body = urlencode(form).encode("ascii")
        # Both are encoded as in a form first (RFC 6749 section 2.3.1).
        who = f"{quote_plus(self.client_id)}:{quote_plus(self.client_secret)}"
        headers = {
            "Authorization": "Basic " + b64encode(who.encode("ascii")).decode("ascii"),
            "Content-Type": "application/x-www-form-urlencoded",
            "Accept": "application/json",
        }
        try:
            with HttpConnection(self.peer) as connection:
                request = HttpRequest("POST", self.target, headers, lambda: (body,), len(body))
                answer = connection.exchange(request, longest_answer=_LONGEST_TOKEN_ANSWER)
        except (DestinationUnreachableError, DestinationStoppedError):
            raise
        except DestinationError as error:
            raise DestinationStoppedError(error.message, hint=error.hint) from error
        found = _read_object(answer.body)
        if answer.status != 200:
            raise self._refusal(answer.status, found.get("error"))
        token = found.get("access_token")
        is_bearer = str(found.get("token_type", "bearer")).lower() == "bearer"
        if not _is_token(token) or not is_bearer:
            raise DestinationStoppedError(
                f"{self.peer.name} answered the request for a token with something else",
                hint="Check `oauth2_token_url` in the configuration.",
            )
        life_s = _life_s(found.get("expires_in"))
        self._header = f"Bearer {token}"
        self._renew_at = self.monotonic() + life_s - min(_MARGIN_S, life_s / 2)

    def _refusal(
        self, status: int, error: object
    ) -> DestinationStoppedError | DestinationUnreachableError:
        word = error if isinstance(error, str) and error in _TOKEN_ERRORS else "no reason"
        message = f"{self.peer.name} gives no token: it answered {status} ({word})"
        if status == 429 or status >= 500:
            return DestinationUnreachableError(message, hint="Look at that service's log.")
        return DestinationStoppedError(
            message, hint="Check the client's id, secret and scope in the configuration."
        )


def _read_object(body: bytes) -> dict[str, object]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _life_s(value: object) -> float:
    """Return how long a token is valid; nonsense counts as the usual."""
    if isinstance(value, str) and value.isdecimal() and len(value) < 16:
        value = int(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e9:
        return float(value)
    return _USUAL_LIFE_S
