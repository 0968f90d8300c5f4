"""An Orthanc that lies, stalls, breaks off or floods: what is good is read, the rest is named."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from scripts.peer_processes import Orthanc
from tests.integration.orthanc_proxy import forward
from tests.integration.web_peer import Reply, Seen, WebPeer, web_peer

from dcmvault.app.wiring.clock import SystemClock
from dcmvault.config.peer_sections import OrthancSourceSection
from dcmvault.dicom.orthanc_rest import Patience
from dcmvault.errors import SourceUnavailableError
from dcmvault.model.instance import InstanceEntry, InstanceFile, UnreadableEntry
from dcmvault.sources.orthanc import OrthancSource
from dcmvault.testing.dicom_files import make_study

pytestmark = pytest.mark.peers

#: Rewrites the answer to a request; returns it as it is where it is not meant.
Twist = Callable[[Seen, Reply], Reply | None]


@dataclass
class Twisted:
    """A real Orthanc with two studies, behind a proxy that twists its answers."""

    proxy: WebPeer
    files: dict[str, bytes]
    honest: Callable[[Seen], Reply]
    waits_s: tuple[float, ...] = (0.01, 0.01)
    options: dict[str, Any] = field(default_factory=dict)

    def source(self) -> OrthancSource:
        section = OrthancSourceSection(
            url=f"http://127.0.0.1:{self.proxy.port}",
            **{"response_timeout_s": 20.0, **self.options},
        )
        return OrthancSource(section, SystemClock(), Patience(self.waits_s))

    def twist(self, twist: Twist) -> None:
        self.proxy.answering = lambda seen: twist(seen, self.honest(seen))

    def answer(self, pattern: str, reply: Callable[[], Reply | None]) -> None:
        """Answer requests for these paths otherwise."""
        self.twist(lambda seen, told: reply() if re.search(pattern, seen.path) else told)

    def entries(self) -> list[InstanceEntry]:
        source = self.source()
        return [entry for study in source.studies() for entry in source.entries(study)]

    def refusal(self) -> SourceUnavailableError:
        with pytest.raises(SourceUnavailableError) as caught:
            self.entries()
        assert caught.value.message.endswith(".")
        assert caught.value.hint
        return caught.value

    def read(self, entries: list[InstanceEntry]) -> dict[str, str]:
        """Read all; return the messages of what cannot be read, after checking the rest."""
        told = {}
        asked = iter(entries)
        for answer in self.source().read(entries):
            assert answer.entry == next(asked)
            if isinstance(answer, InstanceFile):
                assert answer.path.read_bytes() == self.files[answer.entry.locator]
            else:
                assert isinstance(answer, UnreadableEntry)
                assert answer.message.endswith(".")
                told[answer.entry.locator] = f"{answer.code}: {answer.message}"
        assert next(asked, None) is None
        return told


@pytest.fixture
def twisted(orthanc: Orthanc, tmp_path: Path) -> Iterator[Twisted]:
    files = {}
    for number in (1, 2):
        for one in make_study(
            tmp_path / f"{number}", study_uid=f"1.2.3.{number}", key=f"{number}", instances=3
        ):
            data = one.path.read_bytes()
            instance_id = orthanc.store(data)
            study_id = orthanc.rest(f"/instances/{instance_id}/study")["ID"]
            files[f"{study_id}/{instance_id}.dcm"] = data
    honest = forward(lambda: orthanc.http_url)
    with web_peer(honest) as proxy:
        yield Twisted(proxy, files, honest)


def test_what_one_answer_leaves_out_is_asked_for_by_itself(twisted: Twisted) -> None:
    honest = twisted.entries()
    assert {entry.locator for entry in honest} == set(twisted.files)
    assert all(entry.indexed is not None for entry in honest)
    for body in (b"[]", b"{}", b"no JSON", b"[{}, 7, null]", b'[{"ID": "../../etc/passwd"}]', b""):
        twisted.answer("/studies/.*/instances", lambda body=body: Reply(200, body))  # type: ignore[misc]
        assert twisted.entries() == honest
    twisted.answer("/studies/.*/instances", lambda: Reply(500))
    assert twisted.entries() == honest


def test_what_is_not_described_is_listed_and_cannot_be_read(twisted: Twisted) -> None:
    honest = twisted.entries()
    victim = honest[2]
    instance_id = victim.locator[45:-4]

    def twist(seen: Seen, told: Reply) -> Reply:
        if seen.path == f"/instances/{instance_id}":
            return Reply(500)
        if seen.path.endswith("/instances"):
            rows = [row for row in json.loads(told.body) if row["ID"] != instance_id]
            return Reply(200, json.dumps(rows).encode())
        return told

    twisted.twist(twist)
    listed = twisted.entries()
    assert [entry.locator for entry in listed] == [entry.locator for entry in honest]
    assert [entry.fingerprint.size for entry in listed].count(0) == 1
    assert set(twisted.read(listed)) == {victim.locator}


def test_a_listing_that_is_shorter_than_the_count_is_not_believed(twisted: Twisted) -> None:
    def twist(seen: Seen, told: Reply) -> Reply:
        if seen.path == "/studies":
            return Reply(200, json.dumps(json.loads(told.body)[:1]).encode())
        return told

    twisted.twist(twist)
    assert "1 of 2 studies" in twisted.refusal().message


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (Reply(401), "know who we are"),
        (Reply(403), "does not allow"),
        (Reply(404), "no Orthanc at this address"),
        (Reply(302, headers={"Location": "http://127.0.0.1:1/"}), "another address"),
        (Reply(500), "answered 500"),
        (Reply(418), "answered 418"),
        (Reply(503), "busy"),
        (Reply(200, b"<html>Welcome</html>"), "not what an Orthanc answers"),
        (Reply(200, b"[" * 100_000), "not what an Orthanc answers"),
        (Reply(200, b"[" + b"[]," * 1_000_000 + b"[]]"), "not what an Orthanc answers"),
        (Reply(200, b'["../../../etc/passwd"]'), "not what an Orthanc answers"),
        (Reply(200, b" " * ((64 << 20) + 1)), "more than"),
        (None, "broke|no answer|not HTTP"),
    ],
)
def test_a_source_that_cannot_be_listed_says_why(
    twisted: Twisted, reply: Reply | None, says: str
) -> None:
    for path in ("^/studies$", "^/statistics$", "/"):
        if path == "^/statistics$" and reply is not None and reply.status == 200:
            continue  # a count that makes no sense is none
        twisted.answer(path, lambda: reply)
        assert re.search(says, twisted.refusal().message), path


@pytest.mark.parametrize("reply", [Reply(500), Reply(503), Reply(200, b"<html>"), None], ids=str)
@pytest.mark.parametrize("path", ["", "/series"])
def test_one_study_that_is_not_listed_does_not_end_it(
    twisted: Twisted, reply: Reply | None, path: str
) -> None:
    """It is told, the others are listed, and nothing of it counts as gone."""
    bad = min(twisted.files).partition("/")[0]
    twisted.waits_s = (0.01,)
    twisted.answer(f"^/studies/{bad}{path}$", lambda: reply)
    source = twisted.source()
    entries = [entry for study in source.studies() for entry in source.entries(study)]
    others = {locator for locator in twisted.files if not locator.startswith(bad)}
    assert {entry.locator for entry in entries} == {bad, *others}
    assert not source.remarks().lists_all
    assert bad in source.remarks().warnings[0]
    (unlisted,) = (entry for entry in entries if entry.locator == bad)
    assert twisted.read([unlisted]) == {bad: "unreadable: Orthanc did not list this study."}


def test_an_orthanc_that_lists_no_study_is_not_there(twisted: Twisted) -> None:
    twisted.answer("^/studies/[^/]*$", lambda: Reply(500))
    source = twisted.source()
    studies = list(source.studies()) * 3
    with pytest.raises(SourceUnavailableError, match="answered 500"):
        list(chain.from_iterable(map(source.entries, studies)))


def test_a_list_without_end_ends(twisted: Twisted) -> None:
    """Chunks that never stop are read up to the limit, and no further."""

    def serve(listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _address = listening.accept()
                with connection, suppress(OSError):
                    request = connection.recv(4096)
                    if b"/statistics" in request:
                        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
                        connection.recv(4096)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                    piece = b'"aaaaaaaa-bbbbbbbb-cccccccc-dddddddd-eeeeeeee",' * 1000
                    while True:
                        connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        try:
            section = OrthancSourceSection(url=f"http://127.0.0.1:{listening.getsockname()[1]}")
            with pytest.raises(SourceUnavailableError, match="more than"):
                list(OrthancSource(section, SystemClock(), Patience(())).studies())
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(20)


def test_silence_has_an_end(twisted: Twisted) -> None:
    twisted.options = {"response_timeout_s": 0.3}
    twisted.waits_s = ()
    ended = threading.Event()

    def wait() -> Reply:
        ended.wait(20)
        return Reply()

    twisted.answer("^/studies$", wait)
    try:
        assert "no answer within 0.3 s" in twisted.refusal().message
    finally:
        ended.set()


def test_a_busy_orthanc_is_waited_for(twisted: Twisted) -> None:
    honest = twisted.entries()
    refused: set[str] = set()

    def twist(seen: Seen, told: Reply) -> Reply | None:
        # The very first request shows whether anybody is there at all.
        if seen.path == "/statistics" or seen.path in refused:
            return told
        refused.add(seen.path)
        return Reply(503) if len(refused) % 2 else None

    twisted.twist(twist)
    assert twisted.entries() == honest
    assert twisted.read(honest) == {}


def test_files_that_are_not_what_was_announced(twisted: Twisted) -> None:
    """Each is named with its reason; the others are read, byte for byte."""
    entries = twisted.entries()
    content = [twisted.files[entry.locator] for entry in entries]
    tag = {"ETag": '"0-' + "0" * 32 + '"'}
    twists = [
        (Reply(200, content[0], tag), "MD5"),
        (Reply(200, content[1][:-1]), "not as long"),
        (Reply(200, content[2] + b"x"), "more than the"),
        (Reply(404), "its storage is damaged"),
        (Reply(500), "answered 500"),
    ]
    by_path = {
        f"/instances/{entry.locator[45:-4]}/attachments/dicom/data": reply
        for entry, (reply, _says) in zip(entries, twists, strict=False)
    }
    twisted.twist(lambda seen, told: by_path.get(seen.path, told))
    told = twisted.read(entries)
    assert set(told) == {entry.locator for entry in entries[:5]}
    for entry, (_reply, says) in zip(entries, twists, strict=False):
        assert says in told[entry.locator]
        assert told[entry.locator].startswith("unreadable: ")


def test_without_an_entity_tag_the_md5_is_asked_for(twisted: Twisted) -> None:
    entries = twisted.entries()

    def twist(seen: Seen, told: Reply) -> Reply:
        if seen.path.endswith("/data"):
            return Reply(200, told.body)
        if seen.path.endswith("/md5") and entries[1].locator[45:-4] in seen.path:
            return Reply(200, b"f" * 32)
        return told

    twisted.twist(twist)
    told = twisted.read(entries)
    assert set(told) == {entries[1].locator}
    assert "MD5" in told[entries[1].locator]


def test_a_file_that_breaks_off_is_fetched_again(twisted: Twisted) -> None:
    """What came before does not stay in the file."""
    entries = twisted.entries()
    broken: set[str] = set()

    def twist(seen: Seen, told: Reply) -> Reply | None:
        if seen.path.endswith("/data") and seen.path not in broken:
            broken.add(seen.path)
            return Reply(200, b"other bytes", {"Content-Length": f"{len(told.body)}"})
        return told

    twisted.twist(twist)
    twisted.options = {"response_timeout_s": 0.5, "max_connections": 2}
    assert twisted.read(entries) == {}
    assert len(broken) == len(entries)


def test_an_orthanc_that_went_away_is_not_waited_for_each_time(twisted: Twisted) -> None:
    entries = twisted.entries()
    twisted.proxy.answering = lambda _seen: None
    twisted.waits_s = (0.3,) * 3
    source = twisted.source()
    began = len(twisted.proxy.seen)
    told = [answer for answer in source.read(entries) if isinstance(answer, UnreadableEntry)]
    assert len(told) == len(entries)
    assert {answer.code for answer in told} == {"unreadable"}
    # Four connections waited, each at most thrice; after that every file was asked for once.
    assert len(twisted.proxy.seen) - began <= 2 * (4 * 4 + len(entries))


@pytest.mark.parametrize(
    "answer",
    [
        b"{}",
        b"[]",
        b"null",
        b'{"Changes": 7, "Done": false, "Last": 10}',
        b'{"Changes": [1, null, {"Seq": "x"}], "Done": false, "Last": -1}',
        b'{"Changes": [], "Done": false, "Last": 1e999}',
        b"no JSON",
    ],
)
def test_a_log_that_makes_no_sense_tells_nothing(twisted: Twisted, answer: bytes) -> None:
    bookmark = twisted.source().bookmark()
    twisted.answer("^/changes", lambda: Reply(200, answer))
    source = twisted.source()
    assert source.changes_since(bookmark) is None
    if source.bookmark():
        assert source.changes_since(source.bookmark()) is None


def test_a_log_that_does_not_go_on_ends(twisted: Twisted) -> None:
    bookmark = twisted.source().bookmark()

    def twist(seen: Seen, told: Reply) -> Reply:
        if seen.path == "/changes":
            answer = json.loads(told.body)
            if "last" in seen.query:
                answer["Changes"][0]["Seq"] = answer["Last"] = 10**9
            return Reply(200, json.dumps({**answer, "Done": False}).encode())
        return told

    twisted.twist(twist)
    assert twisted.source().changes_since(bookmark) is None
    assert len(twisted.proxy.seen) < 50


def test_an_entry_that_becomes_visible_late_is_told_once(
    twisted: Twisted, orthanc: Orthanc
) -> None:
    """With several writers an entry can be committed after one with a higher number was read."""
    log = orthanc.rest("/changes")["Changes"]
    late = next(row for row in log if row["ChangeType"] == "NewInstance")

    def twist(seen: Seen, told: Reply) -> Reply:
        if seen.path != "/changes" or "last" in seen.query:
            return told
        answer = json.loads(told.body)
        answer["Changes"] = [row for row in answer["Changes"] if row["Seq"] != late["Seq"]]
        return Reply(200, json.dumps(answer).encode())

    twisted.twist(twist)
    bookmark = twisted.source().bookmark()
    changes = twisted.source().changes_since(bookmark)
    assert changes is not None
    assert changes.studies == ()
    twisted.proxy.answering = twisted.honest
    told = ""
    for before in (bookmark, changes.bookmark):
        found = twisted.source().changes_since(before)
        assert found is not None
        (study,) = found.studies
        assert f"{study.locator}/{late['ID']}.dcm" in twisted.files
        told = found.bookmark
    again = twisted.source().changes_since(told)
    assert again is not None
    assert again.studies == ()
