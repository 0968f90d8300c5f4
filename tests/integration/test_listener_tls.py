"""What TLS adds to the listener: ends that come at a bad moment, and who waits at the door."""

from __future__ import annotations

import ssl
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.integration.listener_world import CT, EXPLICIT, connected, receiving, request
from tests.integration.raw_peer import data_pdu, read_pdu
from tests.integration.tls_world import Authority

from dcmvault.dicom import association_scp, pdu
from dcmvault.dicom import command as commands
from dcmvault.dicom.inbound_channel import InboundChannel
from dcmvault.dicom.spool import ArrivingInstance
from dcmvault.dicom.tls import TlsAcceptor, TlsOptions
from dcmvault.testing.dicom_files import make_study


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "pki")


@pytest.fixture
def tls(authority: Authority) -> TlsAcceptor:
    ours = authority.issue("listener")
    return TlsAcceptor(TlsOptions(certificate_file=str(ours.certificate), key_file=str(ours.key)))


def test_an_end_in_the_middle_takes_nothing_encrypted_for_data(
    tmp_path: Path, authority: Authority, tls: TlsAcceptor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What still lies encrypted in the socket when the listener stops is no pixel data."""
    (made,) = make_study(tmp_path / "s", key="tls-end", instances=1, rows=160, columns=160)
    content = made.path.read_bytes()
    data_set = content[144 + int.from_bytes(content[140:144], "little") :]
    command = commands.encode_request(
        commands.C_STORE_RQ, 1, CT, sop_instance_uid=made.sop_instance_uid, has_data_set=True
    )
    busy, ended = threading.Event(), threading.Event()
    write, end = ArrivingInstance.write, association_scp._Connection.end

    def slow_write(arriving: ArrivingInstance, data: bytes | memoryview) -> None:
        write(arriving, data)
        if len(data) > 4000 and not busy.is_set():
            busy.set()
            assert ended.wait(20)

    def noted_end(connection: association_scp._Connection) -> None:
        end(connection)
        ended.set()

    monkeypatch.setattr(ArrivingInstance, "write", slow_write)
    monkeypatch.setattr(association_scp._Connection, "end", noted_end)
    client = ssl.create_default_context(cafile=str(authority.ca_file))
    with receiving(tmp_path / "spool", tls=tls) as listener:
        secured = client.wrap_socket(connected(listener.port), server_hostname="127.0.0.1")
        secured.sendall(request(pdu.ContextProposal(CT, (EXPLICIT,))))
        assert read_pdu(secured)[0] == pdu.A_ASSOCIATE_AC
        secured.sendall(data_pdu(3, command, is_command=True))
        secured.sendall(data_pdu(3, data_set, is_command=False))
        assert busy.wait(20)
        time.sleep(0.3)  # until the rest lies in the socket
    secured.close()
    assert all(path.read_bytes().endswith(data_set) for path in listener.files)


def _threads() -> int:
    return sum(thread.name == "association" for thread in threading.enumerate())


@pytest.mark.parametrize("secured", [False, True], ids=["plain", "TLS"])
def test_who_begins_nothing_costs_no_more_than_may_be(
    tmp_path: Path,
    authority: Authority,
    tls: TlsAcceptor,
    monkeypatch: pytest.MonkeyPatch,
    secured: bool,
) -> None:
    """However many connect and say nothing, only so many wait; who begins is served."""
    monkeypatch.setattr(association_scp, "_MAX_BEGINNING", 5)
    most = 0
    with receiving(tmp_path / "spool", tls=tls if secured else None) as listener, ExitStack() as st:
        for _ in range(60):
            st.enter_context(connected(listener.port))
            most = max(most, _threads())
        client = st.enter_context(connected(listener.port))
        if secured:
            context = ssl.create_default_context(cafile=str(authority.ca_file))
            client = st.enter_context(context.wrap_socket(client, server_hostname="127.0.0.1"))
        client.sendall(request())
        assert read_pdu(client)[0] == pdu.A_ASSOCIATE_AC
        assert max(most, _threads()) <= 5 + 1


def test_the_handshake_takes_from_the_time_to_begin(
    tmp_path: Path, authority: Authority, tls: TlsAcceptor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One deadline holds for the handshake and the request: nobody gets it twice."""
    waits: list[float] = []
    exactly = InboundChannel._exactly

    def noted(channel: InboundChannel, length: int, deadline: float) -> bytes:
        waits.append(deadline - time.monotonic())
        try:
            return exactly(channel, length, deadline)
        finally:
            waits.append(channel._socket.gettimeout() or 0.0)

    monkeypatch.setattr(InboundChannel, "_exactly", noted)
    context = ssl.create_default_context(cafile=str(authority.ca_file))
    with receiving(tmp_path / "spool", tls=tls, artim_timeout_s=1.0) as listener:
        plain = connected(listener.port)
        time.sleep(0.4)  # a client that is slow to begin its handshake
        with context.wrap_socket(plain, server_hostname="127.0.0.1") as client:
            assert client.recv(1024)[:1] in (b"", b"\7")
    left_s, waited_s = waits
    assert waited_s <= max(left_s, 0.001)
