"""QIDO-RS: what a service holds, whatever it makes of pages, keys and statuses."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tests.integration.stow_story import web_destination
from tests.integration.web_peer import Reply, Seen, WebPeer, web_peer

from dcmvault.dicom.dicomweb import DicomwebConnection
from dcmvault.dicom.http_connection import HttpConnection, HttpPeer
from dcmvault.dicom.http_login import FixedLogin
from dcmvault.dicom.qido import WebStudyQuery
from dcmvault.errors import DestinationError, DestinationUnreachableError
from dcmvault.model.evidence import ExpectedInstance, ExpectedStudy, Finding, Level
from dcmvault.model.identifiers import VersionId
from dcmvault.model.instance import InstanceIdentity

STUDY, SERIES = "1.2.3", "1.2.3.4"


def _row(**values: object) -> dict[str, object]:
    return {tag.lstrip("_"): {"vr": "UI", "Value": [value]} for tag, value in values.items()}


@dataclass
class Archive:
    """Answers searches about one study with one series of `count` instances."""

    count: int
    cap: int = 10_000
    says_that_it_caps: bool = True
    ignores_offset: bool = False
    counts: bool = True
    status_for_unknown: int = 200

    def uids(self) -> list[str]:
        return [f"{SERIES}.{number}" for number in range(1, self.count + 1)]

    def __call__(self, seen: Seen) -> Reply:
        parts = seen.path.removeprefix("/dicom-web/").split("/")
        study = parts[1] if len(parts) > 1 else seen.query["StudyInstanceUID"][0]
        if study != STUDY:
            return Reply(self.status_for_unknown if len(parts) > 1 else 200, b"[]")
        if parts == ["studies"]:
            counts = {"_00201206": 1, "_00201208": self.count} if self.counts else {}
            return Reply(200, json.dumps([_row(_0020000D=STUDY, **counts)]).encode())
        if parts[-1] == "series":
            rows = [_row(_0020000D=STUDY, _0020000E=SERIES)]
            return Reply(200, json.dumps(rows).encode())
        wanted = seen.query.get("SOPInstanceUID", [""])[0].split(",")
        uids = [uid for uid in self.uids() if wanted == [""] or uid in wanted]
        offset = 0 if self.ignores_offset else int(seen.query["offset"][0])
        limit = min(int(seen.query["limit"][0]), self.cap)
        page = uids[offset : offset + limit]
        is_capped = self.says_that_it_caps and offset + limit < len(uids)
        headers = {"Warning": '299 here "There are additional results"'} if is_capped else {}
        rows = [_row(_00080018=uid, _0020000D=STUDY, _0020000E=SERIES) for uid in page]
        return Reply(200 if page else 204, json.dumps(rows).encode() if page else b"", headers)


@pytest.fixture
def peer() -> Iterator[WebPeer]:
    with web_peer(Archive(0)) as running:
        yield running


@pytest.mark.parametrize(
    "archive",
    [Archive(7), Archive(7, cap=3), Archive(1203), Archive(499, ignores_offset=True)],
    ids=["one page", "capped", "three pages", "offset ignored"],
)
def test_all_pages_are_read(peer: WebPeer, archive: Archive) -> None:
    peer.answering = archive
    destination = web_destination(peer.url)
    assert destination.instances(STUDY, SERIES) == set(archive.uids())
    assert destination.instances(STUDY) == set(archive.uids())
    assert destination.instances("9.9") == frozenset()
    for no_uid in ("../x", ".", ".."):
        asked = len(peer.seen)
        assert destination.instances(no_uid) == frozenset()
        assert destination.instances(STUDY, no_uid) == frozenset()
        assert len(peer.seen) == asked, "never becomes part of a URL"


def _expected(uids: list[str]) -> ExpectedStudy:
    instances = (
        ExpectedInstance(VersionId(number), InstanceIdentity(STUDY, SERIES, uid), 1)
        for number, uid in enumerate(uids, start=1)
    )
    return ExpectedStudy(STUDY, tuple(instances))


def test_a_silent_cap_is_found_out_by_asking_for_the_rest(peer: WebPeer) -> None:
    archive = Archive(60, cap=20, says_that_it_caps=False)
    peer.answering = archive
    gone = f"{SERIES}.999"
    found = web_destination(peer.url).verify(_expected([*archive.uids(), gone]), Level.COMPLETE)
    assert list(found.findings.values()) == [Finding.HELD] * 60 + [Finding.MISSING]
    assert found.proof["questions"]


@pytest.mark.parametrize("counts", [True, False])
def test_presence_goes_by_counts_where_there_are_some(peer: WebPeer, counts: bool) -> None:
    archive = Archive(5, counts=counts)
    peer.answering = archive
    destination = web_destination(peer.url)
    found = destination.verify(_expected(archive.uids()), Level.PRESENT)
    assert set(found.findings.values()) == {Finding.HELD}
    asked_for_uids = [seen for seen in peer.seen if seen.path.endswith("/instances")]
    assert bool(asked_for_uids) is not counts
    short = destination.verify(_expected([*archive.uids(), "9.9"]), Level.PRESENT)
    assert list(short.findings.values()).count(Finding.MISSING) == 1


def test_404_for_a_study_that_is_not_there_is_an_answer(peer: WebPeer) -> None:
    peer.answering = Archive(5, status_for_unknown=404)
    assert web_destination(peer.url).instances("9.9", "9.9.9") == frozenset()


def test_404_for_a_series_that_is_not_there_is_an_answer(peer: WebPeer) -> None:
    archive = Archive(5)

    def answer(seen: Seen) -> Reply:
        return Reply(404) if "/9.9/" in seen.path else archive(seen)

    peer.answering = answer
    destination = web_destination(peer.url)
    assert destination.instances(STUDY, "9.9") == frozenset()
    missing = ExpectedInstance(VersionId(1), InstanceIdentity(STUDY, "9.9", "9.9.1"), 1)
    found = destination.verify(ExpectedStudy(STUDY, (missing,)), Level.COMPLETE)
    assert list(found.findings.values()) == [Finding.MISSING]
    peer.answering = lambda seen: Reply(404) if SERIES in seen.path else archive(seen)
    with pytest.raises(DestinationError, match="answered 404"):
        destination.instances(STUDY, SERIES)


def test_questions_end_when_their_time_is_over(peer: WebPeer) -> None:
    archive = Archive(5)

    def answer(seen: Seen) -> Reply:
        time.sleep(0.2)
        return archive(seen)

    peer.answering = answer
    web = HttpPeer("127.0.0.1", peer.port)
    with DicomwebConnection(HttpConnection(web), "/dicom-web", FixedLogin()) as service:
        query = WebStudyQuery(service, longest_s=0.1)
        before, held = query.is_open, query.instance_uids(STUDY, SERIES)
        assert (before, held, query.is_open) == (True, frozenset(archive.uids()), False)
        with pytest.raises(DestinationError, match=r"all questions within 0\.1 s"):
            query.instance_uids(STUDY, SERIES)
    assert len(peer.seen) == 1


def test_404_for_everything_is_a_wrong_address(peer: WebPeer) -> None:
    peer.answering = lambda _seen: Reply(404)
    destination = web_destination(peer.url)
    with pytest.raises(DestinationError, match="answered 404"):
        destination.instances(STUDY, SERIES)
    found = destination.verify(_expected(["1.1"]), Level.COMPLETE)
    assert set(found.findings.values()) == {Finding.UNKNOWN}


def test_a_service_that_cannot_answer_now_is_unreachable(peer: WebPeer) -> None:
    peer.answering = lambda _seen: Reply(503)
    with pytest.raises(DestinationUnreachableError, match="answered 503"):
        web_destination(peer.url).verify(_expected(["1.1"]), Level.COMPLETE)


@pytest.mark.parametrize("body", [b"<html>", b"[1]", b"[[]]", b"{", b" " * (17 << 20)])
def test_answers_that_are_none(peer: WebPeer, body: bytes) -> None:
    peer.answering = lambda _seen: Reply(200, body)
    destination = web_destination(peer.url)
    with pytest.raises(DestinationError):
        destination.instances(STUDY, SERIES)
    found = destination.verify(_expected(["1.1"]), Level.COMPLETE)
    assert set(found.findings.values()) == {Finding.UNKNOWN}


def test_rows_of_other_studies_are_not_ours(peer: WebPeer) -> None:
    """A service that ignores a key names instances of somebody else."""
    other = _row(_00080018="1.1", _0020000D="8.8", _0020000E=SERIES)
    peer.answering = lambda _seen: Reply(200, json.dumps([other]).encode())
    assert web_destination(peer.url).instances(STUDY, SERIES) == frozenset()


@pytest.mark.parametrize(
    ("status", "sends_back"), [(404, True), (503, True), (403, False), (405, False)]
)
def test_whether_it_lets_read_back(status: int, sends_back: bool) -> None:
    """That it has no such instance says that it would send one; a refusal says that it does not."""
    with web_peer(lambda _seen: Reply(status)) as peer:
        assert web_destination(peer.url).sends_back() is sends_back
        assert "/instances/2.25." in peer.seen[-1].path


@pytest.mark.parametrize(("status", "sends_back"), [(404, False), (503, True), (200, True)])
def test_a_service_without_what_it_names_does_not_let_read_back(
    status: int, sends_back: bool
) -> None:
    """Many offer searches and no retrieval, and answer 404 to it: that is no yes."""
    archive = Archive(3)

    def answer(seen: Seen) -> Reply:
        if seen.path.endswith("/studies"):
            return Reply(200, json.dumps([_row(_0020000D=STUDY)]).encode())
        if seen.path.endswith("/instances"):
            row = _row(_0020000D=STUDY, _0020000E=SERIES, _00080018=archive.uids()[0])
            return Reply(200, json.dumps([row]).encode())
        return Reply(status, b"DICM", {"Content-Type": "application/dicom"})

    with web_peer(answer) as peer:
        assert web_destination(peer.url).sends_back() is sends_back
        assert peer.seen[-1].path.endswith(f"/instances/{archive.uids()[0]}")


def test_who_cannot_be_reached_has_refused_nothing() -> None:
    assert web_destination("http://127.0.0.1:9/dicom-web").sends_back()
