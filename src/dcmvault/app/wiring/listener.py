"""The listener as the configuration wants it: its spool, its service, and who it may report to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from dcmvault.app.wiring.services import peer_at, scp_rules, tls_options
from dcmvault.config.listener_section import ListenerSection
from dcmvault.dicom.channel import Peer
from dcmvault.dicom.commitment_report import CommitmentReports
from dcmvault.dicom.commitment_scp import CommitmentScp
from dcmvault.dicom.spool import Spool
from dcmvault.dicom.storage_scp import StorageScp
from dcmvault.dicom.tls import TlsAcceptor, TlsOptions
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

    options = tls_options(section)
    rules = scp_rules(section, section.port, "listener")
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
    with spool, reports, StorageScp(rules, spool, commitment, tls) as scp:
        yield Receiver(spool, scp.port)


def _report_peers(section: ListenerSection, options: TlsOptions | None) -> Mapping[str, Peer]:
    """Say where peers want their reports; over TLS where the listener speaks it."""
    return {
        peer.ae_title: peer_at(peer.report_host, peer.report_port, peer, section, options)
        for peer in section.peers
        if peer.report_host
    }
