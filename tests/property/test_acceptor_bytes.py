"""Whatever bytes a peer sends, the listener ends the connection in order, and holds no ruins.

At night 200,000 whole conversations, each over a socket of its own.
"""

from __future__ import annotations

import logging
import socket
import struct
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.integration.listener_world import AE_TITLE, CT, EXPLICIT, request
from tests.integration.raw_peer import data_pdu

from dcmvault.dicom import command as commands
from dcmvault.dicom import pdu, pdu_accepting
from dcmvault.dicom.association_scp import ScpRules, _Connection
from dcmvault.dicom.commitment_coding import COMMITMENT
from dcmvault.dicom.commitment_scp import CommitmentScp
from dcmvault.dicom.spool import Spool
from dcmvault.dicom.storage_scp import StorageScp
from dcmvault.errors import MalformedDicomError
from dcmvault.sources.local_files import fingerprint_of
from dcmvault.testing.dicom_files import make_study

_IMPLICIT = "1.2.840.10008.1.2"


class _Complaints(logging.Handler):
    """Collects what is logged as a defect of ours."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record.getMessage())


@pytest.fixture(scope="module")
def data_set(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, bytes]:
    """An instance as it is sent: its SOP Instance UID, and the bytes of its data set."""
    (made,) = make_study(tmp_path_factory.mktemp("seed"), key="fuzz", instances=1)
    content = made.path.read_bytes()
    start = 144 + int.from_bytes(content[140:144], "little")
    return made.sop_instance_uid, content[start:]


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[StorageScp, Spool]]:
    """A service that is handed its connections, and its spool."""
    with Spool(tmp_path_factory.mktemp("fuzzed") / "spool") as spool:
        rules = ScpRules(AE_TITLE, idle_timeout_s=5, artim_timeout_s=5)
        yield StorageScp(rules, spool, CommitmentScp([spool.sop_classes])), spool


@contextmanager
def _complaints() -> Iterator[list[str]]:
    handler = _Complaints()
    logger = logging.getLogger("dcmvault.dicom")
    logger.addHandler(handler)
    try:
        yield handler.records
    finally:
        logger.removeHandler(handler)


def _talk(scp: StorageScp, stream: bytes) -> None:
    """Send bytes, and nothing more, to a connection that is served to its end."""
    with (
        socket.create_server(("127.0.0.1", 0)) as door,
        socket.create_connection(door.getsockname()) as theirs,
    ):
        ours, _address = door.accept()
        # So many connections must not use up the ports.
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.sendall(stream)
        theirs.shutdown(socket.SHUT_WR)
        scp._attend(_Connection(ours, "127.0.0.1"))


def _seed(uid: str, content: bytes) -> bytes:
    """A whole conversation: association, C-ECHO, N-ACTION, C-STORE, release."""
    proposals = (
        pdu.ContextProposal(CT, (EXPLICIT,)),
        pdu.ContextProposal(COMMITMENT, (_IMPLICIT,)),
    )
    echo = commands.encode_request(commands.C_ECHO_RQ, 1, "1.2.840.10008.1.1", has_data_set=False)
    store = commands.encode_request(
        commands.C_STORE_RQ, 2, CT, sop_instance_uid=uid, has_data_set=True
    )
    action = b"".join(
        commands.encode_element(0, element, value)
        for element, value in (
            (0x0003, commands.encode_uid(COMMITMENT)),
            (0x0100, b"\x30\x01"),
            (0x0110, b"\x03\x00"),
            (0x0800, b"\x01\x00"),
            (0x1001, commands.encode_uid("1.2.840.10008.1.20.1.1")),
            (0x1008, b"\x01\x00"),
        )
    )
    item = commands.encode_element(8, 0x1150, commands.encode_uid(CT)) + commands.encode_element(
        8, 0x1155, commands.encode_uid("1.2.3")
    )
    asked = commands.encode_element(
        8, 0x1195, commands.encode_uid("1.2.9")
    ) + commands.encode_sequence(8, 0x1199, [item, item])
    return b"".join(
        (
            request(*proposals),
            data_pdu(1, echo, is_command=True),
            data_pdu(5, action, is_command=True),
            data_pdu(5, asked, is_command=False),
            data_pdu(3, store, is_command=True),
            data_pdu(3, content[:300], is_command=False, is_last=False),
            data_pdu(3, content[300:], is_command=False),
            pdu.release_request(),
        )
    )


_EDITS = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.sampled_from(["flip", "ones", "zero", "delete", "insert", "cut"]),
        st.binary(min_size=1, max_size=8),
    ),
    min_size=1,
    max_size=6,
)


def _edited(stream: bytes, edits: list[tuple[float, str, bytes]]) -> bytes:
    data = bytearray(stream)
    for where, how, piece in edits:
        at = int(where * max(len(data), 1))
        end = at + len(piece)
        if how == "flip":
            data[at:end] = bytes(a ^ b for a, b in zip(data[at:end], piece, strict=False))
        elif how in ("ones", "zero"):
            data[at:end] = (b"\xff" if how == "ones" else b"\0") * len(data[at:end])
        elif how == "delete":
            del data[at:end]
        elif how == "insert":
            data[at:at] = piece
        else:
            del data[at:]
    return bytes(data)


def _conversations(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


def _holds(listener: tuple[StorageScp, Spool], stream: bytes) -> None:
    scp, spool = listener
    with _complaints() as complaints:
        _talk(scp, stream)
    assert complaints == []
    assert not list((spool.folder / "arriving").iterdir())
    kept = list(spool.studies.glob("*/*"))
    assert spool.used == sum(path.stat().st_size for path in kept)
    for path in kept:
        assert path.resolve().is_relative_to(spool.studies.resolve())
        # Each case begins with an empty spool.
        assert spool.remove(path.parent.name, path.name, fingerprint_of(path.stat()))
    assert spool.used == 0


def test_the_seed_is_a_conversation(
    listener: tuple[StorageScp, Spool], data_set: tuple[str, bytes]
) -> None:
    """What is damaged below would be understood without the damage."""
    scp, spool = listener
    _talk(scp, _seed(*data_set))
    (kept,) = spool.studies.glob("*/*")
    assert spool.remove(kept.parent.name, kept.name, fingerprint_of(kept.stat()))


@_conversations(3000)
@given(edits=_EDITS)
def test_damaged_conversations(
    listener: tuple[StorageScp, Spool],
    data_set: tuple[str, bytes],
    edits: list[tuple[float, str, bytes]],
) -> None:
    _holds(listener, _edited(_seed(*data_set), edits))


@pytest.mark.nightly
@pytest.mark.timeout(0)
@_conversations(200_000)
@given(edits=_EDITS)
def test_many_damaged_conversations(
    listener: tuple[StorageScp, Spool],
    data_set: tuple[str, bytes],
    edits: list[tuple[float, str, bytes]],
) -> None:
    _holds(listener, _edited(_seed(*data_set), edits))


@_conversations(1000)
@given(stream=st.binary(max_size=400), begun=st.booleans())
def test_any_bytes(listener: tuple[StorageScp, Spool], stream: bytes, begun: bool) -> None:
    _holds(listener, (request(pdu.ContextProposal(CT, (EXPLICIT,))) if begun else b"") + stream)


@settings(max_examples=1000, deadline=None)
@given(body=st.binary(max_size=300), head=st.booleans())
def test_any_association_request(body: bytes, head: bool) -> None:
    """A request is read, or refused as malformed; what is read can be answered."""
    stream = (b"\0\1\0\0" + bytes(64) if head else b"") + body
    try:
        read = pdu_accepting.read_request(stream)
    except MalformedDicomError:
        return
    assert all(context.context_id % 2 for context in read.contexts)


@settings(max_examples=1000, deadline=None)
@given(data=st.binary(max_size=300))
def test_any_data_set_of_a_commitment_request(data: bytes) -> None:
    command = {0x1001: b"1.2.840.10008.1.20.1.1", 0x1008: b"\x01\x00"}
    assert CommitmentScp([]).judge(command, data).status in (0, 0x0115)


def test_announced_lengths_take_no_memory(listener: tuple[StorageScp, Spool]) -> None:
    """Every length in a conversation says 4 GB once; a megabyte is more than enough for each.

    Threads of a few conversations may not have ended yet.
    """
    scp, _spool = listener
    seed = _seed("1.2.3", bytes(400))
    tracemalloc.start()
    try:
        for at in range(0, len(seed) - 4, 2):
            _talk(scp, seed[:at] + b"\xff\xff\xff\xf0" + seed[at + 4 :])
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16_000_000
