"""Whoever connects to our listener costs little, waits a little, and hinders nobody."""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.integration.dimse_story import destination_at, put_each, sop_uids, study_files
from tests.integration.raw_peer import data_pdu, read_pdu

from dcmvault.dicom import acceptor, pdu
from dcmvault.dicom import command as commands
from dcmvault.dicom.association import IMPLICIT_VR_LITTLE_ENDIAN, VERIFICATION
from dcmvault.dicom.listener import Listener
from dcmvault.model.receipt import Receipt

_CT = "1.2.840.10008.5.1.4.1.1.2"
_EXPLICIT = "1.2.840.10008.1.2.1"


def _request(*proposals: pdu.ContextProposal) -> bytes:
    verification = pdu.ContextProposal(VERIFICATION, (IMPLICIT_VR_LITTLE_ENDIAN,))
    return pdu.associate_request(
        "DCMVAULT",
        "HOSTILE",
        (verification, *proposals),
        maximum_length=16384,
        implementation_class_uid="1.2.3",
        implementation_version="TEST",
    )


def _associated(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.sendall(_request(pdu.ContextProposal(_CT, (_EXPLICIT,))))
    kind, _body = read_pdu(connection)
    assert kind == pdu.A_ASSOCIATE_AC
    return connection


def _echoes(listener: Listener) -> bool:
    return all(step.ok for step in destination_at(listener.port).probe())


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


def _reset(connection: socket.socket) -> None:
    """Close a connection by a reset, as a peer that crashed."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def test_idle_and_dripping_connections_hinder_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptor, "_BEGIN_S", 1.0)
    with Listener(tmp_path / "pacs") as listener, ExitStack() as stack:
        before = threading.active_count()
        for number in range(60):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", listener.port)))
            connection.sendall(_request()[: number % 40])
        assert _echoes(listener), "more wait at the door than may be associated"
        assert _comes_true(lambda: threading.active_count() <= before)


def test_no_more_connections_than_there_are_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptor, "_MAX_CONNECTIONS", 3)
    with Listener(tmp_path / "pacs") as listener:
        with ExitStack() as stack:
            for _place in range(3):
                stack.enter_context(socket.create_connection(("127.0.0.1", listener.port)))
            assert _comes_true(lambda: not _echoes(listener))
        assert _comes_true(lambda: _echoes(listener)), "a place is given back"


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
    with (
        Listener(tmp_path / "pacs") as listener,
        socket.create_connection(("127.0.0.1", listener.port), timeout=20) as connection,
    ):
        connection.sendall(begin)
        assert _shown_out(connection)
        assert _echoes(listener)


def test_a_pdu_of_any_length_is_not_waited_for(tmp_path: Path) -> None:
    with Listener(tmp_path / "pacs") as listener, _associated(listener.port) as connection:
        connection.sendall(pdu.HEADER.pack(pdu.P_DATA_TF, 0xFFFFFFF0))
        assert _shown_out(connection)
        assert _echoes(listener)


def test_stopping_waits_for_nobody(tmp_path: Path) -> None:
    before = threading.active_count()
    with ExitStack() as stack:
        with Listener(tmp_path / "pacs") as listener:
            stack.enter_context(socket.create_connection(("127.0.0.1", listener.port)))
            stack.enter_context(_associated(listener.port))
            half = stack.enter_context(_associated(listener.port))
            half.sendall(pdu.HEADER.pack(pdu.P_DATA_TF, 1000))
        assert _comes_true(lambda: threading.active_count() <= before)


def test_connections_that_are_reset_leave_nothing_open(tmp_path: Path) -> None:
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        descriptors = Path("/dev/fd")
    with Listener(tmp_path / "pacs") as listener:
        assert _echoes(listener)
        before = len(list(descriptors.iterdir()))
        for _round in range(50):
            _reset(_associated(listener.port))
        assert _comes_true(lambda: len(list(descriptors.iterdir())) <= before)


def test_random_messages_neither_crash_it_nor_store_anything(tmp_path: Path) -> None:
    chance = random.Random(7)
    (file,) = study_files(tmp_path / "s", 1)
    data_set = file.path.read_bytes()[file.header.data_set_start :] if file.header else b""
    with Listener(tmp_path / "pacs") as listener:
        for _round in range(60):
            command = bytearray(
                commands.encode_request(
                    commands.C_STORE_RQ, 1, _CT, sop_instance_uid="1.2.3", has_data_set=True
                )
            )
            for _fault in range(chance.randint(1, 6)):
                command[chance.randrange(len(command))] = chance.randrange(256)
            with _associated(listener.port) as connection:
                connection.sendall(
                    data_pdu(chance.choice((1, 3, 3, 3, 9)), bytes(command), is_command=True)
                    + data_pdu(3, data_set[: chance.randrange(len(data_set))], is_command=False)
                )
        assert _echoes(listener)
        (outcome,) = put_each(destination_at(listener.port), [file])
        assert isinstance(outcome, Receipt)
        assert listener.instances() == set(sop_uids([file]))
    stored = [path.name for path in (tmp_path / "pacs").iterdir()]
    assert len(stored) == 1, "nothing half received is left"
