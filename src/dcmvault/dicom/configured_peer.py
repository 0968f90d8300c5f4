"""What a section says of a PACS, as the peer that is spoken to."""

from __future__ import annotations

from dcmvault.config import secrets
from dcmvault.config.peer_sections import DimsePeerSection
from dcmvault.dicom.channel import Peer
from dcmvault.dicom.pdu import UserIdentity
from dcmvault.dicom.peer_tls import tls_client


def peer_of(section: DimsePeerSection, *, async_window: int = 1) -> Peer:
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
        tls=tls_client(section) if section.tls else None,
        user_identity=_user_identity(section),
        async_window=async_window,
    )


def _user_identity(section: DimsePeerSection) -> UserIdentity | None:
    if not section.user:
        return None
    return UserIdentity(section.user, secrets.resolve(section.password) if section.password else "")
