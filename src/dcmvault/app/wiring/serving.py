"""A vault that answers: the archive over it, its services, and where accesses are noted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dcmvault.app.wiring.services import peer_at, scp_rules, tls_options
from dcmvault.archives.kept_cards import KeptCards
from dcmvault.archives.vault import VaultArchive
from dcmvault.config import secrets
from dcmvault.config.serving_section import ServeSection, unguarded_web
from dcmvault.dicom.archive_association import ArchiveAssociation, ArchiveService
from dcmvault.dicom.association_scp import AssociationScp, Connected
from dcmvault.dicom.channel import Peer
from dcmvault.dicom.tls import TlsAcceptor, TlsOptions
from dcmvault.dicomweb.server import WebParts, WebRules, web_serving
from dcmvault.dicomweb.service import ROOT as WEB_ROOT
from dcmvault.dicomweb.service import ArchiveService as WebService
from dcmvault.dicomweb.service import WebAccess
from dcmvault.errors import ConfigurationError
from dcmvault.model.access import Access
from dcmvault.ports.archive import Archive
from dcmvault.ports.audit import AccessJournal
from dcmvault.ports.clock import Clock
from dcmvault.vault.repository import Vault
from dcmvault.vault.state import VaultState

#: The folder of what is known of studies, in the state folder.
_CARDS = "cards"


def vault_archive(
    vault: Vault, choose: Callable[[], VaultState], home: Path, *, follows: bool
) -> VaultArchive:
    """Make the archive over a vault, a context; DestinationError where it cannot be read."""
    return VaultArchive(vault, choose, follows=follows, keeps=home / _CARDS)


def forget_cards(vault: Vault, home: Path, study_instance_uid: str) -> None:
    """Let go of what services on this machine keep of a study; StateError where it stays."""
    KeptCards(vault, home / _CARDS).forget(study_instance_uid)


@contextmanager
def answering(
    section: ServeSection, archive: Archive, journal: AccessJournal, clock: Clock
) -> Iterator[int]:
    """Answer over DIMSE until the context is left; yields the port.

    Raises StateError where the port cannot be had, ConfigurationError for a wrong file.
    """
    options = tls_options(section)
    service = ArchiveService(
        section.ae_title,
        archive,
        journal,
        _destinations(section, options),
        clock.now,
        section.idle_timeout_s,
    )
    rules = scp_rules(section, section.dicom_port, "serve")

    def attend(connected: Connected) -> ArchiveAssociation:
        return ArchiveAssociation(service, connected)

    def refused(address: str, ae_title: str) -> None:
        journal.record(Access(clock.now(), "A-ASSOCIATE", ae_title, address, outcome="refused"))

    tls = TlsAcceptor(options) if options is not None else None
    with AssociationScp(rules, attend, tls, refused) as scp:
        yield scp.port


@contextmanager
def answering_web(
    section: ServeSection, archive: Archive, journal: AccessJournal, clock: Clock
) -> Iterator[int]:
    """Answer over HTTP until the context is left; yields the port.

    Raises StateError where the port cannot be had, ConfigurationError for a wrong file, a token
    that is not there, or where others could connect and nothing says who may.
    """
    if not section.is_web_guarded:
        raise ConfigurationError(unguarded_web())
    options = tls_options(section)
    access = WebAccess(
        tokens={name: secrets.resolve(one) for name, one in section.web_tokens.items()},
        origins=section.web_origins,
        networks=tuple(peer.addresses for peer in section.peers),
        has_certificates=bool(section.tls_ca_file),
    )
    rules = WebRules(
        section.host,
        section.web_port,
        max_connections=section.max_associations,
        max_connections_per_peer=section.max_associations_per_peer,
        idle_timeout_s=section.idle_timeout_s,
    )
    tls = TlsAcceptor(options) if options is not None else None
    parts = WebParts(WebService(archive), access, journal, clock.now, tls)
    with web_serving(rules, parts) as port:
        yield port


def web_address(section: ServeSection, port: int) -> str:
    """Return the root of our web services as clients write it."""
    host = f"[{section.host}]" if ":" in section.host else section.host
    return f"{'https' if section.tls else 'http'}://{host}:{port}{WEB_ROOT}"


def _destinations(section: ServeSection, options: TlsOptions | None) -> Mapping[str, Peer]:
    """Say where C-MOVE may send to; over TLS where the service speaks it."""
    return {
        peer.ae_title: peer_at(peer.move_host, peer.move_port, peer, section, options)
        for peer in section.peers
        if peer.move_host
    }
