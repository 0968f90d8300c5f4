"""Tokens as somebody makes them who has no key of the provider."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.unit.web.oidc_world import rsa_key


def coded(value: bytes) -> str:
    """Write bytes as tokens have them (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def unsigned(claims: Mapping[str, Any], header: Mapping[str, Any], signature: bytes = b"") -> str:
    """Make a token with any header and any signature."""
    head, body = (coded(json.dumps(one).encode()) for one in (header, claims))
    return f"{head}.{body}.{coded(signature)}"


def by_public_key(claims: Mapping[str, Any], how: str) -> str:
    """Sign with what everybody knows, and take it for a secret."""
    public = rsa_key().private.public_key()
    secret = {
        "pem": public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "der": public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "jwk": json.dumps(rsa_key().jwk).encode(),
        "n": rsa_key().jwk["n"].encode(),
    }[how]
    told, _dot, _none = unsigned(claims, {"alg": "HS256", "kid": "first"}).rpartition(".")
    return f"{told}.{coded(hmac.digest(secret, told.encode(), hashlib.sha256))}"
