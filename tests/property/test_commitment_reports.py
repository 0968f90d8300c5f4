"""Reports of storage commitment, whatever their bytes: nothing is believed that was not said."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scripts.peer_launch import free_port

from dcmvault.dicom import command as commands
from dcmvault.dicom.channel import Peer
from dcmvault.dicom.commitment_coding import (
    COMMITMENT,
    COMMITMENT_INSTANCE,
    Outcome,
    Reference,
    encode_report,
    read_report,
)
from dcmvault.dicom.commitment_receiver import CommitmentReceiver
from dcmvault.dicom.commitment_report import send_encoded_report
from dcmvault.dicom.commitment_transactions import CommitmentTransactions
from dcmvault.errors import DcmvaultError

NOW = datetime(2026, 1, 31, tzinfo=UTC)
#: The only statuses that a report is answered with (PS3.7 section 10.1.1.1.8).
STATUSES = {0x0000, 0x0112, 0x0113, 0x0115, 0x0118}

references = st.builds(
    Reference,
    st.sampled_from(["1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"]),
    st.integers(1, 12).map(lambda number: f"1.2.3.{number}"),
)
ASKED = frozenset(Reference("1.2.840.10008.5.1.4.1.1.2", f"1.2.3.{n}") for n in range(1, 7))


def _asked() -> tuple[CommitmentTransactions, str]:
    transactions = CommitmentTransactions(lambda: NOW)
    return transactions, transactions.begin(ASKED)


def _command(event_type: int = 1) -> dict[int, bytes]:
    encoded = commands.encode_event_report(1, COMMITMENT, COMMITMENT_INSTANCE, event_type)
    return dict(commands.decode_command(encoded))


@given(data=st.binary(max_size=400), event_type=st.integers(0, 3))
@settings(max_examples=200, deadline=None)
def test_any_bytes(data: bytes, event_type: int) -> None:
    transactions, uid = _asked()
    assert transactions.take(_command(event_type), data, "here") in STATUSES - {0}
    assert transactions.end(uid) is None
    assert transactions.refused == 1


@given(
    committed=st.lists(references, max_size=8),
    failed=st.lists(st.tuples(references, st.integers(0, 0xFFFF)), max_size=8),
    cut=st.one_of(st.none(), st.integers(0, 2000)),
    flips=st.lists(st.tuples(st.integers(0, 2000), st.integers(1, 255)), max_size=3),
)
@settings(max_examples=300, deadline=None)
def test_damaged_reports(
    committed: list[Reference],
    failed: list[tuple[Reference, int]],
    cut: int | None,
    flips: list[tuple[int, int]],
) -> None:
    """What is believed is what the bytes say of instances that were asked for, and no more."""
    transactions, uid = _asked()
    _encoded, data = encode_report(1, Outcome(uid, tuple(committed), tuple(failed)))
    damaged = bytearray(data[:cut])
    for place, mask in flips:
        if place < len(damaged):
            damaged[place] ^= mask
    status = transactions.take(_command(2), bytes(damaged), "here")
    assert status in STATUSES
    reported = transactions.end(uid)
    assert (reported is None) == (status != 0)
    if reported is None:
        return
    said = read_report(bytes(damaged))
    assert said.transaction_uid == uid
    assert reported.committed <= ASKED & set(said.committed)
    assert not reported.committed & {one for one, _reason in said.failed}
    assert reported.failed.keys() <= ASKED
    assert not reported.committed & reported.failed.keys()
    if bytes(damaged) == data and not {one for one, _ in failed} & set(committed):
        assert reported.committed == ASKED & set(committed)
        assert reported.failed == {one: why for one, why in dict(failed).items() if one in ASKED}


@given(missing=st.sampled_from([0x0002, 0x1000, 0x1002]), value=st.binary(max_size=20))
@settings(max_examples=60, deadline=None)
def test_other_commands(missing: int, value: bytes) -> None:
    """A report of another service, instance or event is refused, though its data set fits."""
    transactions, uid = _asked()
    _encoded, data = encode_report(1, Outcome(uid, tuple(ASKED), ()))
    command = _command()
    if command.pop(missing) == value:
        return
    assert transactions.take(command, data, "here") in STATUSES - {0}
    assert transactions.take(command | {missing: value}, data, "here") in STATUSES - {0}
    assert transactions.take(_command(), data, "here") == 0
    assert transactions.end(uid) is not None


@pytest.fixture(scope="module")
def listening() -> Iterator[tuple[CommitmentTransactions, Peer]]:
    transactions = CommitmentTransactions(lambda: NOW)
    port = free_port()
    sink = partial(transactions.take, way="here")
    receiver = CommitmentReceiver("BACKUP", ("127.0.0.1", port), 2, sink)
    with receiver.listening(lambda: {"127.0.0.1"}, 2):
        yield transactions, Peer("127.0.0.1", port, "BACKUP", "PACS", dimse_timeout_s=2)


@given(data=st.binary(max_size=300))
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_bytes_at_the_port(listening: tuple[CommitmentTransactions, Peer], data: bytes) -> None:
    """Whatever comes to the port, the next report is taken."""
    transactions, peer = listening
    with socket.create_connection((peer.host, peer.port)) as stranger, suppress(OSError):
        stranger.sendall(data)
        stranger.shutdown(socket.SHUT_WR)
    uid = transactions.begin(ASKED)
    command, sound = encode_report(1, Outcome(uid, tuple(ASKED), ()))
    with suppress(DcmvaultError):
        send_encoded_report(peer, command, data)
    assert send_encoded_report(peer, command, sound) == 0
    reported = transactions.end(uid)
    assert reported is not None
    assert reported.committed == ASKED
