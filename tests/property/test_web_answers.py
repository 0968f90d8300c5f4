"""Whatever a DICOMweb service sends: no crash, bounded memory, nothing outside the spool folder.

At night half a million: 240,000 multipart bodies, 240,000 answers to searches, and 20,000 whole
services, which are fewer because each is listed and read over HTTP.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread, Timer
from threading import enumerate as enumerate_threads

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from tests.integration.web_source_story import web_source

from dcmvault.dicom import dicomweb, idle_connections
from dcmvault.dicom.multipart import MultipartReader, boundary_of
from dcmvault.dicom.web_answers import read_data_sets
from dcmvault.dicom.web_headers import INSTANCE_FIELDS, digest_told, header_told
from dcmvault.errors import MalformedDicomError, SourceUnavailableError
from dcmvault.model.instance import (
    Fingerprint,
    InstanceEntry,
    InstanceFile,
    StudyRef,
    UnreadableEntry,
)

_QUICK = settings(max_examples=1500, deadline=None)
#: Seconds in which connections that nobody wants are gone, however busy the machine is.
_SOON_S = 10
_LONG = settings(max_examples=240_000, deadline=None)

_SPICE = st.sampled_from(
    [b"\r\n", b"--", b"\r\n--b", b"--b\r\n", b"\r\n--b--", b"\r\n\r\n", b"b", b" \t", b"a: b\r\n"]
)
_SPICED = st.lists(st.one_of(_SPICE, st.binary(max_size=40)), max_size=30).map(b"".join)


def _in_pieces(body: bytes, cuts: list[int]) -> Iterator[bytes]:
    start = 0
    for cut in cuts:
        yield body[start : start + cut]
        start += cut
    yield body[start:]


def _parse(body: bytes, cuts: list[int]) -> list[bytes] | None:
    """Return the parts as the parser reads them from these pieces; None where it refuses."""
    pieces = [piece for piece in _in_pieces(body, cuts) if piece]

    def read_into(buffer: memoryview) -> int:
        if not pieces:
            return 0
        piece = pieces.pop(0)
        if len(piece) > len(buffer):
            pieces.insert(0, piece[len(buffer) :])
            piece = piece[: len(buffer)]
        buffer[: len(piece)] = piece
        return len(piece)

    try:
        return [
            b"".join(bytes(chunk) for chunk in part.chunks)
            for part in MultipartReader(read_into, "b").parts()
        ]
    except MalformedDicomError:
        return None


_CUTS = st.lists(st.integers(1, 50), max_size=30)


def _check_any_bytes(body: bytes, cuts: list[int]) -> None:
    assert _parse(body, cuts) == _parse(body, [])


def _check_parts(contents: list[bytes], cuts: list[int]) -> None:
    # What takes the place of a delimiter can make no new one with what stands beside it.
    contents = [content.replace(b"\r\n--b", b"\r\n-b") for content in contents]
    body = b"".join(b"--b\r\nx: y\r\n\r\n" + content + b"\r\n" for content in contents) + b"--b--"
    assert _parse(body, cuts) == contents or not contents
    # Without its end it is refused, wherever it ends.
    for end in (len(body) - 1, len(body) // 2):
        assert _parse(body[:end], cuts) is None


@_QUICK
@given(_SPICED, _CUTS)
@example(b"--b\r\n\r\nx\r\n--bb\r\n--b--", [1] * 20)
@example(b"--b\r\n\r\nx\r\n--b-\r\n--b--", [9])
def test_any_bytes_are_read_alike_however_they_come(body: bytes, cuts: list[int]) -> None:
    _check_any_bytes(body, cuts)


@_QUICK
@given(st.lists(_SPICED, max_size=4), _CUTS)
def test_parts_are_what_was_put_in(contents: list[bytes], cuts: list[int]) -> None:
    _check_parts(contents, cuts)


@pytest.mark.nightly
@pytest.mark.timeout(0)
@_LONG
@given(_SPICED, st.lists(_SPICED, max_size=4), _CUTS)
def test_multipart_nightly(body: bytes, contents: list[bytes], cuts: list[int]) -> None:
    _check_any_bytes(body, cuts)
    _check_parts(contents, cuts)


@settings(max_examples=500, deadline=None)
@given(st.text(max_size=80))
def test_any_content_type_is_read_or_refused(text: str) -> None:
    for content_type in (text, f"multipart/related; {text}", f"multipart/related; boundary={text}"):
        try:
            boundary = boundary_of(content_type)
        except MalformedDicomError:
            continue
        assert len(boundary) <= 70
        assert boundary.isascii()


_UIDS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["1.2.3", "..", "../../../tmp/x", "1/2", "1.2\0", "1" * 65, "", "1.2.3/../4"]),
)
_LEAF = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), _UIDS)
_ANYTHING = st.recursive(
    _LEAF,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=12), inner, max_size=4)
    ),
    max_leaves=12,
)
_TAGS = st.sampled_from(
    ["0020000D", "0020000E", "00080018", "00080016", "00100010", "00201206", "00201209"]
)
_ATTRIBUTE = st.one_of(
    _ANYTHING,
    st.fixed_dictionaries({"Value": st.one_of(_ANYTHING, st.lists(_UIDS, max_size=2))}),
)
_ROW = st.one_of(
    _ANYTHING, st.dictionaries(st.one_of(_TAGS, st.sampled_from(INSTANCE_FIELDS)), _ATTRIBUTE)
)
_BODY: SearchStrategy[bytes] = st.one_of(
    st.binary(max_size=200),
    st.lists(_ROW, max_size=3).map(lambda rows: json.dumps(rows).encode()),
    _ANYTHING.map(lambda value: json.dumps(value).encode()),
)


def _check_rows(body: bytes) -> None:
    try:
        rows = read_data_sets(body)
    except MalformedDicomError:
        return
    for row in rows:
        header = header_told(row, row, row)
        for uid in header.identity.__slots__:
            value = getattr(header.identity, uid)
            assert not set(value) - set("0123456789."), "it becomes part of an address"
            assert value == "" or value.strip(".")
        assert all(len(text) <= 4096 for text in (*header.study, *header.series))
        "".join((*header.study, *header.series)).encode()
        assert 0 < digest_told(header, row) < 1 << 63


@_QUICK
@given(_BODY)
def test_any_answer_to_a_search_is_read_or_refused(body: bytes) -> None:
    _check_rows(body)


@pytest.mark.nightly
@pytest.mark.timeout(0)
@_LONG
@given(_BODY)
def test_answers_to_searches_nightly(body: bytes) -> None:
    _check_rows(body)


class _Anything(BaseHTTPRequestHandler):
    """Answers every request with the next of the bodies, and headers that a test made up."""

    protocol_version = "HTTP/1.1"
    bodies: tuple[bytes, ...] = (b"",)
    kind: str = ""

    def do_GET(self) -> None:
        self.close_connection = True
        is_file = "/instances/" in self.path
        body = self.bodies[-1] if is_file else self.bodies[len(self.path) % len(self.bodies)]
        kind = self.kind if is_file else "application/dicom+json"
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nContent-Type: {kind}\r\n\r\n"
        self.wfile.write(head.encode("ascii", "replace") + body)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    """A service that says anything."""
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), _Anything) as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        # No run makes as many sources as these: who looks after idle connections goes at once.
        patch.setattr(idle_connections, "_IDLE_S", 0)
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/dicom-web"
        server.shutdown()
        thread.join()


_KINDS = st.sampled_from(
    ["multipart/related; boundary=b", "application/dicom", "multipart/related", "text/html"]
)


def _check_source(url: str, bodies: tuple[bytes, ...], kind: str, spool: Path) -> None:
    _Anything.bodies, _Anything.kind = bodies, kind
    before = sorted(spool.parent.iterdir())
    source = web_source(url, response_timeout_s=5)
    entries = [
        InstanceEntry("1.2/1.3/1.4", Fingerprint(0, 0, 1)),
        InstanceEntry("../../x", Fingerprint(0, 0, 1)),
    ]
    try:
        for study in [*source.studies(), StudyRef("1.2.3", "1.2.3")]:
            entries += source.entries(study)
    except SourceUnavailableError:
        pass
    answers = []
    for answer in source.read(entries):
        answers.append(answer)
        if isinstance(answer, InstanceFile):
            assert answer.path.is_relative_to(spool)
        else:
            assert isinstance(answer, UnreadableEntry)
            assert answer.message
    assert [answer.entry for answer in answers] == entries
    assert list(spool.iterdir()) == []
    assert sorted(spool.parent.iterdir()) == before
    for thread in enumerate_threads():
        # What other modules' tests left behind may go on for as long as it likes.
        if isinstance(thread, Timer) and thread.function.__module__ == idle_connections.__name__:
            with suppress(RuntimeError):  # it is about to begin: somebody else's
                thread.join(_SOON_S)


def _fuzz_source(url: str, bodies: tuple[bytes, ...], kind: str) -> None:
    with (
        tempfile.TemporaryDirectory() as place,
        pytest.MonkeyPatch.context() as patch,
    ):
        spool = Path(place, "spool")
        spool.mkdir()
        patch.setattr(tempfile, "tempdir", str(spool))
        patch.setattr(dicomweb, "_WAIT_S", 0.001)
        _check_source(url, bodies, kind, spool)


_BODIES = st.tuples(_BODY, _BODY, st.one_of(_SPICED, _BODY))


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(_BODIES, _KINDS)
def test_a_source_stands_whatever_it_is_told(
    service: str, bodies: tuple[bytes, ...], kind: str
) -> None:
    _fuzz_source(service, bodies, kind)


@pytest.mark.nightly
@pytest.mark.timeout(0)
@settings(
    max_examples=20_000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(_BODIES, _KINDS)
def test_a_source_stands_nightly(service: str, bodies: tuple[bytes, ...], kind: str) -> None:
    _fuzz_source(service, bodies, kind)
