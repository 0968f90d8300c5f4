"""STOW-RS: every answer has its outcome, per instance, whoever gives it and however it fails."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

import pytest
from pydicom.uid import ImplicitVRLittleEndian
from tests.integration.dimse_story import file_of, study_files, with_header
from tests.integration.stow_story import put_each, uid_of, web_destination
from tests.integration.tls_world import self_signed, server_context
from tests.integration.web_peer import (
    Reply,
    Seen,
    WebPeer,
    raw_peer,
    store_json,
    store_xml,
    web_peer,
)

from dcmvault.destinations.source_files import HasDescriptor, require_unchanged
from dcmvault.dicom.http_connection import HttpConnection, HttpPeer, HttpRequest
from dcmvault.dicom.tls import TlsClient, TlsOptions
from dcmvault.errors import (
    AssociationLostError,
    DcmvaultError,
    DestinationStoppedError,
    DestinationUnreachableError,
    EntryChangedError,
    InstanceDeferredError,
    InstanceRefusedError,
    InstanceUnsendableError,
)
from dcmvault.model.instance import Fingerprint, InstanceFile
from dcmvault.model.job import Priority
from dcmvault.model.receipt import Receipt
from dcmvault.testing.destination_suite import ORIGIN, describe_instance
from dcmvault.testing.dicom_files import make_study


@pytest.fixture
def files(tmp_path: Path) -> list[InstanceFile]:
    return study_files(tmp_path / "study", 3)


@pytest.fixture
def peer() -> Iterator[WebPeer]:
    with web_peer(lambda _seen: Reply(500)) as running:
        yield running


def test_the_file_goes_over_the_wire_as_it_is(peer: WebPeer, files: list[InstanceFile]) -> None:
    peer.answering = lambda seen: Reply(200, store_json(dict.fromkeys(map(uid_of, files), 0)))
    outcomes = put_each(web_destination(peer.url), files)
    for file, receipt, seen in zip(files, outcomes, peer.seen, strict=True):
        assert isinstance(receipt, Receipt)
        data = file.path.read_bytes()
        assert (seen.method, seen.path) == ("POST", "/dicom-web/studies")
        assert seen.content == data
        assert seen.headers["Content-Type"].startswith(
            'multipart/related; type="application/dicom"'
        )
        assert receipt.file_sha256 == hashlib.sha256(data).digest()
        assert (receipt.status, receipt.warning) == ("0000", "")
        assert receipt.transferred_bytes == seen.length
    assert peer.connections == 1, "the connection is kept"


REASONS = [
    (0xA700, InstanceDeferredError),
    (0x0110, InstanceDeferredError),
    (0x0213, InstanceDeferredError),
    (0xA900, InstanceRefusedError),
    (0xC000, InstanceRefusedError),
    (0xC122, InstanceRefusedError),
    (0x0122, InstanceRefusedError),
    (0xB000, InstanceRefusedError),
    (0x0124, DestinationStoppedError),
]


@pytest.mark.parametrize(("reason", "kind"), REASONS, ids=lambda value: str(value))
@pytest.mark.parametrize("build", [store_json, store_xml])
def test_partial_success_is_told_by_instance(
    peer: WebPeer, files: list[InstanceFile], reason: int, kind: type[DcmvaultError], build: object
) -> None:
    """202 with FailedSOPSequence: that instance failed for its reason, the others are stored."""
    first, second, third = map(uid_of, files)

    def answer(_seen: Seen) -> Reply:
        return Reply(202, build({first: 0, third: 0xB000}, {second: reason}))  # type: ignore[operator]

    peer.answering = answer
    stored, failed, warned = put_each(web_destination(peer.url), files)
    assert isinstance(stored, Receipt)
    assert stored.status == "0000"
    assert type(failed) is kind
    assert f"{reason:04X}" in failed.message
    assert failed.hint
    if isinstance(failed, InstanceRefusedError | DestinationStoppedError):
        assert failed.status == f"{reason:04X}"
    if isinstance(failed, InstanceRefusedError):
        assert isinstance(warned, Receipt)
        assert warned.hint
        assert warned.status == "B000"
        assert warned.warning == "B000: coercion of data elements"
    else:
        assert isinstance(warned, DestinationUnreachableError), "the delivery is over"


@pytest.mark.parametrize(("code", "http"), [(0x0111, 200), (0x0111, 409), (0xB00E, 409)])
def test_a_duplicate_is_there_already(
    peer: WebPeer, files: list[InstanceFile], code: int, http: int
) -> None:
    peer.answering = lambda _seen: Reply(http, store_json(failed={uid_of(files[0]): code}))
    (receipt,) = put_each(web_destination(peer.url), files[:1])
    assert isinstance(receipt, Receipt)
    assert receipt.already_there
    assert receipt.status == f"{code:04X}"
    assert "duplicate" in receipt.warning
    assert receipt.hint


@pytest.mark.parametrize(
    "body",
    [
        b'{"0008119A": {"Value": [{"00081197": {"Value": [273]}}]}}',
        b'{"00081198": {"Value": [{"00081197": {"Value": [273]}}]}}',
    ],
)
def test_a_duplicate_that_is_not_named_is_not_ours(
    peer: WebPeer, files: list[InstanceFile], body: bytes
) -> None:
    peer.answering = lambda _seen: Reply(409, body)
    (failed,) = put_each(web_destination(peer.url), files[:1])
    assert type(failed) is InstanceRefusedError
    assert failed.status == "0111"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, DestinationStoppedError),
        (400, InstanceRefusedError),
        (401, DestinationStoppedError),
        (403, DestinationStoppedError),
        (404, DestinationStoppedError),
        (405, DestinationStoppedError),
        (409, InstanceRefusedError),
        (413, InstanceRefusedError),
        (415, InstanceRefusedError),
        (418, InstanceRefusedError),
        (429, InstanceDeferredError),
        (500, InstanceDeferredError),
        (501, DestinationStoppedError),
        (503, InstanceDeferredError),
        (507, InstanceDeferredError),
    ],
)
def test_a_status_without_a_word_about_instances(
    peer: WebPeer, files: list[InstanceFile], status: int, kind: type[DcmvaultError]
) -> None:
    peer.answering = lambda _seen: Reply(status, b"<html>no", {"Location": "http://127.0.0.1:9/"})
    (failed,) = put_each(web_destination(peer.url), files[:1])
    assert type(failed) is kind
    assert f"answered {status}" in failed.message
    assert failed.hint
    assert len(peer.seen) == 1, "nothing is followed, nothing is tried again here"


def _nested(opening: bytes, closing: bytes) -> bytes:
    return opening * 100_000 + closing * 100_000


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", InstanceRefusedError),
        (b"{}", InstanceRefusedError),
        (b"thank you", InstanceRefusedError),
        (b'"1.2.3"', InstanceRefusedError),
        (b"[1, 2]", InstanceRefusedError),
        (b'{"00081199": {"Value": [{"00081155": {"Value": [7]}}]}}', InstanceRefusedError),
        (b'{"00081199": {"Value": {"00081155": "x"}}}', InstanceRefusedError),
        (b'{"00081198": {"Value": [{"00081155": {"Value": ["UID"]}}]}}', InstanceRefusedError),
        (b'{"0008119A": {"Value": [{"00081197": {"Value": [42752]}}]}}', InstanceDeferredError),
        (_nested(b"[", b"]"), InstanceRefusedError),
        (_nested(b'{"00081199":', b"}")[:999_000], InstanceRefusedError),
        (_nested(b'<DicomAttribute tag="1"><Item>', b"</Item></DicomAttribute>")[:999_000],
         InstanceRefusedError),
        (b'<!DOCTYPE a [<!ENTITY b "cc"><!ENTITY d "&b;&b;">]><a>&d;</a>', InstanceRefusedError),
        (b"<NativeDicomModel><DicomAttribute>", InstanceRefusedError),
        (b"<html><body>Welcome</body></html>", InstanceRefusedError),
        (b" " * (1 << 20) + b"{}", AssociationLostError),
    ],
    ids=range(16),
)  # fmt: skip
def test_success_that_does_not_name_the_instance_is_none(
    peer: WebPeer, files: list[InstanceFile], body: bytes, kind: type[DcmvaultError]
) -> None:
    """A hostile or careless answer costs neither memory nor a crash, and is no receipt."""
    body = body.replace(b"UID", uid_of(files[0]).encode())
    peer.answering = lambda _seen: Reply(200, body)
    (failed,) = put_each(web_destination(peer.url), files[:1])
    assert type(failed) is kind


def test_other_instances_in_an_answer_are_not_ours(
    peer: WebPeer, files: list[InstanceFile]
) -> None:
    peer.answering = lambda _seen: Reply(200, store_json({uid_of(files[1]): 0}))
    (failed,) = put_each(web_destination(peer.url), files[:1])
    assert isinstance(failed, InstanceRefusedError)
    assert "does not name" in failed.message


def test_what_is_no_part_10_file_is_not_sent(peer: WebPeer, files: list[InstanceFile]) -> None:
    bare = with_header(files[0], has_preamble=False, has_file_meta=False)
    (failed,) = put_each(web_destination(peer.url), [bare])
    assert isinstance(failed, InstanceUnsendableError)
    assert not peer.seen


def test_what_makes_services_store_nonsense_is_not_sent(peer: WebPeer, tmp_path: Path) -> None:
    """By whatever way: a file that is cut off, or is not encoded as it says."""
    paths = [made.path for made in make_study(tmp_path / "study", key="cut", instances=2)]
    whole = paths[0].read_bytes()
    paths[0].write_bytes(whole[:-100])
    other = with_header(file_of(paths[1]), transfer_syntax_uid=str(ImplicitVRLittleEndian))
    cut, wrong = put_each(web_destination(peer.url), [file_of(paths[0]), other])
    for refused, word in ((cut, "truncated"), (wrong, "not encoded as")):
        assert isinstance(refused, InstanceUnsendableError)
        assert word in refused.message
    assert not peer.seen


# Connections that fail.


def _stores(file: InstanceFile) -> Reply:
    return Reply(200, store_json({uid_of(file): 0}))


def _large(folder: Path, size: int) -> InstanceFile:
    """Make an instance of at least `size` bytes; zeros follow its data set."""
    (made,) = make_study(folder, key=str(folder), instances=1)
    os.truncate(made.path, size)
    return describe_instance(made.path)


def test_a_connection_cut_in_the_middle(peer: WebPeer, tmp_path: Path) -> None:
    """The instance's fate is unknown; the same file on another delivery is stored."""
    file = _large(tmp_path / "large", 8 << 20)
    peer.answering = lambda _seen: _stores(file)
    peer.cut_after = 1 << 20
    destination = web_destination(peer.url)
    with destination.open((), ORIGIN) as delivery:
        with pytest.raises(AssociationLostError):
            delivery.put(file)
        with pytest.raises(DestinationUnreachableError, match="is over"):
            delivery.put(file)
    assert peer.seen == []
    peer.cut_after = 0
    (receipt,) = put_each(destination, [file])
    assert isinstance(receipt, Receipt)
    assert len(peer.seen) == 1


def test_an_answer_that_does_not_come_leaves_the_fate_unknown(
    peer: WebPeer, files: list[InstanceFile]
) -> None:
    peer.answering = lambda _seen: None
    (lost,) = put_each(web_destination(peer.url), files[:1])
    assert isinstance(lost, AssociationLostError)
    assert len(peer.seen) == 1, "it was a fresh connection: nothing is sent twice"


def test_a_kept_connection_that_ended_meanwhile_costs_nothing(
    peer: WebPeer, files: list[InstanceFile]
) -> None:
    """Orthanc ends idle connections after a second, perhaps just when the next file comes."""
    peer.answering = lambda seen: (
        None if len(peer.seen) == 2 else _stores(files[len(peer.seen) > 1])
    )
    outcomes = put_each(web_destination(peer.url), files[:2])
    assert all(isinstance(outcome, Receipt) for outcome in outcomes), outcomes
    assert len(peer.seen) == 3
    assert peer.connections == 2


def test_connections_stay_open_between_deliveries_and_questions(
    peer: WebPeer, files: list[InstanceFile]
) -> None:
    rows = json.dumps([{"00080018": {"vr": "UI", "Value": [uid_of(file)]}} for file in files])
    stored = store_json({uid_of(file): 0 for file in files})
    peer.answering = lambda seen: Reply(200, rows.encode() if seen.method == "GET" else stored)
    destination = web_destination(peer.url, max_connections=3)
    assert (destination.first_deliveries, destination.max_deliveries) == (2, 3)
    for file in files:
        assert isinstance(put_each(destination, [file])[0], Receipt)
        assert len(destination.instances("1.2", "1.2.3")) == 3
    assert peer.connections == 1
    destination.close_idle()
    put_each(destination, files)
    assert peer.connections == 2


class Toll:
    """A limit that lets everything pass at once, and counts it."""

    piece = 1000

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.priorities: list[Priority] = []

    def take(self, size: int) -> None:
        self.taken.append(size)

    def pacer(self, priority: Priority) -> Toll:
        self.priorities.append(priority)
        return self

    def joint_pacer(self) -> Toll:
        raise AssertionError("instances are paced by the work they belong to")

    def at_work(self, priority: Priority) -> AbstractContextManager[None]:
        return nullcontext()


def test_every_byte_that_is_sent_waits_for_its_turn(
    peer: WebPeer, files: list[InstanceFile]
) -> None:
    stored = store_json({uid_of(file): 0 for file in files})
    peer.answering = lambda _seen: Reply(200, stored)
    toll = Toll()
    put_each(web_destination(peer.url, pacing=toll), files)
    assert toll.priorities == [ORIGIN.priority]
    assert max(toll.taken) <= Toll.piece
    headers = sum(
        len(f"POST {seen.path} HTTP/1.1\r\n\r\n")
        + sum(len(f"{name}: {value}\r\n") for name, value in seen.headers.items())
        for seen in peer.seen
    )
    assert sum(toll.taken) == headers + sum(seen.length for seen in peer.seen)


def test_a_refusal_before_the_body_was_read_is_heard(tmp_path: Path) -> None:
    """Who refuses a request by its size may stop reading: the reason counts, not the pipe."""
    file = _large(tmp_path / "large", 32 << 20)

    def refuse(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)

    with raw_peer(refuse) as port:
        url = f"http://127.0.0.1:{port}/dicom-web"
        (failed,) = put_each(web_destination(url, response_timeout_s=2), [file])
    assert type(failed) is InstanceRefusedError
    assert "answered 413" in failed.message


def test_silence_ends(peer: WebPeer, files: list[InstanceFile]) -> None:
    quiet = threading.Event()
    peer.answering = lambda _seen: Reply(200) if quiet.wait(20) else None
    (lost,) = put_each(web_destination(peer.url, response_timeout_s=0.3), files[:1])
    quiet.set()
    assert isinstance(lost, AssociationLostError)
    assert "gave no answer within 0.3 s" in lost.message


@pytest.mark.parametrize("say", [b"H", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 100 C\r\n\r\n"])
def test_a_peer_that_talks_without_end_comes_to_one(files: list[InstanceFile], say: bytes) -> None:
    def drip(connection: socket.socket) -> None:
        connection.sendall(say)
        while True:
            connection.sendall(say[-1:] if len(say) < 20 else say)
            time.sleep(0.05)

    with raw_peer(drip) as port:
        url = f"http://127.0.0.1:{port}/dicom-web"
        (lost,) = put_each(web_destination(url, response_timeout_s=0.5), files[:1])
    assert isinstance(lost, AssociationLostError)


def test_a_piece_that_is_taken_drop_by_drop_comes_to_an_end(tmp_path: Path) -> None:
    """Also with TLS the time-out is for the whole piece, not for each record of it."""
    identity = self_signed(tmp_path, "slow")
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 15)
    over = threading.Event()

    def take_slowly() -> None:
        with suppress(OSError), server_context(identity).wrap_socket(theirs, True) as taking:
            while taking.recv(1 << 14) and not over.is_set():
                time.sleep(0.01)

    thread = threading.Thread(target=take_slowly)
    thread.start()
    try:
        tls = TlsClient(TlsOptions(fingerprint=identity.fingerprint.replace(":", "").lower()))
        secured = tls.handshake(ours, "localhost", "localhost", 5)
        peer = HttpPeer("localhost", 9, tls, response_timeout_s=0.1)
        piece = bytes(8 << 20)
        asked = HttpRequest("POST", "/", {}, lambda: (piece,), len(piece))
        with (
            HttpConnection(peer, secured) as connection,
            pytest.raises(AssociationLostError, match="no answer within"),
        ):
            connection.exchange(asked, longest_answer=1000)
    finally:
        over.set()
        ours.close()
        thread.join()


def test_what_is_not_http_is_said(files: list[InstanceFile]) -> None:
    with raw_peer(lambda connection: connection.sendall(b"220 mail ready\r\n")) as port:
        (lost,) = put_each(web_destination(f"http://127.0.0.1:{port}/dicom-web"), files[:1])
    assert isinstance(lost, AssociationLostError)
    assert "not HTTP" in lost.message


def test_a_file_that_changes_while_it_is_sent_never_arrives_whole(
    peer: WebPeer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = _large(tmp_path / "large", 8 << 20)
    other = _large(tmp_path / "other", 1 << 20)
    peer.answering = lambda _seen: _stores(other)
    looks: list[int] = []

    def touch_before_the_last_look(stream: HasDescriptor, planned: Fingerprint) -> None:
        looks.append(1)
        if len(looks) == 3:
            os.utime(file.path, ns=(1, 1))
        require_unchanged(stream, planned)

    monkeypatch.setattr("dcmvault.destinations.stow.require_unchanged", touch_before_the_last_look)
    changed, receipt = put_each(web_destination(peer.url), [file, other])
    assert isinstance(changed, EntryChangedError)
    assert isinstance(receipt, Receipt)
    assert [seen.length for seen in peer.seen if seen.length > 2 << 20 and seen.content] == []


_SENDER = """
import sys
from pathlib import Path
from tests.integration.stow_story import put_each, web_destination
from dcmvault.testing.destination_suite import describe_instance
(outcome,) = put_each(web_destination(sys.argv[1]), [describe_instance(Path(sys.argv[2]))])
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(outcome.file_sha256.hex(), int(peak.split()[1]) // 1024)
"""


def test_memory_does_not_grow_with_the_file(peer: WebPeer, tmp_path: Path) -> None:
    size = 200 << 20
    small, large = _large(tmp_path / "s", 1 << 20), _large(tmp_path / "l", size)
    peaks = []
    for file in (small, large):
        peer.answering = lambda _seen, file=file: _stores(file)  # type: ignore[misc]
        done = subprocess.run(
            [sys.executable, "-c", _SENDER, peer.url, str(file.path)],
            check=True,
            capture_output=True,
            text=True,
            timeout=120,
            cwd=Path(__file__).parents[2],
        )
        sha256, peak = done.stdout.split()
        with file.path.open("rb") as stream:
            assert sha256 == hashlib.file_digest(stream, "sha256").hexdigest()
        peaks.append(int(peak))
    assert peer.seen[-1].length > size
    assert peaks[1] - peaks[0] < 10, f"{peaks} MiB"
