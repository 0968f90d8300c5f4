"""ID tokens with all that can be wrong with them, each with a word for why it does not count."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from tests.security.forged_tokens import by_public_key, coded, unsigned
from tests.unit.web.oidc_world import rsa_key

from dcmvault.app.oidc_login import ExpectedToken, TokenRefusedError, UnknownKeyError
from dcmvault.app.oidc_tokens import verified_claims
from dcmvault.testing.identity_provider import SigningKey

Claims = dict[str, Any]
NOW = 1_800_000_000
ISSUER = "https://login.example"
ACCESS = "an access token"
EXPECTED = ExpectedToken(ISSUER, "dcmvault", "n" * 43, ACCESS, NOW + 0.5)


def _right() -> Claims:
    return {
        "iss": ISSUER,
        "aud": "dcmvault",
        "sub": "ana-4711",
        "iat": NOW,
        "exp": NOW + 300,
        "nonce": "n" * 43,
        "at_hash": coded(hashlib.sha256(ACCESS.encode()).digest()[:16]),
    }


def _reason(token: str, *keys: Mapping[str, Any]) -> str:
    """Return why a token does not count; empty where it does."""
    try:
        verified_claims(token, keys or (rsa_key().jwk,), EXPECTED)
    except TokenRefusedError as error:
        return error.reason
    except UnknownKeyError:
        return "unknown key"
    return ""


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none"},
        {"alg": "None", "kid": "first"},
        {"alg": "nOnE"},
        {"alg": ""},
        {"alg": ["RS256"]},
        {"alg": None},
        {"alg": "RS256", "jwk": {}},
        {"alg": "dir", "enc": "A256GCM"},
        {"alg": "RS256", "kid": "first", "crit": ["b64"], "b64": False},
        {"alg": "RS256", "kid": "first", "b64": False},
    ],
    ids=str,
)
def test_what_is_not_signed(header: Mapping[str, Any]) -> None:
    is_odd = "crit" in header or "b64" in header
    known = header["alg"] == "RS256"
    # A key of its own is not looked at; without a name the provider's only one is.
    reason = "form" if is_odd else "signature" if known else "algorithm"
    for signature in (b"", b"x" * 256):
        assert _reason(unsigned(_right(), header, signature)) == reason


@pytest.mark.parametrize("how", ["pem", "der", "jwk", "n"])
def test_a_public_key_is_no_secret(how: str) -> None:
    assert _reason(by_public_key(_right(), how)) == "algorithm"


@pytest.mark.parametrize(
    "token",
    ["", "x", "..", "a.b.c", "é.é.é", "e30.e30.e30", "e30.e30.e30.e30.e30", "W10.e30.", "." * 99],
)
def test_what_is_no_token(token: str) -> None:
    assert _reason(token) == "form"


@pytest.mark.parametrize("payload", [b"[]", b"null", b"{", b"\xff", b"[" * 50_000, b"7"])
def test_what_is_signed_and_says_nothing(payload: bytes) -> None:
    told = f"{coded(json.dumps({'alg': 'RS256'}).encode())}.{coded(payload)}"
    assert _reason(f"{told}.{coded(rsa_key().signature(told.encode()))}") == "form"


def test_a_huge_token() -> None:
    assert _reason(rsa_key().token({**_right(), "groups": ["x" * 40_000]})) == ""
    assert _reason(rsa_key().token({**_right(), "groups": ["x" * 50_000]})) == "form"
    assert _reason(rsa_key().token(_right(), {"x5c": "x" * 9_000})) == "form"


WRONG: Mapping[str, tuple[str, Callable[[Claims], Claims]]] = {
    "another issuer": ("issuer", lambda c: {"iss": "https://evil.example"}),
    "an issuer with a slash": ("issuer", lambda c: {"iss": c["iss"] + "/"}),
    "no issuer": ("issuer", lambda c: {"iss": None}),
    "another audience": ("audience", lambda c: {"aud": "wiki"}),
    "no audience": ("audience", lambda c: {"aud": None}),
    "an audience that only begins so": ("audience", lambda c: {"aud": "dcmvault2"}),
    "two audiences": ("audience", lambda c: {"aud": ["dcmvault", "wiki"]}),
    "for somebody else": ("audience", lambda c: {"aud": ["dcmvault", "wiki"], "azp": "wiki"}),
    "given to somebody else": ("audience", lambda c: {"azp": "wiki"}),
    "expired": ("expired", lambda c: {"exp": NOW - 61}),
    "expires never": ("time", lambda c: {"exp": None}),
    "expires in words": ("time", lambda c: {"exp": "tomorrow"}),
    "expires in infinity": ("time", lambda c: {"exp": float("inf")}),
    "expires truly": ("time", lambda c: {"exp": True}),
    "of an hour ago": ("time", lambda c: {"iat": NOW - 3600}),
    "of tomorrow": ("time", lambda c: {"iat": NOW + 86_400, "exp": NOW + 90_000}),
    "of no time": ("time", lambda c: {"iat": None}),
    "not yet": ("time", lambda c: {"nbf": NOW + 120}),
    "another nonce": ("nonce", lambda c: {"nonce": "x" * 43}),
    "no nonce": ("nonce", lambda c: {"nonce": None}),
    "an empty nonce": ("nonce", lambda c: {"nonce": ""}),
    "a list of nonces": ("nonce", lambda c: {"nonce": [c["nonce"]]}),
    "nobody": ("subject", lambda c: {"sub": ""}),
    "no subject": ("subject", lambda c: {"sub": None}),
    "a number": ("subject", lambda c: {"sub": 7}),
    "a long subject": ("subject", lambda c: {"sub": "x" * 256}),
    "a subject with a NUL": ("subject", lambda c: {"sub": "ana-4711\0"}),
    "another access token": ("access-token", lambda c: {"at_hash": "x" * 22}),
    "no text for the access token": ("access-token", lambda c: {"at_hash": 7}),
}


@pytest.mark.parametrize("lie", WRONG)
def test_a_token_that_is_about_something_else(lie: str) -> None:
    reason, changed = WRONG[lie]
    right = _right()
    assert _reason(rsa_key().token({**right, **changed(right)})) == reason


@pytest.mark.parametrize(
    "changed",
    [
        lambda c: {"aud": ["dcmvault"]},
        lambda c: {"aud": ["wiki", "dcmvault"], "azp": "dcmvault"},
        lambda c: {"exp": NOW - 59, "iat": NOW - 359},
        lambda c: {"iat": NOW + 59, "nbf": NOW + 59},
        lambda c: {"unknown": [[{}]]},
    ],
)
def test_what_is_right_is_not_refused(changed: Callable[[Claims], Claims]) -> None:
    right = _right()
    assert _reason(rsa_key().token({**right, **changed(right)})) == ""
    curve = SigningKey("curve", "ES256")
    assert _reason(curve.token({**right, **changed(right)}), rsa_key().jwk, curve.jwk) == ""


def test_a_token_of_which_a_letter_changed() -> None:
    head, body, signature = rsa_key().token(_right()).split(".")
    other = "B" if body[40] == "A" else "A"
    assert _reason(f"{head}.{body[:40]}{other}{body[41:]}.{signature}") == "signature"
    assert _reason(f"{head}.{body}.") == "signature"
    assert _reason(f"{head}.{body}.{signature[:-4]}") == "signature"


def test_a_key_of_somebody_else() -> None:
    assert _reason(SigningKey("first", "ES256").token(_right())) == "unknown key"
    stranger = SigningKey("first")
    assert _reason(stranger.token(_right())) == "signature"
    # Nor does it count where a token brings it along.
    brought = {"jwk": stranger.jwk, "jku": "http://127.0.0.1:1/keys", "kid": None}
    assert _reason(stranger.token(_right(), brought)) == "signature"


def test_a_token_without_a_keys_name_needs_an_only_key() -> None:
    token, jwk = rsa_key().token(_right(), {"kid": None}), rsa_key().jwk
    assert _reason(token) == ""
    assert _reason(token, jwk, SigningKey("curve", "ES256").jwk) == ""
    assert _reason(token, jwk, {**jwk, "kid": "twin"}) == "key"
    assert _reason(rsa_key().token(_right()), jwk, jwk) == "key"


@pytest.mark.parametrize(
    "change",
    [
        {"use": "enc"},
        {"alg": "RS512"},
        {"kty": "oct", "k": "c2VjcmV0"},
        {"n": coded(b"\xff" * 128)},
        {"n": coded(b"\xff" * 2048)},
        {"n": "!"},
        {"n": None},
        {"e": 7},
        {"e": ""},
        {"kid": "another"},
    ],
    ids=lambda change: ", ".join(f"{name} {str(value)[:8]}" for name, value in change.items()),
)
def test_a_key_that_is_none_for_this(change: Mapping[str, Any]) -> None:
    is_other = set(change) & {"use", "alg", "kty", "kid"}
    reason = "unknown key" if is_other else "key"
    assert _reason(rsa_key().token(_right()), {**rsa_key().jwk, **change}) == reason
