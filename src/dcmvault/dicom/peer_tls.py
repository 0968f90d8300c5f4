"""What a section says of TLS, as `dicom` makes it, and what came of it in words."""

from __future__ import annotations

from datetime import datetime

from dcmvault.config import secrets
from dcmvault.config.peer_sections import TlsSection
from dcmvault.dicom.tls import TlsClient, TlsFacts, TlsOptions

#: From so many days before the end of a certificate a probe warns.
_WARN_DAYS = 30


def tls_client(section: TlsSection) -> TlsClient:
    """Read the files of a section's TLS.

    Raises ConfigurationError for a file or a secret that cannot be had.
    """
    passphrase = section.tls_key_passphrase
    return TlsClient(
        TlsOptions(
            ca_file=section.tls_ca_file,
            fingerprint=section.tls_fingerprint,
            certificate_file=section.tls_certificate_file,
            key_file=section.tls_key_file,
            key_passphrase=secrets.resolve(passphrase) if passphrase else "",
        )
    )


def describe_tls(facts: TlsFacts, now: datetime) -> str:
    """Say what protects the connection, and until when the peer's certificate is valid."""
    return (
        f"{facts.protocol}, {facts.cipher}; the certificate of {facts.common_name} is valid until"
        f" {facts.expires_at:%Y-%m-%d} (days left: {(facts.expires_at - now).days})"
    )


def expiry_warning(facts: TlsFacts, now: datetime) -> str:
    """Say what to do about a certificate that soon ends; empty while there is time."""
    if (facts.expires_at - now).days >= _WARN_DAYS:
        return ""
    return "The peer's certificate expires soon: have it renewed before, or nothing can be sent."
