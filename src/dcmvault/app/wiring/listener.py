"""The listener as the configuration wants it: its spool, its service, and who it may report to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from dcmvault.config import secrets
from dcmvault.config.listener_section import ListenerSection
from dcmvault.dicom.association_scp import AllowedPeer, ScpRules
from dcmvault.dicom.channel import Peer
from dcmvault.dicom.commitment_report import CommitmentReports
from dcmvault.dicom.commitment_scp import CommitmentScp
from dcmvault.dicom.spool import Spool
from dcmvault.dicom.storage_scp import StorageScp
from dcmvault.dicom.tls import TlsAcceptor, TlsClient, TlsOptions
from dcmvault.model.evidence import Level
from dcmvault.ports.holdings import HoldingCatalogue

_MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class Receiver:
    """A listener that receives: what it fills, and where it listens."""

    spool: Spool
    port: int


@contextmanager
def receiving(
    section: ListenerSection, holdings: HoldingCatalogue, arrived: Callable[[str], None]
) -> Iterator[Receiver]:
    """Take the spool and listen, until the context is left.

    `arrived` is told, by several threads, the spool's name of the study of each new instance.
    Raises StateError where spool or port cannot be had, ConfigurationError for a wrong file.
    """

    def held(sop_instance_uids: Collection[str]) -> Mapping[str, Collection[str]]:
        return holdings.held_sop_classes(sop_instance_uids, Level.COMPLETE)

    options = _tls_options(section)
    if not section.folder:
        section.spool.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    spool = Spool(
        section.spool,
        budget=section.budget_mb * _MEGABYTE,
        reserve=section.reserve_mb * _MEGABYTE,
        arrived=arrived,
    )
    reports = CommitmentReports(_report_peers(section, options))
    commitment = CommitmentScp((spool.sop_classes, held), reports.report)
    tls = TlsAcceptor(options) if options is not None else None
    with spool, reports, StorageScp(_rules(section), spool, commitment, tls) as scp:
        yield Receiver(spool, scp.port)


def _rules(section: ListenerSection) -> ScpRules:
    return ScpRules(
        section.ae_title,
        host=section.host,
        port=section.port,
        peers=tuple(AllowedPeer(peer.ae_title, peer.addresses) for peer in section.peers),
        max_associations=section.max_associations,
        max_associations_per_peer=section.max_associations_per_peer,
        idle_timeout_s=section.idle_timeout_s,
    )


def _tls_options(section: ListenerSection) -> TlsOptions | None:
    if not section.tls:
        return None
    passphrase = section.tls_key_passphrase
    return TlsOptions(
        ca_file=section.tls_ca_file,
        certificate_file=section.tls_certificate_file,
        key_file=section.tls_key_file,
        key_passphrase=secrets.resolve(passphrase) if passphrase else "",
    )


def _report_peers(section: ListenerSection, options: TlsOptions | None) -> Mapping[str, Peer]:
    """Say where peers want their reports; over TLS where the listener speaks it."""
    return {
        peer.ae_title: Peer(
            peer.report_host,
            peer.report_port,
            called_ae_title=peer.ae_title,
            calling_ae_title=section.ae_title,
            tls=TlsClient(options) if options is not None else None,
        )
        for peer in section.peers
        if peer.report_host
    }
