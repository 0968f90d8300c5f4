"""ID tokens: whose signature counts, and what each must say (OpenID Connect Core 1.0, 3.1.3.7)."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from typing import Any

from joserfc import jwk, jws
from joserfc.errors import JoseError

from dcmvault.app.oidc_login import ExpectedToken, TokenRefusedError, UnknownKeyError

#: RFC 7518 section 3.1, those with a private key that only the provider has: the kind of key, its
#: curve, and the digest.
_ALGORITHMS = {
    "RS256": ("RSA", "", "sha256"),
    "RS384": ("RSA", "", "sha384"),
    "RS512": ("RSA", "", "sha512"),
    "PS256": ("RSA", "", "sha256"),
    "PS384": ("RSA", "", "sha384"),
    "PS512": ("RSA", "", "sha512"),
    "ES256": ("EC", "P-256", "sha256"),
    "ES384": ("EC", "P-384", "sha384"),
    "ES512": ("EC", "P-521", "sha512"),
}
#: RFC 7518 section 3.3; more bits are work for nothing.
_RSA_BITS = range(2048, 8193)
_LONGEST_NUMBER = 2000
_LONGEST_TOKEN = 64 * 1024
_LONGEST_HEADER = 8 * 1024
#: Of RSA with 8192 bits, in Base64, it has 1366.
_LONGEST_SIGNATURE = 2048
#: Seconds by which clocks may differ.
_LEEWAY_S = 60
#: A token that was issued longer ago is not the answer to a code of now (seconds).
_OLDEST_S = 600
_LONGEST_SUBJECT = 255


def verified_claims(
    token: str, keys: Sequence[Mapping[str, Any]], expected: ExpectedToken
) -> Mapping[str, Any]:
    """Return what an ID token says, once it is known to be the provider's, for us, and of now.

    UnknownKeyError where none of the keys is the one that it names; TokenRefusedError, which says
    why in a word, for all else.
    """
    registry = jws.JWSRegistry(algorithms=list(_ALGORITHMS), strict_check_header=False)
    registry.max_header_length = _LONGEST_HEADER
    registry.max_signature_length = _LONGEST_SIGNATURE
    if len(token) > _LONGEST_TOKEN or not token.isascii():
        raise TokenRefusedError("form")
    try:
        found = jws.extract_compact(token.encode("ascii"), registry=registry)
        header, payload = found.headers(), found.payload
    except (JoseError, ValueError, TypeError, RecursionError):
        raise TokenRefusedError("form") from None
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in _ALGORITHMS:
        raise TokenRefusedError("algorithm")
    if "crit" in header or "b64" in header:
        raise TokenRefusedError("form")
    key = _key(keys, algorithm, header.get("kid"))
    try:
        is_theirs = jws.validate_compact(found, key, algorithms=[algorithm], registry=registry)
    except (JoseError, ValueError, TypeError):
        is_theirs = False
    if not is_theirs:
        raise TokenRefusedError("signature")
    claims = _claims(payload)
    _require_ours(claims, expected)
    _require_now(claims, expected.now_s)
    _require_access_token(claims, expected.access_token, _ALGORITHMS[algorithm][2])
    return claims


def _key(keys: Sequence[Mapping[str, Any]], algorithm: str, kid: object) -> jwk.Key:
    """Return the key that a token names; without a name there must be only one that fits."""
    kind, curve, _digest = _ALGORITHMS[algorithm]
    fitting = [
        one
        for one in keys
        if one.get("kty") == kind
        and (not curve or one.get("crv") == curve)
        and one.get("use", "sig") == "sig"
        and one.get("alg", algorithm) == algorithm
        and (kid is None or one.get("kid") == kid)
    ]
    if not fitting:
        raise UnknownKeyError
    if len(fitting) > 1:
        raise TokenRefusedError("key")
    if kind == "RSA" and _bits(fitting[0].get("n")) not in _RSA_BITS:
        raise TokenRefusedError("key")
    # Nothing but the public parts: whatever else stands there is not ours to know.
    parts = ("kty", "n", "e") if kind == "RSA" else ("kty", "crv", "x", "y")
    try:
        return jwk.import_key({part: fitting[0][part] for part in parts})
    except (JoseError, ValueError, TypeError, KeyError):
        raise TokenRefusedError("key") from None


def _bits(number: object) -> int:
    """Return how long a number of a JWK is (RFC 7518 section 2); 0 for what is none."""
    if not isinstance(number, str) or len(number) > _LONGEST_NUMBER:
        return 0
    try:
        return int.from_bytes(urlsafe_b64decode(number.encode("ascii") + b"==")).bit_length()
    except ValueError:
        return 0


def _claims(payload: bytes) -> Mapping[str, Any]:
    try:
        claims = json.loads(payload)
    except (ValueError, RecursionError):
        claims = None
    if not isinstance(claims, dict):
        raise TokenRefusedError("form")
    return claims


def _require_ours(claims: Mapping[str, Any], expected: ExpectedToken) -> None:
    if claims.get("iss") != expected.issuer:
        raise TokenRefusedError("issuer")
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    azp = claims.get("azp")
    if expected.client_id not in audiences or (len(audiences) > 1 and azp is None):
        raise TokenRefusedError("audience")
    if azp is not None and azp != expected.client_id:
        raise TokenRefusedError("audience")
    nonce = claims.get("nonce")
    if not isinstance(nonce, str) or not _is_equal(nonce, expected.nonce):
        raise TokenRefusedError("nonce")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= _LONGEST_SUBJECT:
        raise TokenRefusedError("subject")
    # It is kept and shown: PostgreSQL keeps no NUL, and nobody sees what has no shape.
    if not subject.isascii() or not subject.isprintable():
        raise TokenRefusedError("subject")


def _require_now(claims: Mapping[str, Any], now_s: float) -> None:
    expires, issued = _time(claims.get("exp")), _time(claims.get("iat"))
    if now_s >= expires + _LEEWAY_S:
        raise TokenRefusedError("expired")
    if not now_s - _OLDEST_S - _LEEWAY_S <= issued <= now_s + _LEEWAY_S:
        raise TokenRefusedError("time")
    if "nbf" in claims and _time(claims["nbf"]) > now_s + _LEEWAY_S:
        raise TokenRefusedError("time")


def _time(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e12:
        raise TokenRefusedError("time")
    return float(value)


def _require_access_token(claims: Mapping[str, Any], access_token: str, digest: str) -> None:
    """Check that the access token, where it is named, came with this ID token (3.1.3.6)."""
    if "at_hash" not in claims:
        return
    whole = hashlib.new(digest, access_token.encode("utf-8", "replace")).digest()
    half = urlsafe_b64encode(whole[: len(whole) // 2]).rstrip(b"=").decode("ascii")
    if not isinstance(claims["at_hash"], str) or not _is_equal(claims["at_hash"], half):
        raise TokenRefusedError("access-token")


def _is_equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode("utf-8", "replace"))
