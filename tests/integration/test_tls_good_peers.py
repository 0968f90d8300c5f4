"""Peers over TLS that can be trusted: what is sent arrives as without, and is verified."""

from __future__ import annotations

import hashlib
import os
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pynetdicom import AE, evt
from scripts.peer_processes import storescp
from tests.conftest import RunDcmvault, StartOrthanc
from tests.integration.dimse_story import kinds_of, put_each, sop_uids, study_files
from tests.integration.raw_peer import acceptance, read_pdu
from tests.integration.story import instances, summary_of
from tests.integration.tls_world import HOST, Authority, Identity, self_signed, server_context

from dcmvault.app.wiring.clock import SystemClock
from dcmvault.config.peer_sections import DimseDestinationSection
from dcmvault.destinations.dimse import DimseDestination
from dcmvault.dicom.part10 import scan
from dcmvault.dicom.tls import TlsClient, TlsOptions, has_data, send_joined
from dcmvault.errors import AssociationLostError, DcmvaultError
from dcmvault.model.receipt import Receipt
from dcmvault.testing.clock import FakeClock
from dcmvault.testing.destination_suite import ORIGIN

_CT = "1.2.840.10008.5.1.4.1.1.2"
_VERIFICATION = "1.2.840.10008.1.1"


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("hospital"))


@pytest.fixture(scope="module")
def pacs(hospital: Authority) -> Identity:
    return hospital.issue("pacs")


@pytest.fixture(scope="module")
def ours(hospital: Authority) -> Identity:
    return hospital.issue("ours", passphrase="the word")


def _options(hospital: Authority, ours: Identity | None = None) -> dict[str, str]:
    options = {"tls_ca_file": str(hospital.ca_file)}
    if ours is not None:
        options |= {
            "tls_certificate_file": str(ours.certificate),
            "tls_key_file": str(ours.key),
            "tls_key_passphrase": "env:OUR_KEY",
        }
    return options


def _at(port: int, called: str, options: dict[str, str]) -> DimseDestination:
    section = DimseDestinationSection.model_validate(
        {"host": HOST, "port": port, "called_ae_title": called, "tls": True, **options}
    )
    return DimseDestination(section, FakeClock())


def _all_stored(outcomes: list[Receipt | DcmvaultError]) -> bool:
    return all(isinstance(one, Receipt) and one.status == "0000" for one in outcomes)


def _data_set(path: Path) -> bytes:
    header = scan(path)
    return path.read_bytes()[header.data_set_start : header.data_set_end]


@contextmanager
def _python_scp(context: ssl.SSLContext, folder: Path) -> Iterator[tuple[Any, list[str]]]:
    """A storage SCP of pynetdicom; yields it and a list of what happens there."""
    happened: list[str] = []

    def store(event: evt.Event) -> int:
        happened.append("stored")
        event.dataset.file_meta = event.file_meta
        name = hashlib.sha256(event.dataset.SOPInstanceUID.encode()).hexdigest()
        event.dataset.save_as(folder / name, enforce_file_format=True)
        return 0x0000

    entity = AE("PYTHON")
    entity.add_supported_context(_CT, ["1.2.840.10008.1.2.1"])
    entity.add_supported_context(_VERIFICATION)
    server = entity.start_server(
        (HOST, 0),
        block=False,
        ssl_context=context,
        evt_handlers=[
            (evt.EVT_C_STORE, store),
            (evt.EVT_ESTABLISHED, lambda _event: happened.append("associated")),
            (evt.EVT_RELEASED, lambda _event: happened.append("released")),
        ],
    )
    assert server is not None
    try:
        yield server, happened
    finally:
        server.shutdown()


@pytest.mark.peers
@pytest.mark.parametrize("wants", [False, True], ids=["any client", "client certificate"])
def test_a_whole_backup_is_proven_at_orthanc_over_tls(
    hospital: Authority,
    pacs: Identity,
    ours: Identity,
    run_dcmvault: RunDcmvault,
    start_orthanc: StartOrthanc,
    home: Path,
    tmp_path: Path,
    wants: bool,
) -> None:
    orthanc = start_orthanc(
        DicomTlsEnabled=True,
        DicomTlsCertificate=str(pacs.certificate),
        DicomTlsPrivateKey=str(pacs.key),
        DicomTlsTrustedCertificates=str(hospital.ca_file),
        DicomTlsRemoteCertificateRequired=wants,
    )
    files = study_files(tmp_path / "studies", 12) + study_files(tmp_path / "studies" / "more", 5)
    address = f"dicoms://{orthanc.ae_title}@{HOST}:{orthanc.dicom_port}?calling=DCMVAULT"
    lines = [
        f'{key} = "{value}"' for key, value in _options(hospital, ours if wants else None).items()
    ]
    configuration = "\n".join(["[destinations.pacs]", f'address = "{address}"', *lines])
    (home / "config.toml").write_text(configuration, "utf-8")
    secret = {"OUR_KEY": "the word"}

    command = ("backup", tmp_path / "studies", "--to", address, "--verify", "proven", "--json")
    done = summary_of(run_dcmvault(*command, env=secret))
    assert instances(done) == {"selected": 17, "stored": 17}
    assert done["level"] == "proven"
    assert orthanc.instances() == sorted(sop_uids(files))
    if wants:
        (home / "config.toml").write_text(
            f'[destinations.pacs]\naddress = "{address}"\n{lines[0]}\n', "utf-8"
        )
        refused = summary_of(run_dcmvault("node", "echo", "pacs", "--json"), 5)
        assert "it wants a certificate from us" in refused["steps"][-1]["detail"]
    else:
        steps = summary_of(run_dcmvault("node", "echo", "pacs", "--json"))["steps"]
        names = [step["name"] for step in steps]
        assert names == ["resolve", "connect", "tls", "associate", "echo"]
        assert all(step["ok"] and not step["hint"] for step in steps)


@pytest.mark.peers
@pytest.mark.parametrize("shows", [False, True], ids=["no certificate of ours", "ours"])
def test_storescp_takes_every_byte_over_tls(
    hospital: Authority,
    pacs: Identity,
    ours: Identity,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    shows: bool,
) -> None:
    monkeypatch.setenv("OUR_KEY", "the word")
    files = study_files(tmp_path, 8)
    checks = ("--require-peer-cert", "--add-cert-file", str(hospital.ca_file))
    with storescp(
        *("--enable-tls", str(pacs.key), str(pacs.certificate), "--bit-preserving"),
        *(checks if shows else ("--ignore-peer-cert",)),
    ) as peer:
        destination = _at(peer.port, peer.ae_title, _options(hospital, ours if shows else None))
        assert all(step.ok for step in destination.probe())
        assert _all_stored(put_each(destination, files))
        destination.close_idle()
        stored = {_data_set(path) for path in peer.storage.iterdir()}
        # Each of ours ended in good order, also TLS; the first was who looked whether it runs.
        assert peer.log.count("TLS error") == 1, peer.log
    assert stored == {_data_set(file.path) for file in files}


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_one_association_carries_everything_large_and_small(
    hospital: Authority, pacs: Identity, tmp_path: Path, newest: ssl.TLSVersion
) -> None:
    files = [*study_files(tmp_path / "small", 6), *study_files(tmp_path / "large", 1, rows=1500)]
    kept = tmp_path / "kept"
    kept.mkdir()
    with _python_scp(server_context(pacs, newest=newest), kept) as (server, happened):
        destination = _at(server.server_address[1], "PYTHON", _options(hospital))
        assert _all_stored(put_each(destination, files))
        destination.close_idle()
    assert happened == ["associated", *["stored"] * 7, "released"]
    sent = {pydicom.dcmread(file.path).PixelData for file in files}
    assert {pydicom.dcmread(path).PixelData for path in kept.iterdir()} == sent


def test_an_association_that_the_peer_ended_is_made_anew(
    hospital: Authority, pacs: Identity, tmp_path: Path
) -> None:
    files = study_files(tmp_path / "studies", 2)
    kept = tmp_path / "kept"
    kept.mkdir()
    with _python_scp(server_context(pacs), kept) as (server, happened):
        destination = _at(server.server_address[1], "PYTHON", _options(hospital))
        with destination.open(kinds_of(files), ORIGIN) as delivery:
            delivery.put(files[0])
            for association in server.active_associations:
                association.abort()
            delivery.put(files[1])
        destination.close_idle()
    assert happened == ["associated", "stored", "associated", "stored", "released"]


def test_a_pinned_certificate_needs_no_authority_and_names_no_host(tmp_path: Path) -> None:
    own = self_signed(tmp_path, "modality", ends_days=20.5)
    with _python_scp(server_context(own), tmp_path) as (server, _happened):
        port = server.server_address[1]
        section = DimseDestinationSection(
            host=HOST, port=port, tls=True, tls_fingerprint=own.fingerprint
        )
        steps = DimseDestination(section, SystemClock()).probe()
    assert [(step.name, step.ok) for step in steps][-3:] == [
        ("tls", True),
        ("associate", True),
        ("echo", True),
    ]
    tls = steps[2]
    assert tls.detail.startswith("TLS 1.3, TLS_AES_256_GCM_SHA384; the certificate of modality is")
    assert tls.detail.endswith("(days left: 20)")
    assert "expires soon" in tls.hint, "below 30 days it warns"


def test_node_echo_and_doctor_warn_before_the_certificate_expires(
    hospital: Authority, run_dcmvault: RunDcmvault, home: Path, tmp_path: Path
) -> None:
    soon = hospital.issue("soon", ends_days=29.5)
    with _python_scp(server_context(soon), tmp_path) as (server, _happened):
        (home / "config.toml").write_text(
            f'[destinations.pacs]\naddress = "dicoms://PYTHON@{HOST}:{server.server_address[1]}"\n'
            f'tls_ca_file = "{hospital.ca_file}"\n',
            "utf-8",
        )
        echo = run_dcmvault("--lang", "pt-BR", "node", "echo", "pacs")
        checks = summary_of(run_dcmvault("doctor", "--json"))["checks"]
    assert echo.returncode == 0
    assert "o certificado de soon vale até" in echo.stdout
    assert "(dias restantes: 29)" in echo.stdout
    assert "O certificado do PACS vence em breve" in echo.stdout
    (told,) = (check for check in checks if check["name"] == "destination pacs")
    assert told["ok"]
    assert "expires soon" in told["hint"]


@pytest.mark.parametrize("reads", [False, True], ids=["takes nothing", "says nothing"])
def test_every_wait_for_a_stuck_peer_ends(
    hospital: Authority, pacs: Identity, tmp_path: Path, reads: bool
) -> None:
    (file,) = study_files(tmp_path, 1, rows=2000, columns=2000)
    over = threading.Event()

    def stuck(connection: socket.socket) -> None:
        _kind, request = read_pdu(connection)
        connection.sendall(acceptance(request))
        with suppress(TimeoutError):
            connection.settimeout(0.1)
            while reads and not over.is_set():
                connection.recv(1 << 16)
        over.wait(20)

    with _tls_server(server_context(pacs), stuck) as port:
        options = {**_options(hospital), "dimse_timeout_s": "0.5"}
        (outcome,) = put_each(_at(port, "STUCK", options), [file])
        over.set()
    assert isinstance(outcome, AssociationLostError)
    says = "gave no answer within 0.5 s" if reads else "took no data for 0.5 s"
    assert says in outcome.message


def test_what_only_tls_has_to_say_is_no_input(hospital: Authority, pacs: Identity) -> None:
    """Session tickets of TLS 1.3 lie in the socket after the handshake; nothing else does."""
    said, heard = threading.Event(), threading.Event()

    def serve(connection: socket.socket) -> None:
        said.wait(20)
        connection.sendall(b"data")
        heard.wait(20)

    with _tls_server(server_context(pacs), serve) as port:
        client = TlsClient(TlsOptions(ca_file=str(hospital.ca_file)))
        plain = socket.create_connection((HOST, port))
        with client.handshake(plain, HOST, "PACS", 10) as secured:
            assert select.select([secured], [], [], 10)[0], "the tickets have come"
            assert not has_data(secured)
            assert not has_data(secured)
            said.set()
            assert select.select([secured], [], [], 10)[0]
            assert has_data(secured)
            heard.set()


def test_buffers_are_joined_up_to_a_few_records(hospital: Authority, pacs: Identity) -> None:
    received = bytearray()

    def serve(connection: socket.socket) -> None:
        while len(received) < len(data):
            received.extend(connection.recv(1 << 16))
        connection.sendall(b"all")

    data = os.urandom(300_000)
    buffers = [memoryview(data[start : start + 997]) for start in range(0, len(data), 997)]
    with _tls_server(server_context(pacs), serve) as port:
        client = TlsClient(TlsOptions(ca_file=str(hospital.ca_file)))
        plain = socket.create_connection((HOST, port))
        with client.handshake(plain, HOST, "PACS", 10) as secured:
            assert send_joined(secured, buffers) == 65536
            assert send_joined(secured, [memoryview(data)[65536:]]) == 65536
            secured.sendall(data[131072:])
            assert secured.recv(3) == b"all"
    assert received == data


@contextmanager
def _tls_server(context: ssl.SSLContext, serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Serve one connection after its handshake, in a thread."""

    def accept() -> None:
        connection, _address = listening.accept()
        with suppress(OSError), context.wrap_socket(connection, server_side=True) as secured:
            serve(secured)

    with socket.create_server((HOST, 0)) as listening:
        thread = threading.Thread(target=accept)
        thread.start()
        yield listening.getsockname()[1]
        thread.join(30)
    assert not thread.is_alive()
