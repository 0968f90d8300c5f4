"""The peers themselves: they answer, they start empty, and they are gone afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from pydicom.data import get_testdata_file
from scripts import peer_launch, peer_packages, peer_processes
from scripts.peer_processes import DicomPeer, Orthanc, Sshd

pytestmark = pytest.mark.peers


def _ct() -> Path:
    path = get_testdata_file("CT_small.dcm", download=False)
    assert isinstance(path, str)
    return Path(path)


def _store(peer: DicomPeer) -> None:
    subprocess.run(
        ["storescu", "-aec", peer.ae_title, peer.host, str(peer.dicom_port), str(_ct())],
        check=True,
        stdin=subprocess.DEVNULL,
        timeout=30,
    )


def test_orthanc_keeps_what_dcmtk_sends_and_can_lose_it(orthanc: Orthanc) -> None:
    assert orthanc.instances() == []
    _store(orthanc)
    (uid,) = orthanc.instances()
    assert orthanc.statistics()["CountInstances"] == 1
    assert orthanc.file(uid)[128:132] == b"DICM"
    orthanc.delete(uid)
    assert orthanc.instances() == []


def test_orthanc_has_dicomweb(orthanc: Orthanc) -> None:
    assert orthanc.rest("/dicom-web/studies") == []


def test_storescp_writes_into_its_storage(storescp: DicomPeer) -> None:
    _store(storescp)
    assert len(list(storescp.storage.iterdir())) == 1


def test_dcmqrscp_answers_a_query(dcmqrscp: DicomPeer) -> None:
    _store(dcmqrscp)
    found = subprocess.run(
        [
            *("findscu", "-S", "-v", "-aec", dcmqrscp.ae_title, "-k", "QueryRetrieveLevel=STUDY"),
            *("-k", "StudyInstanceUID", dcmqrscp.host, str(dcmqrscp.dicom_port)),
        ],
        check=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert "StudyInstanceUID" in found.stdout + found.stderr


@pytest.mark.parametrize("again", [1, 2])
def test_each_database_is_fresh(postgresql_url: str, again: int) -> None:
    with psycopg.connect(postgresql_url.replace("+psycopg", "")) as connection:
        connection.execute("CREATE TABLE only_once (number integer)")


def test_sftp_puts_a_file(sshd: Sshd, tmp_path: Path) -> None:
    batch = tmp_path / "batch"
    batch.write_text(f'put "{_ct()}" "{sshd.storage / "copy"}"\n', encoding="utf-8")
    subprocess.run(
        [
            *("sftp", "-b", str(batch), "-P", str(sshd.port), "-i", str(sshd.private_key)),
            *("-o", f"UserKnownHostsFile={sshd.known_hosts}", f"{sshd.user}@{sshd.host}"),
        ],
        check=True,
        stdin=subprocess.DEVNULL,
        timeout=30,
    )
    assert (sshd.storage / "copy").read_bytes() == _ct().read_bytes()


@pytest.mark.parametrize("name", sorted(peer_processes.STARTERS))
def test_a_stopped_peer_leaves_nothing(name: str) -> None:
    with peer_processes.STARTERS[name]() as peer:
        process, folder = peer.process, peer.folder
        assert process.poll() is None
    assert process.poll() is not None
    assert not folder.exists()


def test_a_free_port_is_given_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process that asks meanwhile gets another: suites may run beside each other."""
    port = peer_launch.free_port()
    monkeypatch.setattr(peer_launch, "_PORTS", range(port, port + 1))
    with pytest.raises(peer_launch.PeerFailedError):
        peer_launch.free_port()
    ask = (
        "from scripts import peer_launch\n"
        f"peer_launch._PORTS = range({port}, {port + 1})\n"
        "peer_launch.free_port()\n"
    )
    other = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, timeout=60)
    assert "all ports for peers are taken" in other.stderr


def test_postgresql_does_not_run_as_root() -> None:
    with peer_processes.postgresql() as peer:
        owner = Path(f"/proc/{peer.process.pid}").stat().st_uid
    assert owner != 0


def test_a_missing_peer_says_the_line_that_installs_it() -> None:
    with pytest.raises(peer_packages.PeerMissingError, match=r"sudo apt-get .*install -y orthanc"):
        peer_packages.require(peer_packages.find_program("no-such-program"), "orthanc")


def test_without_root_or_apt_nothing_is_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(peer_packages.PeerMissingError, match=r"Install once: sudo apt-get"):
        peer_packages.install(["orthanc"])


def test_services_are_kept_down_only_while_installing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    policy = tmp_path / "policy-rc.d"
    monkeypatch.setattr(peer_packages, "_POLICY", policy)
    with suppress(KeyboardInterrupt), peer_packages._services_kept_down():
        assert subprocess.run([policy, "orthanc", "start"], check=False).returncode == 101
        raise KeyboardInterrupt
    assert not policy.exists()

    policy.write_text("#!/bin/sh\nexit 104\n", encoding="ascii")
    with peer_packages._services_kept_down():
        assert "104" in policy.read_text(encoding="ascii")
    assert "104" in policy.read_text(encoding="ascii")
