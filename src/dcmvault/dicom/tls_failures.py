"""Failures of TLS in words: what was refused, by whom, and what a person can do about it."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from dcmvault.errors import DestinationUnreachableError, TlsRefusedError


@dataclass(frozen=True, slots=True)
class Attempt:
    """A connection that was tried: how messages call the peer, its host, our limit in seconds."""

    name: str
    host: str
    timeout_s: float
    #: We have a certificate of our own to show.
    shows_certificate: bool = False


_SELF_SIGNED = (
    "its certificate is signed by itself, and it is not trusted",
    "If it is the peer's own, compare its SHA-256 fingerprint there and write it as"
    " tls_fingerprint, or name its file as tls_ca_file.",
)
_UNKNOWN_AUTHORITY = (
    "its certificate was signed by an authority that is not trusted",
    "Name the authority's certificate as tls_ca_file, or pin the peer's (tls_fingerprint).",
)
_EXPIRED = (
    "its certificate has expired",
    "Have the peer's certificate renewed; check this machine's clock, too.",
)
_NOT_YET_VALID = (
    "its certificate is not valid yet",
    "Check this machine's clock and the peer's, and the dates of its certificate.",
)
_WEAK = (
    "its certificate is too weak (a short key, or an outdated signature)",
    "Have the peer's certificate made anew: RSA of 2048 bits or more, SHA-256.",
)
_WRONG_PURPOSE = (
    "its certificate, or that of its authority, is made for another purpose",
    "Have the peer's certificate made anew, as one for servers.",
)
#: By OpenSSL's codes of verification (openssl-verification-options(1), x509_vfy.h).
_BY_VERIFICATION = {
    9: _NOT_YET_VALID,
    10: _EXPIRED,
    18: _SELF_SIGNED,
    **dict.fromkeys((2, 19, 20, 21, 27), _UNKNOWN_AUTHORITY),
    **dict.fromkeys((24, 26, 28, 32, 79), _WRONG_PURPOSE),
    **dict.fromkeys((66, 67, 68), _WEAK),
}
_HOST_NAME_MISMATCH = frozenset({62, 64})

_NO_TLS = frozenset(
    {
        "WRONG_VERSION_NUMBER",
        "HTTP_REQUEST",
        "UNKNOWN_PROTOCOL",
        "RECORD_LAYER_FAILURE",
        "PACKET_LENGTH_TOO_LONG",
    }
)
_TOO_OLD = frozenset({"UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION", "VERSION_TOO_LOW"})
#: Alerts about our certificate, or that there is none (RFC 8446 section 6.2).
_OUR_CERTIFICATE = {
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "none was shown",
    "TLSV1_ALERT_UNKNOWN_CA": "its authority is not known there",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it is not accepted",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "its kind is not accepted",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "it was revoked",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it has expired",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it is not accepted",
    "TLSV1_ALERT_ACCESS_DENIED": "its owner may not enter",
    "TLSV1_ALERT_DECRYPT_ERROR": "it is not accepted",
}
_HANDSHAKE_FAILURE = "SSLV3_ALERT_HANDSHAKE_FAILURE"
_NO_TLS_HINT = "It may speak DICOM without TLS on this port: then write dicom:// instead."


def explain_handshake(
    attempt: Attempt, error: OSError, *, agreed: bool
) -> DestinationUnreachableError:
    """Make the error for a handshake that failed; `agreed` when a cipher was agreed on before."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _refused(attempt, *_verification(attempt, error))
    if isinstance(error, TimeoutError):
        return DestinationUnreachableError(
            f"{attempt.name}: no TLS within {attempt.timeout_s:g} s",
            hint=f"{_NO_TLS_HINT} Or the peer is stuck.",
        )
    reason = error.reason if isinstance(error, ssl.SSLError) else ""
    if reason in _NO_TLS:
        return _refused(attempt, "it does not speak TLS on this port", _NO_TLS_HINT)
    if reason in _TOO_OLD:
        return _refused(
            attempt,
            "it offers only versions of TLS that are no longer safe",
            "Enable TLS 1.2 or 1.3 at the peer.",
        )
    if reason == _HANDSHAKE_FAILURE and not agreed:
        return _refused(
            attempt,
            "it knows none of the safe ciphers of TLS",
            "Enable a profile of BCP 195 at the peer (PS3.15 Annex B).",
        )
    if (refusal := certificate_refusal(attempt, error)) is not None:
        return refusal
    if not reason or "EOF" in reason:
        return DestinationUnreachableError(
            f"{attempt.name}: it ended the connection instead of answering by TLS",
            hint=_NO_TLS_HINT,
        )
    return _refused(
        attempt,
        f"the TLS handshake failed ({words_of(error)})",
        "Look at the peer's log for the reason.",
    )


def certificate_refusal(attempt: Attempt, error: OSError) -> TlsRefusedError | None:
    """Make the error when a peer refuses us for our certificate; None for what is no such refusal.

    With TLS 1.3 we hear of it only after the handshake (RFC 8446 section 4.4.2.4).
    """
    reason = error.reason if isinstance(error, ssl.SSLError) else ""
    if reason != _HANDSHAKE_FAILURE and reason not in _OUR_CERTIFICATE:
        return None
    if not attempt.shows_certificate:
        return _refused(
            attempt,
            "it wants a certificate from us",
            "Name one that the peer trusts: tls_certificate_file and tls_key_file.",
        )
    why = _OUR_CERTIFICATE.get(reason, "it is not accepted")
    return _refused(
        attempt,
        f"it refuses our certificate: {why}",
        "Register our certificate, or its authority, at the peer; check its dates.",
    )


def pin_refusal(attempt: Attempt, shown: str) -> TlsRefusedError:
    """Make the error for a certificate that is not the pinned one; `shown` is its fingerprint."""
    colons = ":".join(shown[at : at + 2] for at in range(0, len(shown), 2))
    return _refused(
        attempt,
        f"its certificate is not the pinned one; it is {colons}",
        "If the certificate was renewed on purpose, compare the fingerprint at the peer and write"
        " it as tls_fingerprint; if not, somebody may stand between.",
    )


def validity_refusal(attempt: Attempt, *, is_over: bool) -> TlsRefusedError:
    """Make the error for a pinned certificate outside its dates."""
    return _refused(attempt, *(_EXPIRED if is_over else _NOT_YET_VALID))


def words_of(error: OSError) -> str:
    """Say in the system's words, or OpenSSL's, what happened."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    return error.strerror or type(error).__name__


def _verification(attempt: Attempt, error: ssl.SSLCertVerificationError) -> tuple[str, str]:
    code = error.verify_code
    if code in _HOST_NAME_MISMATCH:
        return (
            f"its certificate is for another host than {attempt.host}",
            "Address the peer by the name in its certificate, or pin it (tls_fingerprint).",
        )
    if code in _BY_VERIFICATION:
        return _BY_VERIFICATION[code]
    return (
        f"its certificate cannot be trusted ({error.verify_message})",
        "Have the peer's certificate made anew, or pin it (tls_fingerprint).",
    )


def _refused(attempt: Attempt, cause: str, hint: str) -> TlsRefusedError:
    return TlsRefusedError(f"{attempt.name}: {cause}", hint=hint)
