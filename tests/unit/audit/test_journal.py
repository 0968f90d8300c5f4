"""The journal: several writers, crashes, rotation, and what peers did."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dcmvault.audit.accesses import JournalledAccesses
from dcmvault.audit.chain import read_head
from dcmvault.audit.journal import Journal
from dcmvault.audit.search import search
from dcmvault.audit.verification import verify
from dcmvault.cli.commands.audit import _row
from dcmvault.model.access import Access
from dcmvault.model.audit import Actor, ActorKind, AuditEvent, AuditKind, AuditOutcome
from dcmvault.model.journal import AuditQuery, Break
from dcmvault.reports.escaping import visible

AT = datetime(2026, 1, 31, 2, tzinfo=UTC)
EVENT = AuditEvent(AT, AuditKind.VERIFY, Actor(ActorKind.CLI, "ana", "mac"), place="disk")

WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from dcmvault.audit.journal import Journal
from dcmvault.model.audit import Actor, ActorKind, AuditEvent, AuditKind
journal = Journal(Path(sys.argv[1]), rotate_bytes=4000)
for number in range(25):
    kind = AuditKind.ACCESS if number % 3 else AuditKind.VERIFY
    actor = Actor(ActorKind.SERVICE, sys.argv[2])
    journal.append(AuditEvent(datetime.now(UTC), kind, actor, details={"number": number}))
"""


def told(folder: Path) -> list[dict[str, object]]:
    paths = sorted(folder.glob("*.jsonl"))
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def test_several_processes_and_threads_write_one_chain(tmp_path: Path) -> None:
    program = textwrap.dedent(WRITER)
    writers = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path), f"process {number}"])
        for number in range(3)
    ]
    journal = Journal(tmp_path, rotate_bytes=4000)
    threads = [
        threading.Thread(target=lambda: [journal.append(EVENT) for _ in range(20)])
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    verdict = verify(tmp_path)
    assert (verdict.findings, verdict.mended) == ([], 0)
    lines = told(tmp_path)
    rotations = sum(line["event"] == "journal.rotated" for line in lines)
    assert len(lines) == 3 * 25 + 2 * 20 + rotations
    assert rotations == verdict.files - 1 > 2
    for number in range(3):
        mine = [
            line["details"]["number"]  # type: ignore[index]
            for line in lines
            if line["actor"]["name"] == f"process {number}"  # type: ignore[index]
        ]
        assert mine == list(range(25)), "each writer's own order"


def test_a_killed_writer_leaves_a_chain_that_goes_on(tmp_path: Path) -> None:
    endless = WRITER.replace("range(25)", "range(10**9)")
    for _number in range(3):
        writer = subprocess.Popen([sys.executable, "-c", endless, str(tmp_path), "w"])
        before = len(told_whole(tmp_path))
        while len(told_whole(tmp_path)) < before + 30:
            assert writer.poll() is None
            time.sleep(0.01)
        writer.kill()
        writer.wait()
    Journal(tmp_path).append(EVENT)
    assert verify(tmp_path).findings == []


def told_whole(folder: Path) -> list[str]:
    paths = sorted(folder.glob("*.jsonl"))
    return [line for path in paths for line in path.read_text().splitlines()]


@pytest.mark.parametrize("torn", [b'{"seq":3,"pr', b"\0" * 500, b'{"seq":3}\n', b"\n"])
def test_a_torn_line_stays_and_the_next_one_says_so(tmp_path: Path, torn: bytes) -> None:
    journal = Journal(tmp_path)
    journal.append(EVENT)
    journal.append(EVENT)
    with (tmp_path / "audit-000001.jsonl").open("ab") as file:
        file.write(torn)
    assert not verify(tmp_path).is_whole
    Journal(tmp_path).append(EVENT)
    verdict = verify(tmp_path)
    assert (verdict.findings, verdict.mended, verdict.lines) == ([], 1, 4)
    content = (tmp_path / "audit-000001.jsonl").read_bytes()
    assert torn in content
    mended = json.loads(content.splitlines()[-2])
    assert mended["details"]["reason"] == "torn"


def _cut_mending(folder: Path, size: int) -> None:
    """Begin to mend the journal, and die after so many bytes of the line that says so."""
    path = folder / "audit-000001.jsonl"
    before = path.read_bytes()
    Journal(folder).append(EVENT)
    ended = before if before.endswith(b"\n") else before + b"\n"
    path.write_bytes(path.read_bytes()[: len(ended) + size])


@pytest.mark.parametrize("sizes", [[1], [40], [300], [60, 200], [1, 1, 100], [0, 90]])
def test_crashes_in_a_row_are_no_tampering(tmp_path: Path, sizes: list[int]) -> None:
    Journal(tmp_path).append(EVENT)
    with (tmp_path / "audit-000001.jsonl").open("ab") as file:
        file.write(b'{"seq":2,"pr')
    head = (tmp_path / "head.json").read_bytes()
    for size in sizes:
        _cut_mending(tmp_path, size)
        (tmp_path / "head.json").write_bytes(head)
    Journal(tmp_path).append(EVENT)
    verdict = verify(tmp_path)
    assert (verdict.findings, verdict.mended, verdict.lines) == ([], 1, 3)


def test_several_lines_that_no_crash_leaves_are_found_though_the_next_line_names_them(
    tmp_path: Path,
) -> None:
    """Who overwrites the last lines has them mended by the next process, and is found."""
    journal = Journal(tmp_path)
    journal.append(EVENT)
    access = replace(EVENT, kind=AuditKind.ACCESS)
    for _number in range(3):
        journal.append(access)  # the head does not remember these yet
    path = tmp_path / "audit-000001.jsonl"
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([lines[0], *(b"#" * len(line) for line in lines[1:])]) + b"\n")
    Journal(tmp_path).append(EVENT)
    verdict = verify(tmp_path)
    assert [finding.kind for finding in verdict.findings] == [Break.UNREADABLE] * 3
    assert verdict.mended == 1


def test_one_of_several_torn_lines_that_is_taken_out_is_found(tmp_path: Path) -> None:
    Journal(tmp_path).append(EVENT)
    path = tmp_path / "audit-000001.jsonl"
    head = (tmp_path / "head.json").read_bytes()
    path.write_bytes(path.read_bytes() + b'{"seq":2,"pr')
    _cut_mending(tmp_path, 100)
    (tmp_path / "head.json").write_bytes(head)
    Journal(tmp_path).append(EVENT)
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 5
    for number in (1, 2):
        path.write_bytes(b"".join(lines[:number] + lines[number + 1 :]))
        assert not verify(tmp_path).is_whole


@pytest.mark.parametrize(
    "changes",
    [
        {"actor": "eve"},
        {"actor": ["eve", 7]},
        {"details": 5},
        {"details": [{}]},
        {"study_instance_uids": 9},
        {"study_instance_uids": {"1.2": 3}},
        {"study_instance_uids": [1, None]},
        {"at": 12},
        {"at": "2026-01-31T02:00:00"},
        {"event": ["verify"]},
        {"place": {"a": "\ud800"}},
        {"seq": -(10**30)},
    ],
)
def test_search_takes_whatever_a_line_was_made_into(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    journal = Journal(tmp_path)
    journal.append(EVENT)
    path = tmp_path / "audit-000001.jsonl"
    changed = {**json.loads(path.read_bytes()), **changes}
    path.write_text(json.dumps(changed) + "\n")
    whatever = AuditQuery(
        since=AT.replace(year=2000),
        until=AT.replace(year=2100),
        event="v",
        outcome="success",
        actor="ana",
        study="1.2.3",
        text="disk",
    )
    for query in (
        AuditQuery(),
        whatever,
        *(replace(AuditQuery(), **{name: getattr(whatever, name)}) for name in whatever.__slots__),
    ):
        for record, _raw in search(tmp_path, query):
            assert visible("".join(map(str, _row(record))))


def test_a_crash_between_line_and_head_costs_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(EVENT)
    head = (tmp_path / "head.json").read_bytes()
    journal.append(EVENT)
    (tmp_path / "head.json").write_bytes(head)
    assert verify(tmp_path).is_whole
    Journal(tmp_path).append(EVENT)
    verdict = verify(tmp_path)
    assert (verdict.findings, verdict.mended, verdict.lines) == ([], 0, 3)
    remembered = read_head(tmp_path)
    assert remembered is not None
    assert remembered.seq == 3


def test_a_journal_that_cannot_be_written_stops_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    assert Journal(tmp_path / "file").record(EVENT) is False
    assert "could not be written to the audit journal" in caplog.text


FILLING = """
import resource, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from dcmvault.audit.journal import Journal
from dcmvault.model.audit import Actor, ActorKind, AuditEvent, AuditKind
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = Journal(Path(sys.argv[1]))
event = AuditEvent(datetime.now(UTC), AuditKind.VERIFY, Actor(ActorKind.CLI, "ana"))
journal.append(event)
told = []
for size in range(1000, 2000, 50):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    told.append(journal.record(event))
assert True in told and False in told, told
"""


def test_attempts_on_a_full_disk_leave_no_line_that_looks_changed(tmp_path: Path) -> None:
    """Space comes byte by byte: each attempt is cut off in the middle of a line."""
    subprocess.run([sys.executable, "-c", FILLING, str(tmp_path)], check=True)
    Journal(tmp_path).append(EVENT)
    verdict = verify(tmp_path)
    assert verdict.is_whole, verdict.findings
    assert verdict.mended == 0


def test_accesses_of_peers_are_lines_without_values(tmp_path: Path) -> None:
    accesses = JournalledAccesses(Journal(tmp_path))
    accesses.record(
        Access(
            AT,
            "C-FIND",
            "HOROS",
            "10.0.0.1",
            outcome="0000",
            keys=("PatientName",),
            duration_s=0.1234,
        )
    )
    uids = tuple(f"1.2.{number}" for number in range(1500))
    accesses.record(Access(AT, "C-GET", "A", "::1", "CN=a", "A702", sop_instance_uids=uids))
    accesses.record(Access(AT, "QIDO-RS", "", "10.0.0.9", outcome="401"))
    accesses.record(Access(AT, "A-ASSOCIATE", "WHO", "10.0.0.9", outcome="refused"))
    found, got, refused, rejected = told(tmp_path)
    assert found["details"] == {
        "service": "C-FIND",
        "outcome": "0000",
        "keys": "PatientName",
        "duration_s": 0.123,
    }
    assert (found["outcome"], got["outcome"]) == ("success", "minor-failure")
    assert got["details"]["sop_instance_uids_count"] == 1500  # type: ignore[index]
    assert got["actor"]["certificate"] == "CN=a"  # type: ignore[index]
    assert (refused["event"], rejected["event"]) == ("login.failed", "access")
    assert rejected["outcome"] == "minor-failure"


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        (AuditQuery(), [1, 2, 3]),
        (AuditQuery(event="vault."), [2]),
        (AuditQuery(outcome="minor-failure"), [3]),
        (AuditQuery(actor="BOB"), [2]),
        (AuditQuery(study="1.2.3"), [3]),
        (AuditQuery(text="tape"), [2]),
        (AuditQuery(since=AT.replace(hour=3)), [3]),
        (AuditQuery(until=AT.replace(hour=3)), [1, 2]),
        (AuditQuery(event="vault.", actor="ana"), []),
    ],
)
def test_search_finds_what_fits_everything(
    tmp_path: Path, query: AuditQuery, numbers: list[int]
) -> None:
    journal = Journal(tmp_path)
    journal.append(EVENT)
    bob = Actor(ActorKind.WEB, "bob")
    journal.append(replace(EVENT, kind=AuditKind.PRUNE, actor=bob, details={"to": "Tape 7"}))
    journal.append(
        replace(
            EVENT,
            at=AT.replace(hour=4),
            outcome=AuditOutcome.MINOR_FAILURE,
            study_instance_uids=("1.2.3",),
        )
    )
    assert [record["seq"] for record, _raw in search(tmp_path, query)] == numbers
