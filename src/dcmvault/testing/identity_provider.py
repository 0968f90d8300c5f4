"""An OpenID Connect provider on loopback: discovery, login form, codes for tokens, keys.

It does what OpenID Connect Core 1.0 and RFC 7636 ask of one, holds its clients to it, and signs by
itself, not with the library that its tokens are checked with. `Lies` make it another.
"""

from __future__ import annotations

import hashlib
import html
import json
import secrets
import ssl
import threading
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, parse_qsl, unquote_plus, urlencode, urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from dcmvault.ports.clock import Clock

#: How long a token is valid (seconds).
_LASTS_S = 300
_GENEROUS_S = 60.0


class SigningKey:
    """A key pair, and the JWK of its public half; RSA for RS256, else P-256 for ES256."""

    def __init__(self, kid: str, algorithm: str = "RS256", bits: int = 2048) -> None:
        self.kid = kid
        self.algorithm = algorithm
        self.private = (
            rsa.generate_private_key(public_exponent=65537, key_size=bits)
            if algorithm.startswith("RS")
            else ec.generate_private_key(ec.SECP256R1())
        )

    @property
    def jwk(self) -> dict[str, str]:
        """The public key as RFC 7517 has it."""
        about = {"kid": self.kid, "use": "sig", "alg": self.algorithm}
        if isinstance(self.private, rsa.RSAPrivateKey):
            numbers = self.private.public_key().public_numbers()
            return {"kty": "RSA", "n": _number(numbers.n), "e": _number(numbers.e), **about}
        point = self.private.public_key().public_numbers()
        x, y = (_coded(value.to_bytes(32, "big")) for value in (point.x, point.y))
        return {"kty": "EC", "crv": "P-256", "x": x, "y": y, **about}

    def signature(self, told: bytes) -> bytes:
        """Sign (RFC 7518 sections 3.3 and 3.4)."""
        if isinstance(self.private, rsa.RSAPrivateKey):
            return self.private.sign(told, padding.PKCS1v15(), hashes.SHA256())
        r, s = decode_dss_signature(self.private.sign(told, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def token(self, claims: Mapping[str, Any], header: Mapping[str, Any] | None = None) -> str:
        """Make a signed token (RFC 7515 section 7.1); a header's None leaves a name out."""
        said = {"typ": "JWT", "alg": self.algorithm, "kid": self.kid, **(header or {})}
        said = {name: value for name, value in said.items() if value is not None}
        told = f"{_json(said)}.{_json(claims)}"
        return f"{told}.{_coded(self.signature(told.encode('ascii')))}"


@dataclass(slots=True)
class Lies:
    """What it says instead of the truth; nothing at first."""

    #: Made of the claims that would be right.
    claims: Callable[[dict[str, Any]], Mapping[str, Any]] = field(default=dict)
    #: Made of the claims, in the place of the signed token.
    token: Callable[[Mapping[str, Any]], str] | None = None
    #: Put over the discovery document.
    document: Mapping[str, Any] = field(default_factory=dict)
    #: Put over what a browser takes back.
    answer: Mapping[str, str] = field(default_factory=dict)
    #: In the place of the keys.
    keys: bytes = b""
    #: Paths that are answered with a redirection, and where to.
    redirects: Mapping[str, str] = field(default_factory=dict)
    #: Paths that are not answered at all while it runs.
    silent: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Grant:
    """What a code was given for."""

    subject: str
    asked: Mapping[str, str]


class IdentityProvider:
    """Serves from its making until `close`; safe for several threads."""

    client_id = "dcmvault"
    #: With what has to be encoded on its way.
    client_secret = "100 % secret: of nobody"  # noqa: S105 - of nobody

    def __init__(
        self,
        clock: Clock,
        redirect_uri: str,
        key: SigningKey | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.clock = clock
        self.redirect_uri = redirect_uri
        self.key = key or SigningKey("first")
        #: Claims of people by their `sub`.
        self.people: dict[str, dict[str, Any]] = {}
        self.lies = Lies()
        #: Paths that were asked for, in order.
        self.asked: list[str] = []
        self._grants: dict[str, _Grant] = {}
        self._closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.provider = self
        self._scheme = "https" if tls else "http"
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    @property
    def issuer(self) -> str:
        """What it calls itself."""
        return f"{self._scheme}://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """End; nothing is left open."""
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(_GENEROUS_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def wait_for_end(self) -> None:
        """Wait until it is closed."""
        self._closing.wait(_GENEROUS_S)

    def document(self) -> dict[str, Any]:
        """Return what it says of itself (OpenID Connect Discovery 1.0, section 3)."""
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [self.key.algorithm],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
            **self.lies.document,
        }

    def keys(self) -> bytes:
        """Return its public keys as a set (RFC 7517 section 5)."""
        return self.lies.keys or json.dumps({"keys": [self.key.jwk]}).encode()

    def wrong_with(self, asked: Mapping[str, str]) -> str:
        """Say what is wrong with a browser's request; empty for nothing."""
        rules = {
            "client_id": asked.get("client_id") == self.client_id,
            "redirect_uri": asked.get("redirect_uri") == self.redirect_uri,
            "response_type": asked.get("response_type") == "code",
            "scope": "openid" in asked.get("scope", "").split(),
            "state": len(asked.get("state", "")) >= 20,
            "nonce": len(asked.get("nonce", "")) >= 20,
            "code_challenge": len(asked.get("code_challenge", "")) == 43,
            "code_challenge_method": asked.get("code_challenge_method") == "S256",
        }
        return ", ".join(name for name, is_right in rules.items() if not is_right)

    def let_back(self, asked: Mapping[str, str], subject: str) -> str:
        """Return where a browser goes whose person logged in here."""
        code = secrets.token_urlsafe(16)
        self._grants[code] = _Grant(subject, dict(asked))
        told = {"code": code, "state": asked["state"], "iss": self.issuer, **self.lies.answer}
        return f"{self.redirect_uri}?{urlencode(told)}"

    def tokens(
        self, form: Mapping[str, str], authorization: str
    ) -> tuple[int, Mapping[str, object]]:
        """Exchange a code (RFC 6749 section 5); each works once."""
        if not self._is_client(form, authorization):
            return 401, {"error": "invalid_client"}
        grant = self._grants.pop(form.get("code", ""), None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        if (
            form.get("grant_type") != "authorization_code"
            or grant is None
            or form.get("redirect_uri") != grant.asked["redirect_uri"]
            or _coded(digest) != grant.asked["code_challenge"]
        ):
            return 400, {"error": "invalid_grant"}
        access_token = secrets.token_urlsafe(24)
        now: datetime = self.clock.now()
        half = hashlib.sha256(access_token.encode()).digest()[:16]
        right = {
            "iss": self.issuer,
            "aud": self.client_id,
            "sub": grant.subject,
            "iat": int(now.timestamp()),
            "exp": int(now.timestamp()) + _LASTS_S,
            "nonce": grant.asked["nonce"],
            "at_hash": _coded(half),
            **self.people.get(grant.subject, {}),
        }
        claims = self.lies.claims(right)
        token = self.lies.token(claims) if self.lies.token else self.key.token(claims)
        return 200, {"access_token": access_token, "token_type": "Bearer", "id_token": token}

    def _is_client(self, form: Mapping[str, str], authorization: str) -> bool:
        scheme, _space, coded = authorization.partition(" ")
        if scheme == "Basic":
            name, _colon, secret = b64decode(coded).decode().partition(":")
            shown = unquote_plus(name), unquote_plus(secret)
        else:
            shown = form.get("client_id", ""), form.get("client_secret", "")
        return shown == (self.client_id, self.client_secret)


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    provider: IdentityProvider


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _GENEROUS_S

    def do_GET(self) -> None:
        path, query = self._path()
        if not self._lies(path):
            return
        provider = self.server.provider
        if path == "/.well-known/openid-configuration":
            self._answer(200, "application/json", json.dumps(provider.document()).encode())
        elif path == "/keys":
            self._answer(200, "application/json", provider.keys())
        elif path == "/authorize":
            wrong = provider.wrong_with(query)
            body = f"wrong: {wrong}" if wrong else _form(query)
            self._answer(400 if wrong else 200, "text/html; charset=utf-8", body.encode())
        else:
            self._answer(404, "text/plain", b"")

    def do_POST(self) -> None:
        path, _query = self._path()
        length = int(self.headers.get("Content-Length", "0"))
        form = dict(parse_qsl(self.rfile.read(length).decode(), keep_blank_values=True))
        if not self._lies(path):
            return
        provider = self.server.provider
        if path == "/token":
            status, said = provider.tokens(form, self.headers.get("Authorization", ""))
            self._answer(status, "application/json", json.dumps(said).encode())
        elif path == "/authorize" and not provider.wrong_with(form):
            self._redirect(provider.let_back(form, form.get("subject", "")))
        else:
            self._answer(400, "text/plain", b"")

    def _path(self) -> tuple[str, dict[str, str]]:
        parts = urlsplit(self.path)
        self.server.provider.asked.append(parts.path)
        return parts.path, {name: values[-1] for name, values in parse_qs(parts.query).items()}

    def _lies(self, path: str) -> bool:
        """Say whether the request is still to be answered."""
        lies = self.server.provider.lies
        if path in lies.silent:
            self.server.provider.wait_for_end()
            self.close_connection = True
            return False
        if path in lies.redirects:
            self._redirect(lies.redirects[path])
            return False
        return True

    def _redirect(self, where: str) -> None:
        self.send_response(302)
        self.send_header("Location", where)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


def _form(asked: Mapping[str, str]) -> str:
    hidden = "".join(
        f'<input type="hidden" name="{html.escape(name)}" value="{html.escape(value)}">'
        for name, value in asked.items()
    )
    return (
        '<!DOCTYPE html><html lang="en"><title>Provider</title><h1>Who are you?</h1>'
        f'<form method="post" action="/authorize">{hidden}'
        '<label>Name <input name="subject"></label><button>It is me</button></form>'
    )


def _coded(value: bytes) -> str:
    return urlsafe_b64encode(value).rstrip(b"=").decode("ascii")


def _json(value: Mapping[str, Any]) -> str:
    return _coded(json.dumps(value).encode())


def _number(value: int) -> str:
    return _coded(value.to_bytes((value.bit_length() + 7) // 8, "big"))
