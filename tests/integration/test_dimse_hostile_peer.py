"""Peers that answer with anything: every wait ends, nothing false counts as evidence."""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.dimse_story import (
    destination_at,
    expected,
    file_of,
    put_each,
    sop_uids,
    study_files,
)
from tests.integration.raw_peer import (
    C_FIND_RSP,
    C_STORE_RSP,
    Asked,
    acceptance,
    data_pdu,
    raw_peer,
    response,
)

from dcmvault.destinations.dimse import DimseDestination
from dcmvault.dicom import command as commands
from dcmvault.dicom import pdu
from dcmvault.dicom.association import open_association
from dcmvault.dicom.channel import Peer
from dcmvault.dicom.find import FIND_PROPOSAL, StudyQuery
from dcmvault.dicom.store import send_file
from dcmvault.errors import (
    AssociationLostError,
    DcmvaultError,
    DestinationError,
    DestinationUnreachableError,
    EntryChangedError,
)
from dcmvault.model.evidence import Finding, Level
from dcmvault.model.instance import InstanceFile
from dcmvault.model.receipt import Receipt
from dcmvault.testing.destination_suite import ORIGIN
from dcmvault.testing.peers import SimulatedPacs

_STUDY = (0x0020, 0x000D)
_SERIES = (0x0020, 0x000E)
_SOP = (0x0008, 0x0018)
_COUNT = (0x0020, 0x1208)


def _stored(asked: Asked) -> bytes:
    command = response(C_STORE_RSP, asked.message_id, 0)
    return data_pdu(asked.context_id, command, is_command=True)


def _rows(asked: Asked, *rows: dict[tuple[int, int], bytes], status: int = 0) -> bytes:
    """Encode pending answers of C-FIND with these elements, and the final one."""
    out = b""
    for row in rows:
        command = response(C_FIND_RSP, asked.message_id, 0xFF00, has_data_set=True)
        out += data_pdu(asked.context_id, command, is_command=True)
        body = b"".join(
            commands.encode_element(*tag, row[tag] + b" " * (len(row[tag]) % 2))
            for tag in sorted(row)
        )
        out += data_pdu(asked.context_id, body, is_command=False)
    command = response(C_FIND_RSP, asked.message_id, status)
    return out + data_pdu(asked.context_id, command, is_command=True)


# Answers to C-STORE.


def _wrong_context(asked: Asked) -> bytes:
    command = response(C_STORE_RSP, asked.message_id, 0)
    return data_pdu((asked.context_id + 2) % 256, command, is_command=True)


def _wrong_message(asked: Asked) -> bytes:
    command = response(C_STORE_RSP, asked.message_id + 1, 0)
    return data_pdu(asked.context_id, command, is_command=True)


def _wrong_command(asked: Asked) -> bytes:
    command = response(C_FIND_RSP, asked.message_id, 0)
    return data_pdu(asked.context_id, command, is_command=True)


def _no_status(asked: Asked) -> bytes:
    whole = response(C_STORE_RSP, asked.message_id, 0)
    return data_pdu(asked.context_id, whole[:-10], is_command=True)


def _value_without_end(asked: Asked) -> bytes:
    value = pdu.PDV_HEADER.pack(0x7FFFFFFF, asked.context_id, 3)
    return pdu.HEADER.pack(pdu.P_DATA_TF, len(value)) + value


@pytest.mark.parametrize(
    "answer",
    [
        _wrong_context,
        _wrong_message,
        _wrong_command,
        _no_status,
        _value_without_end,
        lambda asked: _stored(asked)[:-4] + os.urandom(3),
        lambda _asked: pdu.HEADER.pack(pdu.P_DATA_TF, 0xFFFFFFFF),
        lambda _asked: pdu.HEADER.pack(pdu.A_ASSOCIATE_AC, 4) + bytes(4),
        lambda _asked: pdu.release_request(),
        lambda _asked: b"HTTP/1.1 200 OK\r\n\r\n",
    ],
)
def test_an_answer_that_is_none_is_no_receipt(
    tmp_path: Path, answer: Callable[[Asked], bytes]
) -> None:
    (file,) = study_files(tmp_path, 1)
    with raw_peer(lambda asked: asked.connection.sendall(answer(asked))) as port:
        (outcome,) = put_each(destination_at(port, dimse_timeout_s=1), [file])
    assert isinstance(outcome, AssociationLostError)


def _flood(asked: Asked) -> None:
    """Send data without content, for ever."""
    empty = pdu.HEADER.pack(pdu.P_DATA_TF, 0) * 1000
    while True:
        asked.connection.sendall(empty)


def _drip(asked: Asked) -> None:
    """Send a byte now and then, for ever."""
    while True:
        asked.connection.sendall(data_pdu(asked.context_id, b"", is_command=True, is_last=False))
        time.sleep(0.05)


@pytest.mark.parametrize("answer", [_flood, _drip])
def test_a_peer_that_talks_for_ever_is_left(
    tmp_path: Path, answer: Callable[[Asked], None]
) -> None:
    (file,) = study_files(tmp_path, 1)
    with raw_peer(answer) as port:
        (outcome,) = put_each(destination_at(port, dimse_timeout_s=1), [file])
    assert isinstance(outcome, AssociationLostError)


def test_a_peer_that_takes_a_byte_now_and_then_is_left(tmp_path: Path) -> None:
    path = tmp_path / "large.dcm"
    (small,) = study_files(tmp_path / "study", 1)
    path.write_bytes(small.path.read_bytes())
    with path.open("ab") as stream:  # trailing padding, so that there is much to send
        stream.write(b"\xfc\xff\xfc\xffOB\0\0" + (16 << 20).to_bytes(4, "little") + bytes(16 << 20))
    over = threading.Event()

    def serve(listening: socket.socket) -> None:
        with listening.accept()[0] as connection:
            connection.settimeout(20)
            from_peer = b""
            while len(from_peer) < 6 or len(from_peer) < 6 + int.from_bytes(from_peer[2:6], "big"):
                from_peer += connection.recv(65536)
            connection.sendall(acceptance(from_peer[6:]))
            try:
                while not over.is_set() and connection.recv(2048):
                    time.sleep(0.02)
            except OSError:
                return

    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        destination = destination_at(listening.getsockname()[1], dimse_timeout_s=0.2)
        (outcome,) = put_each(destination, [file_of(path)])
        over.set()
        thread.join(20)
    assert isinstance(outcome, AssociationLostError)


def test_random_bytes_never_become_a_receipt_or_a_crash(tmp_path: Path) -> None:
    (file,) = study_files(tmp_path, 1)
    chance = random.Random(20)

    def answer(asked: Asked) -> None:
        whole = bytearray(_stored(asked))
        for _fault in range(chance.randint(1, 4)):
            whole[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        cut = chance.randint(1, len(whole))
        asked.connection.sendall(bytes(whole[:cut]))
        asked.connection.shutdown(socket.SHUT_WR)

    with raw_peer(answer) as port:
        destination = destination_at(port, dimse_timeout_s=1)
        outcomes = [put_each(destination, [file])[0] for _attempt in range(150)]
    assert all(isinstance(outcome, Receipt | DcmvaultError) for outcome in outcomes)
    receipts = [outcome for outcome in outcomes if isinstance(outcome, Receipt)]
    # A flipped bit may lie where it does no harm (a reserved byte), or make it a warning.
    assert len(receipts) < 30


# Answers to C-FIND.


def _verify(
    destination: DimseDestination, files: list[InstanceFile], level: Level
) -> list[Finding]:
    findings = destination.verify(expected(files), level).findings
    destination.close_idle()
    return list(findings.values())


def test_counts_of_other_studies_are_no_evidence(tmp_path: Path) -> None:
    """A peer that ignores our key and leaves it out of its answers counts something else."""
    files = study_files(tmp_path, 2)

    def answer(asked: Asked) -> None:
        asked.connection.sendall(_rows(asked, {_COUNT: b"900"}, {_COUNT: b"12"}))

    with raw_peer(answer) as port:
        found = _verify(destination_at(port), files, Level.PRESENT)
    assert set(found) == {Finding.MISSING}


def test_answers_for_other_studies_are_no_evidence(tmp_path: Path) -> None:
    files = study_files(tmp_path, 2)
    uids = [uid.encode() for uid in sop_uids(files)]

    def answer(asked: Asked) -> None:
        rows = [{_STUDY: b"1.2.3", _SERIES: b"1.2.3.4", _SOP: uid} for uid in uids]
        asked.connection.sendall(_rows(asked, *rows))

    with raw_peer(answer) as port:
        destination = destination_at(port)
        found = destination.verify(expected(files), Level.COMPLETE)
        destination.close_idle()
    assert set(found.findings.values()) == {Finding.MISSING}
    assert found.extras == ()


def test_what_is_no_uid_is_named_nowhere(tmp_path: Path) -> None:
    """A peer's text in the place of a UID may be a patient's name, or a terminal's commands."""
    (file,) = study_files(tmp_path, 1)

    def answer(asked: Asked) -> None:
        hostile = (b"DOE^JANE", b"\x1b[2J", b"*", b"1.2.3\\1.2.4", b"1." * 100_000, b"")
        asked.connection.sendall(_rows(asked, *({_SOP: uid, _SERIES: uid} for uid in hostile)))

    with raw_peer(answer) as port:
        destination = destination_at(port)
        found = destination.verify(expected([file]), Level.COMPLETE)
        assert destination.instances(expected([file]).study_instance_uid, "1.2.3") == frozenset()
        destination.close_idle()
    assert list(found.findings.values()) == [Finding.MISSING]
    assert found.extras == ()


def test_an_empty_uid_asks_nothing(tmp_path: Path) -> None:
    """An empty key matches everything (PS3.4 section C.2.2.2.3), also at an honest peer."""
    files = study_files(tmp_path, 2)
    with SimulatedPacs() as pacs:
        destination = destination_at(pacs.port)
        put_each(destination, files)
        with open_association(_peer(pacs.port), (FIND_PROPOSAL,)) as association:
            query = StudyQuery(association)
            assert query.series_uids("") == frozenset()
            assert query.study_counts("").answers == 0
            assert query.instance_uids("", "") == frozenset()
            assert query.asked == []


def test_answers_for_ever_come_to_an_end(tmp_path: Path) -> None:
    (file,) = study_files(tmp_path, 1)
    assert file.header is not None

    def answer(asked: Asked) -> None:
        rows = _rows(asked, {_SOP: b"1.2.3"})
        pending = rows[: -len(_rows(asked))]
        while True:
            asked.connection.sendall(pending)
            time.sleep(0.01)

    with (
        raw_peer(answer) as port,
        open_association(_peer(port), (FIND_PROPOSAL,)) as association,
        pytest.raises(DestinationError, match="without end"),
    ):
        StudyQuery(association, longest_s=0.3).series_uids(file.header.study_instance_uid)


def _peer(port: int) -> Peer:
    return Peer("127.0.0.1", port, "SIMULATED", "DCMVAULT", dimse_timeout_s=2)


# Our side.


def test_descriptors_and_threads_stay_as_many(tmp_path: Path) -> None:
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        descriptors = Path("/dev/fd")
    files = study_files(tmp_path, 2)
    turn = iter(range(10_000))

    def answer(asked: Asked) -> None:
        match next(turn) % 4:
            case 0:
                asked.connection.sendall(_wrong_context(asked))
            case 1:
                asked.connection.shutdown(socket.SHUT_RDWR)
            case _:
                asked.connection.sendall(_stored(asked))

    with raw_peer(answer) as port:
        destination = destination_at(port, dimse_timeout_s=2)
        put_each(destination, files)
        before = len(list(descriptors.iterdir()))
        for _round in range(60):
            put_each(destination, files)
        deadline = time.monotonic() + 10  # the peer's threads have their descriptors here, too
        while len(list(descriptors.iterdir())) > before and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(list(descriptors.iterdir())) <= before


def test_a_family_that_the_machine_lacks_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> socket.socket:
        raise OSError(97, "Address family not supported by protocol")

    monkeypatch.setattr(socket, "socket", refuse)
    with pytest.raises(DestinationUnreachableError, match="not supported"):
        destination_at(104, host="::1").open((), ORIGIN)


def test_messages_name_an_ipv6_peer_so_that_its_port_can_be_told() -> None:
    assert Peer("::1", 104, "ARCHIVE", "DCMVAULT").name == "ARCHIVE at [::1]:104"


def test_ipv6_peers_are_reached() -> None:
    try:
        listening = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.fail("this machine has no IPv6 loopback", pytrace=False)
    with listening:
        port = listening.getsockname()[1]
        destination = destination_at(port, host="::1", association_timeout_s=0.2)
        steps = destination.probe()
    assert [(step.name, step.ok) for step in steps] == [
        ("resolve", True),
        ("connect", True),
        ("associate", False),
    ]


def test_a_file_that_changes_while_read_is_never_given_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The peer must not keep half old and half new bytes under the instance's UID."""
    (file,) = study_files(tmp_path, 1)
    assert file.header is not None
    with SimulatedPacs() as pacs:
        with open_association(_peer(pacs.port), _proposals(file)) as association:
            original = association.begin_store

            def store(*arguments: object, **named: object) -> object:
                with file.path.open("r+b") as stream:
                    stream.seek(-2, os.SEEK_END)
                    stream.write(b"\xff\xff")
                os.utime(file.path, ns=(1, 1))
                return original(*arguments, **named)  # type: ignore[arg-type]

            monkeypatch.setattr(association, "begin_store", store)
            with pytest.raises(EntryChangedError):
                send_file(association, file, file.header)
        assert pacs.held() == frozenset()
        assert pacs.received == []


def test_another_file_of_the_same_size_and_time_is_noticed(tmp_path: Path) -> None:
    (file,) = study_files(tmp_path, 1)
    assert file.header is not None
    twin = tmp_path / "twin"
    twin.write_bytes(file.path.read_bytes()[:-2] + b"\xff\xff")
    stat = file.path.stat()
    os.utime(twin, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    twin.rename(file.path)
    with SimulatedPacs() as pacs:
        (outcome,) = put_each(destination_at(pacs.port), [file])
    assert isinstance(outcome, EntryChangedError)
    assert pacs.received == []


def _proposals(file: InstanceFile) -> tuple[pdu.ContextProposal, ...]:
    assert file.header is not None
    return (pdu.ContextProposal(file.header.sop_class_uid, (file.header.transfer_syntax_uid,)),)
