"""What clients of a vault over HTTP may cost, who is let in, and what damage does."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path

import pytest
from tests.integration.archive_world import ArchiveWorld
from tests.integration.serving_world import EndlessArchive
from tests.integration.tls_world import Authority
from tests.integration.web_serving_world import WebAnswering, web_answering
from tests.integration.web_source_story import web_source

from dcmvault.archives.vault import VaultArchive
from dcmvault.dicom.tls import TlsAcceptor, TlsOptions
from dcmvault.dicomweb.service import ROOT, WebAccess
from dcmvault.model.instance import InstanceFile
from dcmvault.model.query import (
    ArchivedInstance,
    InstanceBytes,
    Selection,
    UnreadableInstance,
)
from dcmvault.testing.dicom_files import MadeInstance, make_study

ORIGIN = "https://viewer.example.org"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[MadeInstance]:
    folder = tmp_path_factory.mktemp("web-hostile")
    return list(make_study(folder, key="web", series=2, instances=2, rows=64, columns=64))


@pytest.fixture(scope="module")
def archive(
    tmp_path_factory: pytest.TempPathFactory, made: list[MadeInstance]
) -> Iterator[VaultArchive]:
    world = ArchiveWorld(tmp_path_factory.mktemp("web-hostile-vault") / "vault")
    world.back_up([one.path for one in made])
    with world.archive() as archive:
        yield archive


@pytest.fixture(scope="module")
def ours(archive: VaultArchive) -> Iterator[WebAnswering]:
    with web_answering(archive, head_timeout_s=1.0) as ours:
        yield ours


def _raw(port: int, data: bytes) -> bytes:
    """Send bytes, and return all that comes until the connection is closed."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while piece := connection.recv(65536):
            received += piece
    return received


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/", 404),
        ("/dicom-web/../../etc/passwd", 404),
        ("/dicom-web/studies/%2e%2e/%2e%2e", 404),
        ("/dicom-web/studies/..%2f..%2fetc", 400),
        ("/dicom-web/studies/%00", 400),
        ("/dicom-web/studies/%ff", 400),
        ("/dicom-web/studies?PatientName=%ff", 400),
        ("/dicom-web/studies/" + "1." * 40, 400),
        ("/dicom-web" + "/studies" * 100, 414),
        ("/dicom-web/studies?x=" + "a" * 40_000, 414),
        ("/dicom-web/studies?" + "PatientID=1&" * 1001, 400),
        ("/dicom-web/studies?limit=99999999999999999999", 400),
        ("/dicom-web/studies?limit=-1", 400),
        ("//evil/dicom-web", 404),
        ("http://[/", 400),
    ],
)
def test_addresses_that_nobody_needs(ours: WebAnswering, target: str, status: int) -> None:
    head = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    answer = _raw(ours.port, head.encode())
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer[:200]
    assert b'"error"' in answer


@pytest.mark.parametrize(
    "data",
    [
        b"\0" * 100,
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET " + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n",
        b"GET / HTTP/1.1\r\na: " + b"b" * 70_000 + b"\r\n\r\n",
        b"GET /dicom-web/studies HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nsomething",
        b"POST /dicom-web HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nsomething",
        b"BREW /dicom-web/studies HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_is_no_request_is_refused_and_others_go_on(ours: WebAnswering, data: bytes) -> None:
    answer = _raw(ours.port, data)
    assert b"200" not in answer.partition(b"\r\n")[0]
    assert ours.get("/studies").status == 200


def test_a_head_that_does_not_come_is_not_waited_for(ours: WebAnswering) -> None:
    """One byte at a time, each within the silence that is allowed."""
    with socket.create_connection(("127.0.0.1", ours.port), timeout=20) as connection:
        sent = 0
        with suppress(ConnectionError):
            while sent < 1000:
                connection.sendall(b"G")
                time.sleep(0.02)
                sent += 1
        assert sent < 1000
    assert ours.get("/studies").status == 200


def test_who_takes_no_bytes_is_let_go(archive: VaultArchive, made: list[MadeInstance]) -> None:
    with web_answering(
        archive, idle_timeout_s=0.3, max_connections=2, max_connections_per_peer=1
    ) as ours:
        path = f"{ROOT}/studies/{made[0].study_instance_uid}/metadata"
        head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        slow = socket.socket()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        slow.connect(("127.0.0.1", ours.port))
        slow.sendall(head * 200)
        # Its place is the only one from here: another gets it once this one is let go.
        _until_answered(ours)
        slow.close()


def _until_answered(ours: WebAnswering) -> None:
    for _ in range(500):
        try:
            assert ours.get("/studies").status == 200
        except (OSError, http.client.HTTPException):
            time.sleep(0.05)
        else:
            return
    raise AssertionError("nobody made room")


def test_an_idle_connection_makes_room(archive: VaultArchive) -> None:
    with (
        web_answering(archive, max_connections_per_peer=1) as ours,
        socket.create_connection(("127.0.0.1", ours.port), timeout=20) as first,
    ):
        first.sendall(b"GET /dicom-web HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert first.recv(20).startswith(b"HTTP/1.1 200")
        _until_answered(ours)
        while first.recv(4096):
            pass


def _closed(port: int, data: bytes) -> bool:
    """Send something, and say whether nothing comes back but the end."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        try:
            connection.sendall(data)
            return connection.recv(1) == b""
        except ConnectionResetError:
            return True


def test_pages_of_other_origins_and_other_names_of_this_machine_learn_nothing(
    archive: VaultArchive,
) -> None:
    with web_answering(archive, WebAccess({}, origins=(ORIGIN,))) as ours:
        assert ours.get("/studies", Host="evil.example.org").status == 403
        assert ours.get("/studies", Origin="https://evil.example.org").status == 403
        asked = ours.get("/studies", Origin=ORIGIN)
        assert asked.headers["Access-Control-Allow-Origin"] == ORIGIN
        before = ours.get("/studies", "OPTIONS", Origin=ORIGIN, Access_Control_Request_Method="GET")
        assert before.status == 204
        assert "Authorization" in before.headers["Access-Control-Allow-Headers"]
        assert ours.get("/studies", "OPTIONS", Origin="https://evil.example.org").status == 403
    with web_answering(archive) as ours:
        assert "Access-Control-Allow-Origin" not in ours.get("/studies").headers
        assert ours.get("/studies", Origin=ORIGIN).status == 403


def test_a_token_is_asked_for_and_noted_by_its_name(archive: VaultArchive) -> None:
    with web_answering(archive, WebAccess({"ohif": "s3cret", "other": "x"})) as ours:
        refused = ours.get("/studies")
        assert refused.status == 401
        assert refused.headers["WWW-Authenticate"].startswith("Bearer")
        for wrong in ("Bearer s3cre", "Bearer ", "Basic s3cret", "Bearer s3cretx", "Bearer ü"):
            assert (
                ours.get("/studies", Authorization=wrong.encode().decode("latin-1")).status == 401
            )
        allowed = ours.get("/studies", Host="vault.example.org", Authorization="Bearer s3cret")
        assert allowed.status == 200
        (noted,) = ours.noted(1)
        assert (noted.who, noted.service, noted.outcome) == ("ohif", "QIDO-RS", "200")
        ours.get("/studies", Authorization="Bearer x")
        assert ours.noted(1)[0].who == "other"
        assert "s3cret" not in repr(ours.journal.accesses)


def test_addresses_outside_of_the_networks_are_not_served() -> None:
    access = WebAccess({"one": "t"}, networks=(ip_network("10.0.0.0/8"),))
    assert [access.may_connect(one) for one in ("10.1.2.3", "127.0.0.1", "::1")] == [True] * 3
    assert not any(
        access.may_connect(one) for one in ("11.1.2.3", "fe80::1%eth0", "::ffff:11.0.0.1")
    )


def test_a_certificate_is_asked_for(tmp_path: Path, archive: VaultArchive) -> None:
    authority = Authority(tmp_path / "pki")
    server, client = authority.issue("vault"), authority.issue("viewer")
    tls = TlsAcceptor(
        TlsOptions(
            ca_file=str(authority.ca_file),
            certificate_file=str(server.certificate),
            key_file=str(server.key),
        )
    )
    with web_answering(archive, WebAccess({}, has_certificates=True), tls=tls) as ours:
        context = ssl.create_default_context(cafile=str(authority.ca_file))
        with pytest.raises((ssl.SSLError, ConnectionError)):
            _status(ours.port, context)
        context.load_cert_chain(client.certificate, client.key)
        assert _status(ours.port, context) == 200
        assert _closed(ours.port, b"GET / HTTP/1.1\r\n\r\n")
        # It is written down when the answer was sent, and so after we have it.
        end = time.monotonic() + 30.0
        while not any("viewer" in one.certificate for one in ours.journal.accesses):
            assert time.monotonic() < end, "the access was not written down"
            time.sleep(0.01)


def _status(port: int, context: ssl.SSLContext) -> int:
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=20)
    try:
        connection.request("GET", f"{ROOT}/studies")
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def test_our_own_source_reads_everything_from_it(
    ours: WebAnswering, made: list[MadeInstance]
) -> None:
    source = web_source(ours.url)
    (study,) = source.studies()
    entries = list(source.entries(study))
    assert len(entries) == len(made)
    expected = {one.path.read_bytes() for one in made}
    got = set()
    for file in source.read(entries):
        assert isinstance(file, InstanceFile)
        got.add(file.path.read_bytes())
    assert got == expected


def test_what_is_damaged_is_left_out_and_said(
    archive: VaultArchive, made: list[MadeInstance]
) -> None:
    path = f"/studies/{made[0].study_instance_uid}"
    everything = "multipart/related; type=application/dicom; transfer-syntax=*"
    with web_answering(_Broken(archive, made[1].sop_instance_uid)) as ours:
        got = ours.get(path, Accept=everything)
        assert got.status == 200
        assert [one.path.read_bytes() in got.body for one in made] == [True, False, True, True]
        (access,) = ours.noted(1)
        assert (access.sent, access.failed) == (3, 1)
        head = f"GET {ROOT}{path} HTTP/1.1\r\nHost: localhost\r\nAccept: {everything}\r\n"
        end = _raw(ours.port, f"{head}Connection: close\r\n\r\n".encode())
        assert end.endswith(b'0\r\nWarning: 299 dcmvault "instances left out: 1"\r\n\r\n')
        one = path + f"/series/{made[1].series_instance_uid}/instances/{made[1].sop_instance_uid}"
        assert ours.get(one, Accept=everything).status == 500
        assert ours.get(f"{one}/frames/1").status == 500
        assert ours.get(f"{one}/rendered").status == 500


class _Broken(EndlessArchive):
    """An archive in which one instance cannot be read."""

    def __init__(self, archive: VaultArchive, sop_instance_uid: str) -> None:
        self._archive = archive
        self._uid = sop_instance_uid

    def instances(self, selection: Selection) -> Sequence[ArchivedInstance]:
        """List what there is."""
        return self._archive.instances(selection)

    def read(
        self, instances: Iterable[ArchivedInstance]
    ) -> Generator[InstanceBytes | UnreadableInstance, None, None]:
        """Give all but one."""
        for read in self._archive.read(instances):
            if read.instance.sop_instance_uid == self._uid:
                yield UnreadableInstance(read.instance, "damaged", "it is damaged")
            else:
                yield read


def test_a_client_that_leaves_ends_its_search(made: list[MadeInstance]) -> None:
    """An archive that answers without end is asked no more once nobody listens."""
    with web_answering(EndlessArchive()) as ours:
        connection = http.client.HTTPConnection("127.0.0.1", ours.port, timeout=20)
        connection.request("GET", f"{ROOT}/studies")
        answer = connection.getresponse()
        assert answer.read(100_000)
        connection.close()
        answer.close()
        for _ in range(1000):
            if ours.journal.accesses:
                break
            time.sleep(0.01)
        assert [one.outcome for one in ours.journal.accesses] == ["200 broken off"]
