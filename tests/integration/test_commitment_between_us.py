"""Storage commitment asked of our own listener: over TLS, and with reports to a port of ours."""

from __future__ import annotations

from pathlib import Path

from scripts.peer_launch import free_port
from tests.integration.dimse_story import expected, put_each, study_files
from tests.integration.listener_world import AE_TITLE, receiving
from tests.integration.test_storage_commitment import _only_transaction
from tests.integration.tls_world import Authority

from dcmvault.config.peer_sections import DimseDestinationSection
from dcmvault.destinations.dimse import DimseDestination
from dcmvault.dicom.channel import Peer
from dcmvault.dicom.commitment_report import CommitmentReports
from dcmvault.dicom.commitment_scp import CommitmentScp
from dcmvault.dicom.spool import Spool
from dcmvault.dicom.tls import TlsAcceptor, TlsOptions
from dcmvault.model.evidence import Finding, Level
from dcmvault.testing.clock import FakeClock


def _section(port: int, **options: object) -> DimseDestinationSection:
    return DimseDestinationSection.model_validate(
        {
            "host": "127.0.0.1",
            "port": port,
            "called_ae_title": AE_TITLE,
            "calling_ae_title": "BACKUP",
            "commitment_timeout_s": 10,
            **options,
        }
    )


def test_over_tls_on_the_association_that_asked(tmp_path: Path) -> None:
    """What lies in the spool is committed, what was damaged there is not; the rest is honest."""
    authority = Authority(tmp_path / "pki")
    ours = authority.issue("listener")
    tls = TlsAcceptor(TlsOptions(certificate_file=str(ours.certificate), key_file=str(ours.key)))
    files = study_files(tmp_path / "study", 3)
    with receiving(tmp_path / "spool", tls=tls) as listener:
        section = _section(listener.port, tls=True, tls_ca_file=str(authority.ca_file))
        destination = DimseDestination(section, FakeClock())
        put_each(destination, files)
        verification = destination.verify(expected(files), Level.COMMITTED)
        assert set(verification.findings.values()) == {Finding.HELD}
        listener.files[0].write_bytes(b"\0" * 300)
        again = destination.verify(expected(files), Level.COMMITTED)
        assert sorted(again.findings.values()) == [Finding.HELD, Finding.HELD, Finding.MISSING]
        assert _only_transaction(again)["failed"] == {"0112": 1}
        destination.close_idle()


def test_with_reports_to_our_port(tmp_path: Path) -> None:
    files = study_files(tmp_path / "study", 3)
    port = free_port()
    reports_to = {"BACKUP": Peer("127.0.0.1", port, "BACKUP", AE_TITLE)}
    held: list[Spool] = []
    with CommitmentReports(reports_to) as reports:
        judge = CommitmentScp([lambda uids: held[0].sop_classes(uids)], reports.report)
        with receiving(tmp_path / "spool", commitment=judge) as listener:
            held.append(listener.spool)
            section = _section(listener.port, commitment_port=port, commitment_host="127.0.0.1")
            destination = DimseDestination(section, FakeClock())
            put_each(destination, files)
            verification = destination.verify(expected(files), Level.COMMITTED)
            assert set(verification.findings.values()) == {Finding.HELD}
            reported = _only_transaction(verification)["reported"]
            assert reported == "on an association of the peer's"
            destination.close_idle()
