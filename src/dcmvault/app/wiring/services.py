"""What all services of ours are given from their sections: rules, TLS, and peers to connect to."""

from __future__ import annotations

from dcmvault.config import secrets
from dcmvault.config.service_section import ServicePeerSection, ServiceSection
from dcmvault.dicom.association_scp import AllowedPeer, ScpRules
from dcmvault.dicom.channel import Peer
from dcmvault.dicom.tls import TlsClient, TlsOptions


def scp_rules(section: ServiceSection, port: int, name: str) -> ScpRules:
    """Return the rules of a section; hints call it by its name."""
    return ScpRules(
        section.ae_title,
        host=section.host,
        port=port,
        peers=tuple(AllowedPeer(peer.ae_title, peer.addresses) for peer in section.peers),
        max_associations=section.max_associations,
        max_associations_per_peer=section.max_associations_per_peer,
        idle_timeout_s=section.idle_timeout_s,
        section=name,
    )


def tls_options(section: ServiceSection) -> TlsOptions | None:
    """Return the options of TLS; None where the service speaks none."""
    if not section.tls:
        return None
    passphrase = section.tls_key_passphrase
    return TlsOptions(
        ca_file=section.tls_ca_file,
        certificate_file=section.tls_certificate_file,
        key_file=section.tls_key_file,
        key_passphrase=secrets.resolve(passphrase) if passphrase else "",
    )


def peer_at(
    host: str,
    port: int,
    peer: ServicePeerSection,
    section: ServiceSection,
    options: TlsOptions | None,
) -> Peer:
    """Return a place of a peer that we connect to; over TLS where the service speaks it."""
    return Peer(
        host,
        port,
        called_ae_title=peer.ae_title,
        calling_ae_title=section.ae_title,
        tls=TlsClient(options) if options is not None else None,
    )
