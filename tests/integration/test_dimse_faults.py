"""Peers that refuse, lie, hang or die: each fault becomes the right error, nothing is green."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from tests.integration.dimse_story import (
    destination_at,
    expected,
    kinds_of,
    put_each,
    sop_uids,
    study_files,
)

from dcmvault.dicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ, HEADER
from dcmvault.errors import (
    AssociationDeferredError,
    AssociationLostError,
    AssociationRejectedError,
    DestinationError,
    DestinationStoppedError,
    DestinationUnreachableError,
    InstanceDeferredError,
    InstanceRefusedError,
    Retry,
)
from dcmvault.model.evidence import Finding, Level
from dcmvault.model.receipt import Receipt
from dcmvault.testing.destination_suite import ORIGIN
from dcmvault.testing.peer_faults import (
    Arrival,
    Ending,
    QueryBehaviour,
    drop_every,
    end_after,
    fault_from_text,
    refuse_every,
    slow,
    warn_all,
)
from dcmvault.testing.peers import SimulatedPacs


def test_dropped_instances_have_receipts_and_are_missing(tmp_path: Path) -> None:
    files = study_files(tmp_path, 6)
    with SimulatedPacs(drop_every(3)) as pacs:
        destination = destination_at(pacs.port)
        outcomes = put_each(destination, files)
        for level in (Level.PRESENT, Level.COMPLETE):
            found = destination.verify(expected(files), level)
            assert list(found.findings.values()) == [
                Finding.HELD,
                Finding.HELD,
                Finding.MISSING,
                Finding.HELD,
                Finding.HELD,
                Finding.MISSING,
            ]
    assert all(isinstance(outcome, Receipt) for outcome in outcomes)
    assert pacs.received == sop_uids(files)


def test_refused_for_now_then_taken(tmp_path: Path) -> None:
    files = study_files(tmp_path, 4)
    with SimulatedPacs(refuse_every(2, 0xA700, times=1)) as pacs:
        destination = destination_at(pacs.port)
        first = put_each(destination, files)
        second = put_each(destination, [files[1], files[3]])
        assert pacs.held() == set(sop_uids(files))
    refused = [outcome for outcome in first if isinstance(outcome, InstanceDeferredError)]
    assert [error.status for error in refused] == ["A700", "A700"]
    assert all(error.retry is Retry.LATER for error in refused)
    assert all(isinstance(outcome, Receipt) for outcome in second)


@pytest.mark.parametrize("status", [0xC000, 0xA900, 0x0122, 0x0117])
def test_refused_for_good_spares_the_others(tmp_path: Path, status: int) -> None:
    files = study_files(tmp_path, 3)
    with SimulatedPacs(refuse_every(2, status)) as pacs:
        outcomes = put_each(destination_at(pacs.port), files)
    assert isinstance(outcomes[0], Receipt)
    assert isinstance(outcomes[2], Receipt)
    error = outcomes[1]
    assert isinstance(error, InstanceRefusedError)
    assert not isinstance(error, InstanceDeferredError)
    assert (error.status, error.retry) == (f"{status:04X}", Retry.NEVER)
    assert error.hint


def test_not_authorised_stops_the_destination(tmp_path: Path) -> None:
    files = study_files(tmp_path, 3)
    with SimulatedPacs(refuse_every(1, 0x0124)) as pacs:
        outcomes = put_each(destination_at(pacs.port), files)
    assert isinstance(outcomes[0], DestinationStoppedError)
    assert len(pacs.received) == 1, "nothing further is sent"


@pytest.mark.parametrize("status", [0xB000, 0xB006, 0xB007])
def test_stored_with_changes_is_a_receipt_with_a_warning(tmp_path: Path, status: int) -> None:
    with SimulatedPacs(warn_all(status)) as pacs:
        (receipt,) = put_each(destination_at(pacs.port), study_files(tmp_path, 1))
    assert isinstance(receipt, Receipt)
    assert receipt.status == f"{status:04X}"
    assert receipt.warning
    assert not receipt.already_there


def test_duplicate_is_a_receipt_with_a_warning(tmp_path: Path) -> None:
    with SimulatedPacs(warn_all(0x0111)) as pacs:
        (receipt,) = put_each(destination_at(pacs.port), study_files(tmp_path, 1))
    assert isinstance(receipt, Receipt)
    assert receipt.already_there
    assert "duplicate" in receipt.warning


@pytest.mark.parametrize("ending", list(Ending))
def test_association_that_ends_midway_is_lost(tmp_path: Path, ending: Ending) -> None:
    files = study_files(tmp_path, 4)
    with SimulatedPacs(end_after(2, ending)) as pacs:
        destination = destination_at(pacs.port, dimse_timeout_s=2)
        outcomes = put_each(destination, files)
        assert [isinstance(outcome, Receipt) for outcome in outcomes] == [True, True, False, False]
        assert isinstance(outcomes[2], AssociationLostError)
        assert isinstance(outcomes[3], DestinationUnreachableError)
        assert pacs.received == sop_uids(files)[:3]
        found = destination.verify(expected(files), Level.COMPLETE)
        assert list(found.findings.values()) == [Finding.HELD] * 2 + [Finding.MISSING] * 2
        again = put_each(destination, files[2:])
        assert all(isinstance(outcome, Receipt) for outcome in again)


def test_slow_peer_within_its_time_is_waited_for(tmp_path: Path) -> None:
    with SimulatedPacs(slow(0.2)) as pacs:
        (receipt,) = put_each(destination_at(pacs.port), study_files(tmp_path, 1))
    assert isinstance(receipt, Receipt)


def test_associations_stay_within_the_limit(tmp_path: Path) -> None:
    files = study_files(tmp_path, 8)
    with SimulatedPacs(slow(0.05)) as pacs:
        destination = destination_at(pacs.port, max_associations=2)
        threads = [
            threading.Thread(target=put_each, args=(destination, files[start::4]))
            for start in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert pacs.held() == set(sop_uids(files))
    assert 2 <= pacs.associations <= 4
    # The peer notices the end of an association a little after we took the next.
    assert pacs.most_associations <= 3


# Questions.


def test_frames_answered_one_by_one_are_one_instance(tmp_path: Path) -> None:
    files = study_files(tmp_path, 3)
    with SimulatedPacs(queries=QueryBehaviour(repeats=5)) as pacs:
        destination = destination_at(pacs.port)
        put_each(destination, files)
        found = destination.verify(expected(files), Level.COMPLETE)
    assert set(found.findings.values()) == {Finding.HELD}
    assert found.extras == ()


def test_without_counts_presence_is_found_by_uids(tmp_path: Path) -> None:
    files = study_files(tmp_path, 3)
    with SimulatedPacs(queries=QueryBehaviour(gives_counts=False)) as pacs:
        destination = destination_at(pacs.port)
        put_each(destination, files[:2])
        found = destination.verify(expected(files), Level.PRESENT)
    assert list(found.findings.values()) == [Finding.HELD, Finding.HELD, Finding.MISSING]
    assert found.proof["counts"] == {"answers": 1, "series": None, "instances": None}
    assert found.proof["method"] == "SOP Instance UIDs at IMAGE level"


@pytest.mark.parametrize("status", [0x0000, 0xA700])
def test_capped_answers_hide_nothing_that_is_asked_for(tmp_path: Path, status: int) -> None:
    files = study_files(tmp_path, 6)
    with SimulatedPacs(queries=QueryBehaviour(cap=5, cap_status=status)) as pacs:
        destination = destination_at(pacs.port)
        put_each(destination, files[:5])
        found = destination.verify(expected(files), Level.COMPLETE)
        assert list(found.findings.values()) == [Finding.HELD] * 5 + [Finding.MISSING]
        put_each(destination, files[5:])
        found = destination.verify(expected(files), Level.COMPLETE)
        if status == 0:
            assert set(found.findings.values()) == {Finding.HELD}
        else:
            # Six are too many for one question, whichever way it is asked.
            assert set(found.findings.values()) == {Finding.UNKNOWN}
            with pytest.raises(DestinationError, match="not complete"):
                destination.instances(expected(files).study_instance_uid)


def test_refused_image_level_leaves_the_question_open(tmp_path: Path) -> None:
    files = study_files(tmp_path, 2)
    with SimulatedPacs(queries=QueryBehaviour(refuses_levels=("IMAGE",))) as pacs:
        destination = destination_at(pacs.port)
        put_each(destination, files)
        complete = destination.verify(expected(files), Level.COMPLETE)
        present = destination.verify(expected(files), Level.PRESENT)
        with pytest.raises(DestinationError, match="A900"):
            destination.instances(expected(files).study_instance_uid)
    assert set(complete.findings.values()) == {Finding.UNKNOWN}
    assert all("A900" in reason for reason in complete.reasons.values())
    assert set(present.findings.values()) == {Finding.HELD}


def test_peer_that_stops_answering_leaves_the_rest_open(tmp_path: Path) -> None:
    files = study_files(tmp_path, 2, series=3)
    with SimulatedPacs(queries=QueryBehaviour(silent_from=2)) as pacs:
        destination = destination_at(pacs.port, dimse_timeout_s=2)
        put_each(destination, files)
        found = destination.verify(expected(files), Level.COMPLETE)
        counted = Counter(found.findings.values())
        assert counted == {Finding.HELD: 2, Finding.UNKNOWN: 4}
        assert len(found.reasons) == 4
        with pytest.raises(DestinationUnreachableError):
            destination.verify(expected(files), Level.COMPLETE)


def test_extras_are_named(tmp_path: Path) -> None:
    files = study_files(tmp_path, 2, series=2)
    with SimulatedPacs() as pacs:
        destination = destination_at(pacs.port)
        put_each(destination, files)
        found = destination.verify(expected(files[:1]), Level.COMPLETE)
    assert set(found.findings.values()) == {Finding.HELD}
    assert found.extras == tuple(sorted(sop_uids(files[1:])))


# Before there is an association.


def test_wrong_calling_ae_title_is_for_the_operator(tmp_path: Path) -> None:
    with (
        SimulatedPacs(allowed_ae_titles=["SOMEBODY"]) as pacs,
        pytest.raises(AssociationRejectedError, match="calling") as caught,
    ):
        put_each(destination_at(pacs.port), study_files(tmp_path, 1))
    assert caught.value.retry is Retry.OPERATOR
    assert "AE title" in caught.value.hint


@contextmanager
def _server(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """Accept connections and let `answer` do with each what it likes."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(10)

        def serve() -> None:
            while True:
                try:
                    connection, _address = listening.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(10)
                    answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(15)


def _until_closed(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def _silent(connection: socket.socket) -> None:
    _until_closed(connection)


def _http(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


def _busy(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(HEADER.pack(A_ASSOCIATE_RJ, 4) + bytes([0, 2, 3, 2]))


def _nonsense(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(HEADER.pack(A_ASSOCIATE_AC, 80) + bytes(68) + b"\x21\0\xff\xff" + bytes(8))


def _gone(connection: socket.socket) -> None:
    connection.recv(65536)


def _huge(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(HEADER.pack(A_ASSOCIATE_AC, 0xFFFFFFFF))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (_silent, "no answer within 2 s"),
        (_http, "PDU"),
        (_busy, "as many associations as it allows"),
        (_nonsense, "longer than its PDU"),
        (_gone, "closed the connection"),
        (_huge, "4294967295 bytes"),
    ],
)
def test_no_association_says_why(answer: Callable[[socket.socket], None], words: str) -> None:
    with _server(answer) as port:
        destination = destination_at(port, association_timeout_s=2)
        with pytest.raises(DestinationUnreachableError, match=words) as caught:
            destination.open((), ORIGIN)
        assert caught.value.retry is Retry.LATER
        assert caught.value.hint
        steps = destination.probe()
    assert [(step.name, step.ok) for step in steps] == [
        ("resolve", True),
        ("connect", True),
        ("associate", False),
    ]
    assert words in steps[-1].detail


def test_unknown_host_says_so() -> None:
    destination = destination_at(104, host="no-such-host.invalid")
    with pytest.raises(DestinationUnreachableError, match="no host named"):
        destination.open((), ORIGIN)
    (step,) = destination.probe()
    assert (step.name, step.ok) == ("resolve", False)


def test_a_failed_open_gives_its_place_back() -> None:
    with _server(_gone) as port:
        destination = destination_at(port, max_associations=1)
        for _attempt in range(3):
            with pytest.raises(DestinationUnreachableError):
                destination.open((), ORIGIN)


def test_faults_are_read_from_text() -> None:
    arrival = Arrival("1.2.3", number=9, instance_number=7, attempt=1)
    assert fault_from_text("honest")(arrival).status == 0
    refuse = fault_from_text("refuse-every=7:A700:1")
    assert refuse(arrival).status == 0xA700
    assert refuse(replace(arrival, attempt=2)).status == 0
    for wrong in ("nonsense", "drop-every", "drop-every=x"):
        with pytest.raises(ValueError, match="no such fault"):
            fault_from_text(wrong)


@pytest.mark.parametrize("serves", [1, 2])
def test_a_peer_that_serves_few_is_served_one_after_the_other(tmp_path: Path, serves: int) -> None:
    files = study_files(tmp_path, 12)
    with SimulatedPacs(slow(0.02), serves=serves) as pacs:
        destination = destination_at(pacs.port, max_associations=4)
        asked: list[frozenset[str]] = []
        study = files[0].header.study_instance_uid if files[0].header else ""
        threads = [
            *(
                threading.Thread(target=put_each, args=(destination, files[start::3]))
                for start in range(3)
            ),
            threading.Thread(target=lambda: asked.append(destination.instances(study))),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        destination.close_idle()
        assert pacs.held() == set(sop_uids(files))
        assert len(asked) == 1
        assert pacs.most_associations <= serves


def test_who_is_refused_alone_hears_of_it(tmp_path: Path) -> None:
    with SimulatedPacs(serves=1) as pacs:
        one, other = (destination_at(pacs.port, max_associations=4) for _ in range(2))
        files = study_files(tmp_path, 1)
        with one.open(kinds_of(files), ORIGIN) as delivery:
            delivery.put(files[0])
            with pytest.raises(AssociationDeferredError):
                other.open(kinds_of(files), ORIGIN)
        one.close_idle()
