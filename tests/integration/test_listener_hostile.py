"""Whoever connects to the listener costs little, waits a little, and hinders nobody."""

from __future__ import annotations

import json
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_network
from pathlib import Path

import pytest
from tests.integration.listener_world import (
    AE_TITLE,
    CT,
    EXPLICIT,
    associated,
    connected,
    dcmsend,
    echoes,
    receiving,
    request,
)
from tests.integration.raw_peer import data_pdu, read_pdu

from dcmvault.dicom import command as commands
from dcmvault.dicom import inbound_messages, pdu
from dcmvault.dicom.association_scp import AllowedPeer
from dcmvault.testing.dicom_files import make_study


def _comes_true(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def _shown_out(connection: socket.socket) -> bool:
    """Wait for the end of a connection, which may be told by an A-ABORT."""
    try:
        answer = connection.recv(1024)
    except ConnectionResetError:
        return True
    return not answer or answer[0] == pdu.A_ABORT


def _rejection(connection: socket.socket) -> tuple[int, int, int]:
    kind, body = read_pdu(connection)
    assert kind == pdu.A_ASSOCIATE_RJ
    return pdu.read_rejection(body)


def _store_request(uid: str = "1.2.3") -> bytes:
    return commands.encode_request(
        commands.C_STORE_RQ, 1, CT, sop_instance_uid=uid, has_data_set=True
    )


def _is_refused(connection: socket.socket) -> bool:
    """Send a little more of a data set, and say whether the other side is gone."""
    try:
        connection.sendall(data_pdu(3, b"\0\0", is_command=False, is_last=False))
    except (ConnectionResetError, BrokenPipeError):
        return True
    return False


def test_idle_and_dripping_connections_hinder_nobody(tmp_path: Path) -> None:
    """Sixty who say nothing, or a little: somebody else is answered, and they are shown out."""
    before = threading.active_count()
    with (
        receiving(tmp_path / "spool", artim_timeout_s=1.0) as listener,
        ExitStack() as stack,
    ):
        listening = threading.active_count()
        for number in range(60):
            connection = stack.enter_context(connected(listener.port))
            connection.sendall(request()[: number % 40])
        assert echoes(listener.port)
        assert _comes_true(lambda: threading.active_count() <= listening)
    assert _comes_true(lambda: threading.active_count() <= before)


def test_more_than_may_wait_at_the_door(tmp_path: Path) -> None:
    """Where too many wait the oldest goes; who comes last and begins is served."""
    with receiving(tmp_path / "spool") as listener, ExitStack() as stack:
        waiting = [stack.enter_context(connected(listener.port)) for _ in range(200)]
        assert echoes(listener.port)
        assert _shown_out(waiting[0])


@contextmanager
def _process(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [sys.executable, "-m", "tests.integration.listener_process", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())["port"]
        finally:
            process.kill()


def _peak_kb(process: subprocess.Popen[str]) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


@pytest.mark.skipif(sys.platform != "linux", reason="memory is looked up in /proc")
def test_idle_sockets_and_endless_pdus_cost_no_memory(tmp_path: Path) -> None:
    """20 idle sockets, and PDUs of 4 GB before and inside an association: less than 50 MB."""
    with _process(tmp_path / "spool") as (process, port), ExitStack() as stack:
        assert echoes(port)
        before = _peak_kb(process)
        for _ in range(20):
            stack.enter_context(connected(port))
        endless = stack.enter_context(connected(port))
        endless.sendall(pdu.HEADER.pack(pdu.A_ASSOCIATE_RQ, 0xFFFFFFFF) + bytes(100_000))
        inside = stack.enter_context(associated(port))
        inside.sendall(pdu.HEADER.pack(pdu.P_DATA_TF, 0xFFFFFFF0))
        value = stack.enter_context(associated(port))
        value.sendall(pdu.HEADER.pack(pdu.P_DATA_TF, 100) + pdu.PDV_HEADER.pack(0xFFFFFFF0, 3, 0))
        assert echoes(port)
        for connection in (endless, inside, value):
            assert _shown_out(connection)
        assert _peak_kb(process) - before < 50_000


@pytest.mark.parametrize(
    "begin",
    [
        pdu.HEADER.pack(pdu.A_ASSOCIATE_RQ, 0xFFFFFFFF),
        pdu.HEADER.pack(pdu.P_DATA_TF, 4) + bytes(4),
        pdu.HEADER.pack(pdu.A_ASSOCIATE_RQ, 4) + bytes(4),
        pdu.HEADER.pack(pdu.A_ASSOCIATE_RQ, 70) + b"\xff" * 70,
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_what_begins_no_association_is_shown_out(tmp_path: Path, begin: bytes) -> None:
    with receiving(tmp_path / "spool") as listener, connected(listener.port) as connection:
        connection.sendall(begin)
        assert _shown_out(connection)
        assert echoes(listener.port)


def test_who_may_not(tmp_path: Path) -> None:
    """Wrong called and calling AE titles are rejected for good, by the Standard's reasons."""
    peers = (
        AllowedPeer("MODALITY", ip_network("127.0.0.0/8")),
        AllowedPeer("", ip_network("10.0.0.0/8")),
    )
    with receiving(tmp_path / "spool", peers=peers) as listener:
        for called, calling, answer in (
            ("ANOTHER", "MODALITY", (1, 1, 7)),
            (AE_TITLE, "STRANGER", (1, 1, 3)),
        ):
            with connected(listener.port) as connection:
                connection.sendall(request(called=called, calling=calling))
                assert _rejection(connection) == answer
        with connected(listener.port) as connection:
            connection.sendall(request(calling="MODALITY"))
            assert read_pdu(connection)[0] == pdu.A_ASSOCIATE_AC


def test_who_connects_from_elsewhere(tmp_path: Path) -> None:
    """An address outside of every allowed network is not listened to."""
    peers = (AllowedPeer("", ip_network("10.0.0.0/8")),)
    with (
        receiving(tmp_path / "spool", peers=peers) as listener,
        connected(listener.port) as connection,
    ):
        assert _shown_out(connection)


def test_associations_have_limits(tmp_path: Path) -> None:
    """One more than there are places is rejected for now; a place that is left is given again."""
    with receiving(tmp_path / "spool", max_associations_per_peer=2) as listener:
        with ExitStack() as stack:
            for _ in range(2):
                stack.enter_context(associated(listener.port))
            with connected(listener.port) as third:
                third.sendall(request())
                assert _rejection(third) == (2, 3, 2)
        assert _comes_true(lambda: echoes(listener.port))


def test_an_idle_association_ends(tmp_path: Path) -> None:
    with (
        receiving(tmp_path / "spool", idle_timeout_s=0.3) as listener,
        associated(listener.port) as connection,
    ):
        assert _shown_out(connection)


def test_who_sends_too_slowly_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then keeps every single wait short, and the message from ending."""
    monkeypatch.setattr(inbound_messages, "_MESSAGE_S", 0.5)
    with receiving(tmp_path / "spool") as listener, associated(listener.port) as connection:
        connection.sendall(data_pdu(3, _store_request(), is_command=True))
        assert _comes_true(lambda: _is_refused(connection))
        assert _comes_true(lambda: not list((listener.spool.folder / "arriving").iterdir()))
        assert listener.spool.used == 0


def test_fragments_of_any_size(tmp_path: Path) -> None:
    """Values of one byte, none at all, or many in one PDU, arrive as one data set."""
    (made,) = make_study(tmp_path / "s", key="fragments", instances=1)
    content = made.path.read_bytes()
    data_set = content[144 + int.from_bytes(content[140:144], "little") :]
    command = _store_request(made.sop_instance_uid)

    def value(data: bytes, control: int) -> bytes:
        return pdu.PDV_HEADER.pack(len(data) + 2, 3, control) + data

    values = [value(command[at : at + 1], 1) for at in range(len(command))]
    values += [value(b"", 3), value(b"", 0)]
    values += [value(data_set[at : at + 1], 0) for at in range(200)]
    values += [value(data_set[200:], 0), value(b"", 2)]
    whole = b"".join(values)
    with receiving(tmp_path / "spool") as listener, associated(listener.port) as connection:
        connection.sendall(pdu.HEADER.pack(pdu.P_DATA_TF, len(whole)) + whole)
        kind, body = read_pdu(connection)
        assert kind == pdu.P_DATA_TF
        (answer,) = pdu.read_data_values(body)
        status = commands.number(commands.decode_command(answer.fragment), commands.STATUS)
        assert status == 0
        (path,) = listener.files
        assert path.read_bytes().endswith(data_set)


def test_a_connection_lost_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    with receiving(tmp_path / "spool") as listener:
        for _round in range(20):
            with associated(listener.port) as connection:
                connection.sendall(data_pdu(3, _store_request(), is_command=True))
                connection.sendall(data_pdu(3, bytes(5000), is_command=False, is_last=False))
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert echoes(listener.port)
        arriving = listener.spool.folder / "arriving"
        assert _comes_true(lambda: not list(arriving.iterdir()))
        assert listener.files == []
        assert listener.spool.used == 0


def test_stopping_waits_for_nobody(tmp_path: Path) -> None:
    before = threading.active_count()
    with ExitStack() as stack:
        with receiving(tmp_path / "spool") as listener:
            stack.enter_context(connected(listener.port))
            stack.enter_context(associated(listener.port))
            half = stack.enter_context(associated(listener.port))
            half.sendall(pdu.HEADER.pack(pdu.P_DATA_TF, 1000))
        assert _comes_true(lambda: threading.active_count() <= before)


def test_a_flood_of_associations(tmp_path: Path) -> None:
    """Three hundred at once: each is answered somehow, and then everything is as before."""
    make_study(tmp_path / "s", key="flood", instances=3)
    with receiving(tmp_path / "spool") as listener:
        with ExitStack() as stack:
            for _ in range(300):
                connection = stack.enter_context(connected(listener.port))
                connection.sendall(request(pdu.ContextProposal(CT, (EXPLICIT,))))
        assert _comes_true(lambda: echoes(listener.port))
        assert dcmsend(listener.port, tmp_path / "s").returncode == 0
        assert len(listener.files) == 3


def test_random_messages_neither_end_it_nor_store_anything(tmp_path: Path) -> None:
    chance = random.Random(7)
    (made,) = make_study(tmp_path / "s", key="random", instances=1)
    data_set = made.path.read_bytes()[400:]
    with receiving(tmp_path / "spool") as listener:
        for _round in range(60):
            command = bytearray(_store_request())
            for _fault in range(chance.randint(1, 6)):
                command[chance.randrange(len(command))] = chance.randrange(256)
            with associated(listener.port) as connection:
                connection.sendall(
                    data_pdu(chance.choice((1, 3, 3, 3, 9)), bytes(command), is_command=True)
                    + data_pdu(3, data_set[: chance.randrange(len(data_set))], is_command=False)
                )
        assert echoes(listener.port)
        assert listener.files == []
