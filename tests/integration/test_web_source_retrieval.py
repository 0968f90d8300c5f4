"""What a DICOMweb source makes of services that lie, cut, flood, refuse or fall silent.

One bad instance is told in a clear sentence, and the others are read.
"""

from __future__ import annotations

import gzip
import threading
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from io import BufferedIOBase
from pathlib import Path

import pytest
from tests.integration.web_source_story import web_source

from dcmvault.dicom import dicomweb
from dcmvault.model.instance import InstanceEntry, InstanceFile, UnreadableEntry
from dcmvault.sources.dicomweb import DicomwebSource, fetching
from dcmvault.testing.dicom_files import MadeInstance, make_study
from dcmvault.testing.web_archive import Answering, WebArchive, multipart, write_answer

_KIND = 'multipart/related; type="application/dicom"; boundary='


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits a second for the next attempt."""
    monkeypatch.setattr(dicomweb, "_WAIT_S", 0.01)
    monkeypatch.setattr(dicomweb, "_LONGEST_WAIT_S", 0.05)


@pytest.fixture
def made(tmp_path: Path) -> list[MadeInstance]:
    return list(make_study(tmp_path / "study", key="hostile", instances=5))


@pytest.fixture
def archive(made: list[MadeInstance]) -> Iterator[WebArchive]:
    with WebArchive(one.path for one in made) as archive:
        yield archive


def _entries(source: DicomwebSource) -> list[InstanceEntry]:
    return [entry for study in source.studies() for entry in source.entries(study)]


def _read(source: DicomwebSource) -> tuple[list[str], list[UnreadableEntry]]:
    """Return the UIDs that were read, and what was not."""
    read, refused = [], []
    for answer in source.read(_entries(source)):
        if isinstance(answer, InstanceFile):
            assert answer.header is not None
            assert answer.header.sop_instance_uid == answer.entry.expected_sop_instance_uid
            read.append(answer.header.sop_instance_uid)
        else:
            refused.append(answer)
    return read, refused


def _uid_of(entry: InstanceEntry) -> str:
    return entry.expected_sop_instance_uid


def _lies_long(out: BufferedIOBase, content: bytes) -> None:
    write_answer(out, multipart(content), length=len(content) * 2)


def _lies_short(out: BufferedIOBase, content: bytes) -> None:
    write_answer(out, multipart(content), length=len(content) // 2)


def _other_boundary(out: BufferedIOBase, content: bytes) -> None:
    write_answer(out, multipart(content, boundary="another"))


def _part_lies(out: BufferedIOBase, content: bytes) -> None:
    body = multipart(content).replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\n", 1)
    write_answer(out, body)


def _two_parts(out: BufferedIOBase, content: bytes) -> None:
    body = multipart(content)
    first = body[: body.rindex(b"--")]
    write_answer(out, first + b"\r\n" + body)


def _no_parts(out: BufferedIOBase, _content: bytes) -> None:
    write_answer(out, b"--x--\r\n", {"Content-Type": _KIND + "x"})


def _bomb(out: BufferedIOBase, _content: bytes) -> None:
    write_answer(out, gzip.compress(bytes(10 << 20)), {"Content-Encoding": "gzip"})


def _page(out: BufferedIOBase, _content: bytes) -> None:
    write_answer(out, b"<html>", {"Content-Type": "text/html"})


def _no_dicom(out: BufferedIOBase, _content: bytes) -> None:
    write_answer(out, multipart(b"\x00" * 3000))


def _headers_without_end(out: BufferedIOBase, _content: bytes) -> None:
    write_answer(out, b"--x\r\n" + b"a: b\r\n" * 100_000, {"Content-Type": _KIND + "x"})


def _preamble_without_end(out: BufferedIOBase, _content: bytes) -> None:
    write_answer(out, b"z" * 1_000_000, {"Content-Type": _KIND + "x"})


def _no_boundary(out: BufferedIOBase, content: bytes) -> None:
    write_answer(out, multipart(content), {"Content-Type": "multipart/related"})


def _without_a_length(out: BufferedIOBase, content: bytes) -> None:
    out.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/dicom\r\n\r\n" + content)


def _no_http(out: BufferedIOBase, _content: bytes) -> None:
    out.write(b"220 ready\r\n" * 1000)


def _silent(_out: BufferedIOBase, _content: bytes) -> None:
    threading.Event().wait(1.5)


def _cut(out: BufferedIOBase, content: bytes) -> None:
    body = multipart(content)
    write_answer(out, body[: len(body) // 2], length=len(body))


def _cut_in_chunks(out: BufferedIOBase, content: bytes) -> None:
    body = multipart(content)[:700]
    kind = f'Content-Type: {_KIND}"an archive\'s boundary"'.encode()
    head = b"HTTP/1.1 200 OK\r\n" + kind + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
    out.write(head + f"{len(body):x}\r\n".encode() + body + b"\r\n")


def _status(status: int, headers: Mapping[str, str] | None = None) -> Answering:
    def answer(out: BufferedIOBase, _content: bytes) -> None:
        write_answer(out, b"", headers, status=status)

    return answer


@pytest.mark.parametrize(
    ("answering", "code", "words"),
    [
        (_lies_long, "unreadable", "broke"),
        (_lies_short, "unreadable", "did not send all"),
        (_other_boundary, "unreadable", "did not send all"),
        (_part_lies, "unreadable", "another length than it says"),
        (_two_parts, "unreadable", "more than the one instance"),
        (_no_parts, "unreadable", "without the instance"),
        (_bomb, "unreadable", "compressed, which nobody asked for"),
        (_page, "unreadable", "something else than a DICOM file"),
        (_no_dicom, "unreadable", "cannot be read as DICOM"),
        (_headers_without_end, "unreadable", "headers without end"),
        (_preamble_without_end, "unreadable", "begins with something else"),
        (_no_boundary, "unreadable", "without a boundary"),
        (_without_a_length, "unreadable", "does not say where it ends"),
        (_no_http, "unreadable", "not HTTP"),
        (_silent, "unreadable", "gave no answer within"),
        (_cut, "unreadable", "broke"),
        (_cut_in_chunks, "unreadable", "broke"),
        (_status(400), "unreadable", "answered 400"),
        (_status(404), "vanished", "does not have this instance"),
        (_status(406), "unreadable", "answered 406"),
        (_status(410), "vanished", "does not have this instance"),
        (_status(429, {"Retry-After": "0"}), "unreadable", "too many requests"),
        (_status(500), "unreadable", "processing failure"),
        (_status(503, {"Retry-After": "100000"}), "unreadable", "not available"),
        (_status(206), "unreadable", "answered 206"),
    ],
)
def test_one_bad_instance_is_told_and_the_others_are_read(
    archive: WebArchive, answering: Answering, code: str, words: str
) -> None:
    source = web_source(archive.url, response_timeout_s=0.5)
    victim = _uid_of(_entries(source)[2])
    archive.behaviour.retrievals = {victim: [answering]}
    read, refused = _read(source)
    assert [(_uid_of(one.entry), one.code) for one in refused] == [(victim, code)]
    assert words in refused[0].message
    assert refused[0].message.endswith(".")
    assert len(read) == 4


def test_another_instance_is_never_accepted(archive: WebArchive, made: list[MadeInstance]) -> None:
    """Whatever a service sends under a UID: only a file with that UID is handed out."""
    source = web_source(archive.url)
    uids = [_uid_of(entry) for entry in _entries(source)]

    def other(out: BufferedIOBase, _content: bytes) -> None:
        content = archive.file(uids[0])
        assert content is not None
        write_answer(out, multipart(content))

    archive.behaviour.retrievals = {uid: [other] for uid in uids[1:]}
    read, refused = _read(source)
    assert read == uids[:1]
    assert {one.message for one in refused} == {
        "The service sends another instance than was asked for."
    }


def test_a_cut_connection_costs_one_more_request(archive: WebArchive) -> None:
    """Each instance is cut off once: each is asked for once more, and no other is."""
    source = web_source(archive.url)
    uids = [_uid_of(entry) for entry in _entries(source)]
    archive.behaviour.retrievals = {uid: [_cut, _whole] for uid in uids}
    assert _read(source) == (uids, [])
    assert sorted(archive.retrieved()) == sorted(uids * 2)


def _whole(out: BufferedIOBase, content: bytes) -> None:
    write_answer(out, multipart(content))


def test_other_ways_of_answering_well(archive: WebArchive, made: list[MadeInstance]) -> None:
    """Chunks, quoted or bare boundaries, a file without a multipart around it, padding."""

    def chunked(out: BufferedIOBase, content: bytes) -> None:
        body = multipart(content, boundary="b")
        kind = f"HTTP/1.1 200 OK\r\nContent-Type: {_KIND}b\r\nTransfer-Encoding: chunked\r\n\r\n"
        out.write(kind.encode())
        for start in range(0, len(body), 7):
            piece = body[start : start + 7]
            out.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        out.write(b"0\r\n\r\n")

    def until_closed(out: BufferedIOBase, content: bytes) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {_KIND}b\r\n\r\n".encode()
        out.write(head + multipart(content, boundary="b"))

    def bare(out: BufferedIOBase, content: bytes) -> None:
        write_answer(out, content, {"Content-Type": "application/dicom"})

    def padded(out: BufferedIOBase, content: bytes) -> None:
        body = b"preamble\r\n" + multipart(content, boundary="b") + b"epilogue"
        body = body.replace(b"--b\r\n", b"--b \t\r\n", 1)
        write_answer(out, body, {"Content-Type": _KIND + "b"})

    source = web_source(archive.url)
    uids = [_uid_of(entry) for entry in _entries(source)]
    ways: list[Answering] = [chunked, until_closed, bare, padded, _whole]
    archive.behaviour.retrievals = {uid: [way] for uid, way in zip(uids, ways, strict=True)}
    by_uid = {archive.file(uid): uid for uid in uids}
    got = [
        by_uid[answer.path.read_bytes()]
        for answer in source.read(_entries(source))
        if isinstance(answer, InstanceFile)
    ]
    assert got == uids
    assert len(made) == len(uids)


@pytest.mark.parametrize("status", [401, 403, 302])
def test_who_is_not_let_in_does_not_ask_for_each(tmp_path: Path, status: int) -> None:
    made = make_study(tmp_path / "many", key="many", instances=40)
    with WebArchive(one.path for one in made) as archive:
        source = web_source(archive.url, max_connections=2)
        entries = _entries(source)
        elsewhere = {"Location": "http://127.0.0.1:1/"}
        answer = _status(status, elsewhere)
        archive.behaviour.retrievals = {_uid_of(entry): [answer] for entry in entries}
        answers = list(source.read(entries))
        assert [answer.entry for answer in answers] == entries
        assert all(isinstance(answer, UnreadableEntry) for answer in answers)
        assert len(archive.retrieved()) <= 4


def test_one_that_is_not_sent_as_stored_does_not_end_the_others(tmp_path: Path) -> None:
    made = make_study(tmp_path / "many", key="many", instances=12)
    with WebArchive(one.path for one in made) as archive:
        source = web_source(archive.url, max_connections=1)
        victim = _uid_of(_entries(source)[0])
        archive.behaviour.retrievals = {victim: [_status(406)]}
        read, refused = _read(source)
        assert (len(read), len(refused)) == (11, 1)


def test_a_service_that_loses_everything_is_given_up(tmp_path: Path) -> None:
    made = make_study(tmp_path / "many", key="many", instances=40)
    with WebArchive(one.path for one in made) as archive:
        source = web_source(archive.url, max_connections=2)
        entries = _entries(source)
        archive.behaviour.retrievals = {_uid_of(entry): [_cut] for entry in entries}
        answers = list(source.read(entries))
        assert [answer.entry for answer in answers] == entries
        assert len(archive.retrieved()) <= 20


def test_a_file_without_end_ends(archive: WebArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept of one instance has a limit, and nothing of it stays."""
    monkeypatch.setattr(fetching, "_LONGEST_FILE", 1 << 20)

    def endless(out: BufferedIOBase, _content: bytes) -> None:
        write_answer(out, b"--x\r\n\r\n", {"Content-Type": _KIND + "x"}, length=1 << 40)
        for _piece in range(100_000):
            out.write(bytes(1 << 16))

    source = web_source(archive.url)
    victim = _uid_of(_entries(source)[0])
    archive.behaviour.retrievals = {victim: [endless]}
    read, refused = _read(source)
    assert (len(read), len(refused)) == (4, 1)
    assert "more than 1,048,576 bytes" in refused[0].message


def _padded(content: bytes, count: int) -> bytes:
    """Add Data Set Trailing Padding (FFFC,FFFC)."""
    return content + b"\xfc\xff\xfc\xffOB\0\0" + count.to_bytes(4, "little") + bytes(count)


def test_what_lies_here_is_bounded_in_bytes(
    archive: WebArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large instances that come at once are put off, and all of them come."""
    spool = tmp_path / "spool"
    spool.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(spool))
    mib = 1 << 20
    seen: list[int] = []

    def large(out: BufferedIOBase, content: bytes) -> None:
        body = multipart(_padded(content, 3 * mib))
        write_answer(out, body[:mib], length=len(body))
        for start in range(mib, len(body), mib // 4):
            out.write(body[start : start + mib // 4])
            out.flush()
            seen.append(_bytes_in(spool))

    source = web_source(archive.url, max_connections=5, max_waiting_mib=4)
    entries = _entries(source)
    archive.behaviour.retrievals = {_uid_of(entry): [large] for entry in entries}
    read = []
    for answer in source.read(entries):
        assert isinstance(answer, InstanceFile)
        assert answer.fingerprint.size > 3 * mib
        seen.append(_bytes_in(spool))
        read.append(answer.entry)
    assert read == entries
    assert len(archive.retrieved()) > len(entries), "some were put off"
    instance = 3 * mib + (64 << 10)
    # Beside the room: the one that is handed out, and the one that is waited for.
    assert max(seen) <= 4 * mib + 2 * instance


def _bytes_in(folder: Path) -> int:
    """Return the bytes there; the least of three looks, as files come and go during each."""
    return min(_look(folder) for _ in range(3))


def _look(folder: Path) -> int:
    count = 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # removed meanwhile
            count += path.stat().st_size if path.is_file() else 0
    return count


def test_memory_does_not_follow_the_size_of_instances(archive: WebArchive) -> None:
    source = web_source(archive.url, max_connections=1)
    victim = _uid_of(_entries(source)[0])

    def large(out: BufferedIOBase, content: bytes) -> None:
        # Trailing padding (FFFC,FFFC) of 64 MB.
        padding = b"\xfc\xff\xfc\xffOB\0\0" + (64 << 20).to_bytes(4, "little")
        head = b"--x\r\n\r\n" + content + padding
        tail = b"\r\n--x--\r\n"
        write_answer(
            out,
            head,
            {"Content-Type": _KIND + "x"},
            length=len(head) + (64 << 20) + len(tail),
        )
        for _piece in range(1024):
            out.write(bytes(1 << 16))
        out.write(tail)

    archive.behaviour.retrievals = {victim: [large]}
    entries = _entries(source)
    tracemalloc.start()
    try:
        sizes = [
            answer.fingerprint.size
            for answer in source.read(entries)
            if isinstance(answer, InstanceFile)
        ]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert max(sizes) > 64 << 20
    assert peak < 8 << 20


def test_whoever_stops_reading_is_not_held_up(tmp_path: Path) -> None:
    """Closing the iteration ends what is on its way, though the service says nothing."""
    made = make_study(tmp_path / "some", key="some", instances=6)
    with WebArchive(one.path for one in made) as archive:
        source = web_source(archive.url, response_timeout_s=600)
        entries = _entries(source)
        silent = threading.Event()

        def wait(_out: BufferedIOBase, _content: bytes) -> None:
            silent.wait(60)

        archive.behaviour.retrievals = {_uid_of(entry): [wait] for entry in entries[1:]}
        answers = source.read(entries)
        first = next(answers)
        assert isinstance(first, InstanceFile)
        folder = first.path.parent
        close: Callable[[], None] = answers.close  # type: ignore[attr-defined]
        close()
        assert not folder.exists()
        silent.set()


def test_nothing_stays_behind(
    archive: WebArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are private, and their folder goes with the iteration."""
    spool = tmp_path / "spool"
    spool.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(spool))
    for answer in (source := web_source(archive.url)).read(_entries(source)):
        assert isinstance(answer, InstanceFile)
        assert answer.path.stat().st_mode & 0o777 == 0o600
        assert answer.path.parent.stat().st_mode & 0o777 == 0o700
        assert answer.path.parent.parent == spool
    assert list(spool.iterdir()) == []
