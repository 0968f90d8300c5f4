"""What a section says of a PACS, as the peer that `dicom` speaks to, and its TLS in words."""

from __future__ import annotations

from datetime import datetime

from dcmvault.config import secrets
from dcmvault.config.sections import DimseDestinationSection
from dcmvault.dicom.channel import Peer
from dcmvault.dicom.pdu import UserIdentity
from dcmvault.dicom.tls import TlsClient, TlsFacts, TlsOptions

#: From so many days before the end of a certificate a probe warns.
_WARN_DAYS = 30


def peer_of(section: DimseDestinationSection) -> Peer:
    """Make the peer of a section; the files of its TLS are read.

    Raises ConfigurationError for a file or a secret that cannot be had.
    """
    return Peer(
        host=section.host,
        port=section.port,
        called_ae_title=section.called_ae_title,
        calling_ae_title=section.calling_ae_title,
        connect_timeout_s=section.connect_timeout_s,
        association_timeout_s=section.association_timeout_s,
        dimse_timeout_s=section.dimse_timeout_s,
        tls=_tls_client(section) if section.tls else None,
        user_identity=_user_identity(section),
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


def _user_identity(section: DimseDestinationSection) -> UserIdentity | None:
    if not section.user:
        return None
    return UserIdentity(section.user, secrets.resolve(section.password) if section.password else "")


def _tls_client(section: DimseDestinationSection) -> TlsClient:
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
