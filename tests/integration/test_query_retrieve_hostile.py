"""Archives that misbehave: every entry has an answer, waits end, and the disk stays empty."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.integration.raw_peer import Asked, data_pdu, raw_peer, read_pdu, response

from dcmvault.config.peer_sections import DimseSourceSection
from dcmvault.dicom import command as commands
from dcmvault.dicom import intake, messages, pdu
from dcmvault.dicom.part10 import scan
from dcmvault.errors import SourceUnavailableError
from dcmvault.model.instance import (
    Fingerprint,
    InstanceEntry,
    InstanceFile,
    InstanceIdentity,
    UnreadableEntry,
)
from dcmvault.sources.query_retrieve import QueryRetrieveSource, fetching, lane
from dcmvault.testing.dicom_files import make_instance

CT = "1.2.840.10008.5.1.4.1.1.2"
STUDY, SERIES = "1.2.3", "1.2.3.4"
UIDS = [f"{SERIES}.{number}" for number in range(1, 6)]
LIMIT_S = 0.5
C_FIND_RSP = commands.C_FIND_RQ | commands.RESPONSE
C_GET_RSP = commands.C_GET_RQ | commands.RESPONSE
#: Verification, query, C-GET; then CT as explicit VR little endian.
QUERY, RETRIEVAL, STORAGE = 3, 5, 7


@pytest.fixture(autouse=True)
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files of this test's own."""
    folder = tmp_path / "spool"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def data_set(uid: str, folder: Path) -> bytes:
    made = make_instance(folder / uid, STUDY, SERIES, uid)
    whole = made.path.read_bytes()
    made.path.unlink()
    length = int.from_bytes(whole[140:144], "little")
    return whole[144 + length :]


@dataclass
class Script:
    """What a peer sends for a C-GET; `others` come instead of what was asked for."""

    folder: Path
    send: Callable[[Script, Asked, list[str]], None]
    asked: list[list[str]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    #: Answers a C-FIND for several UIDs.
    finds_lists: bool = True
    gone: tuple[str, ...] = ()

    def __call__(self, asked: Asked) -> None:
        if asked.context_id == QUERY:
            uids = self.uids_of(asked)
            if len(uids) > 1 and not self.finds_lists:
                uids = []
            for uid in uids:
                if uid in self.gone:
                    continue
                row = commands.encode_identifier(
                    [
                        (0x0008, 0x0016, commands.encode_uid(CT)),
                        (0x0008, 0x0018, commands.encode_uid(uid)),
                    ]
                )
                found = response(C_FIND_RSP, asked.message_id, 0xFF00, has_data_set=True)
                asked.connection.sendall(
                    data_pdu(QUERY, found, is_command=True) + data_pdu(QUERY, row, is_command=False)
                )
            self.last(asked, C_FIND_RSP)
            return
        uids = self.uids_of(asked)
        self.asked.append(uids)
        self.send(self, asked, uids)

    def uids_of(self, asked: Asked) -> list[str]:
        elements = dict(commands.decode_flat(asked.data_set))
        return elements[0x0008, 0x0018].decode().strip("\0").split("\\")

    def store(self, asked: Asked, uid: str, content: bytes | None = None) -> None:
        """Send one instance, and note our answer."""
        content = data_set(uid, self.folder) if content is None else content
        request = commands.encode_request(
            commands.C_STORE_RQ, 7, CT, sop_instance_uid=uid, has_data_set=True
        )
        asked.connection.sendall(data_pdu(STORAGE, request, is_command=True))
        for start in range(0, len(content), 16_000):
            part = content[start : start + 16_000]
            is_last = start + 16_000 >= len(content)
            asked.connection.sendall(data_pdu(STORAGE, part, is_command=False, is_last=is_last))
        kind, body = read_pdu(asked.connection)
        if kind != pdu.P_DATA_TF:
            raise EOFError
        (value,) = pdu.read_data_values(body)
        command = commands.decode_command(value.fragment)
        self.statuses.append(commands.number(command, commands.STATUS))

    def last(self, asked: Asked, field_: int = C_GET_RSP, status: int = 0) -> None:
        answer = response(field_, asked.message_id, status)
        asked.connection.sendall(data_pdu(asked.context_id, answer, is_command=True))


def outcomes(
    script: Script,
    at_once: int = 100,
    before_next: Callable[[], None] = lambda: None,
    **options: Any,
) -> dict[str, str]:
    """Read all instances; return whether each came, or the code of why it did not, by UID.

    `before_next` is called with each answer, while the next ones may be on their way.
    """
    with raw_peer(script, at_once=at_once) as port:
        section = DimseSourceSection(
            host="127.0.0.1",
            port=port,
            association_timeout_s=LIMIT_S * 10,
            dimse_timeout_s=LIMIT_S,
            **{"max_associations": 1, **options},
        )
        source = QueryRetrieveSource(section)
        entries = [InstanceEntry(f"{STUDY}/{SERIES}/{uid}", Fingerprint(0, 1, 0)) for uid in UIDS]
        answers: list[InstanceFile | UnreadableEntry] = []
        found = {}
        for answer in source.read(entries):
            uid = answer.entry.locator.rpartition("/")[2]
            answers.append(answer)
            before_next()
            if isinstance(answer, InstanceFile):
                assert answer.header is not None
                assert answer.header.sop_instance_uid == uid
                found[uid] = "came"
            else:
                assert answer.message.endswith(".")
                found[uid] = answer.code
        assert [answer.entry for answer in answers] == entries
        return found


ALL_CAME = dict.fromkeys(UIDS, "came")


def left_behind(spool: Path) -> list[Path]:
    return list(spool.rglob("*"))


def test_in_whatever_order_they_come(spool: Path, tmp_path: Path) -> None:
    def send(script: Script, asked: Asked, uids: list[str]) -> None:
        for uid in reversed(uids):
            script.store(asked, uid)
        script.last(asked)

    assert outcomes(Script(tmp_path, send)) == ALL_CAME
    assert left_behind(spool) == []


def test_what_was_not_asked_for_is_refused(spool: Path, tmp_path: Path) -> None:
    def send(script: Script, asked: Asked, uids: list[str]) -> None:
        for uid in ("1.9.9", "../../etc/passwd", "/tmp/x", "", uids[0], uids[0]):
            script.store(asked, uid, None if uid in uids else b"\x08\0\x05\0CS\2\0  ")
        for uid in uids[1:]:
            script.store(asked, uid)
        script.last(asked)

    script = Script(tmp_path, send)
    assert outcomes(script) == ALL_CAME
    assert script.statuses[:6] == [0xC000, 0xC000, 0xC000, 0xC000, 0, 0xC000]
    assert left_behind(spool) == []


def test_one_that_never_comes_is_asked_for_alone_and_told(tmp_path: Path) -> None:
    def send(script: Script, asked: Asked, uids: list[str]) -> None:
        for uid in uids:
            if uid != UIDS[2]:
                script.store(asked, uid)
        script.last(asked, status=0xB000)

    script = Script(tmp_path, send)
    assert outcomes(script) == ALL_CAME | {UIDS[2]: "unreadable"}
    assert script.asked[-1] == [UIDS[2]]
    assert len(script.asked) <= 5


@pytest.mark.parametrize("at", [0, 2, 4])
def test_it_goes_on_where_the_association_was_lost(tmp_path: Path, at: int) -> None:
    lost: list[str] = []

    def send(script: Script, asked: Asked, uids: list[str]) -> None:
        for uid in uids:
            if uid == UIDS[at] and not lost:
                lost.append(uid)
                raise EOFError
            script.store(asked, uid)
        script.last(asked)

    script = Script(tmp_path, send)
    assert outcomes(script) == ALL_CAME
    assert script.asked == [UIDS, UIDS[at:]]


def test_one_that_ends_the_association_each_time(tmp_path: Path) -> None:
    def send(script: Script, asked: Asked, uids: list[str]) -> None:
        for uid in uids:
            if uid == UIDS[2]:
                raise EOFError
            script.store(asked, uid)
        script.last(asked)

    assert outcomes(Script(tmp_path, send)) == ALL_CAME | {UIDS[2]: "unreadable"}


def test_one_that_serves_one_association_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "_FIRST_BATCH", 1)
    monkeypatch.setattr(lane, "_BESIDE_OTHERS_S", 0.3)

    def send(script: Script, asked: Asked, uids: list[str]) -> None:
        for uid in uids:
            script.store(asked, uid)
        script.last(asked)

    assert outcomes(Script(tmp_path, send), at_once=1, max_associations=3) == ALL_CAME


def test_another_instance_under_the_uid(spool: Path, tmp_path: Path) -> None:
    def send(script: Script, asked: Asked, uids: list[str]) -> None:
        for uid in uids:
            script.store(asked, uid, data_set(f"{uid}.9", tmp_path) if uid == UIDS[1] else None)
        script.last(asked)

    script = Script(tmp_path, send)
    assert outcomes(script) == ALL_CAME | {UIDS[1]: "unreadable"}
    assert 0xA900 in script.statuses
    assert left_behind(spool) == []


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b"\x08\0\x18\0UI\xff\xff1.2", bytes(300)])
def test_what_is_not_dicom(tmp_path: Path, content: bytes) -> None:
    def send(script: Script, asked: Asked, uids: list[str]) -> None:
        for uid in uids:
            script.store(asked, uid, (content or b"\0\0") if uid == UIDS[1] else None)
        script.last(asked)

    assert outcomes(Script(tmp_path, send)) == ALL_CAME | {UIDS[1]: "unreadable"}


def test_one_that_is_too_large(spool: Path, tmp_path: Path) -> None:
    most = []

    def send(script: Script, asked: Asked, uids: list[str]) -> None:
        for uid in uids:
            script.store(asked, uid, bytes(3 << 20) if uid == UIDS[1] else None)
            most.append(sum(p.stat().st_size for p in spool.rglob("*") if p.is_file()))
        script.last(asked)

    script = Script(tmp_path, send)
    found = outcomes(script, max_instance_mib=1)
    assert found == ALL_CAME | {UIDS[1]: "unreadable"}
    assert 0xA700 in script.statuses
    assert max(most) < 1 << 20
    assert left_behind(spool) == []


def padded(uid: str, folder: Path) -> bytes:
    """A data set of 400 kB."""
    padding = b"\xfc\xff\xfc\xffOB\0\0" + (400_000).to_bytes(4, "little") + bytes(400_000)
    return data_set(uid, folder) + padding


def test_more_than_may_lie_here_at_once_comes_one_by_one(spool: Path, tmp_path: Path) -> None:
    most = []

    def send(script: Script, asked: Asked, uids: list[str]) -> None:
        for uid in reversed(uids):  # nothing can be used before the last is there
            script.store(asked, uid, padded(uid, tmp_path))
            most.append(sum(p.stat().st_size for p in spool.rglob("*") if p.is_file()))
        script.last(asked)

    script = Script(tmp_path, send)
    assert outcomes(script, max_waiting_mib=1) == ALL_CAME
    assert 0xA700 in script.statuses
    assert max(most) < 2 * (1 << 20)


@pytest.mark.parametrize("finds_lists", [True, False])
def test_an_archive_that_knows_no_lists_of_uids(
    tmp_path: Path, spool: Path, monkeypatch: pytest.MonkeyPatch, finds_lists: bool
) -> None:
    """Each is asked for alone; whoever reads slowly is not sent more than there is room for."""
    many = [f"{SERIES}.{number}" for number in range(1, 13)]
    monkeypatch.setattr(f"{__name__}.UIDS", many)
    most = []

    def send(script: Script, asked: Asked, uids: list[str]) -> None:
        if len(uids) == 1:
            script.store(asked, uids[0], padded(uids[0], tmp_path))
            most.append(sum(p.stat().st_size for p in spool.rglob("*") if p.is_file()))
        script.last(asked)

    def slowly() -> None:
        """Wait until no more comes, at the first only."""
        ends_at = time.monotonic() + 20
        while len(most) < len(many) and 0xA700 not in script.statuses:
            assert time.monotonic() < ends_at
            time.sleep(0.01)

    script = Script(tmp_path, send, finds_lists=finds_lists)
    found = outcomes(script, before_next=slowly, max_waiting_mib=1)
    assert found == dict.fromkeys(many, "came")
    assert max(most) < 2 * (1 << 20)
    assert left_behind(spool) == []


def test_one_that_is_not_there_any_more(tmp_path: Path) -> None:
    def send(script: Script, asked: Asked, uids: list[str]) -> None:
        for uid in uids:
            if uid != UIDS[2]:
                script.store(asked, uid)
        script.last(asked)

    script = Script(tmp_path, send, gone=(UIDS[2],))
    assert outcomes(script) == ALL_CAME | {UIDS[2]: "vanished"}


def test_what_comes_too_late_leaves_its_room(tmp_path: Path) -> None:
    entry = InstanceEntry(f"{STUDY}/{SERIES}/{UIDS[0]}", Fingerprint(0, 1, 0))
    identity = InstanceIdentity(STUDY, SERIES, UIDS[0])
    batch = lane.Batch(identity)
    batch.add(entry, identity)
    batch.refuse_rest("unreadable", "It does not come.")
    late = make_instance(tmp_path / "late", STUDY, SERIES, UIDS[0]).path
    size = late.stat().st_size
    room = intake.Room(size)
    assert room.take(size)
    batch.take(UIDS[0], intake.Received(late, scan(late), room))
    assert not late.exists()
    assert room.take(size)


def endless_unasked(script: Script, asked: Asked, uids: list[str]) -> None:
    for number in range(100_000):
        script.store(asked, f"1.9.{number}", b"\x08\0\x05\0CS\2\0  ")


def endless_bytes(script: Script, asked: Asked, uids: list[str]) -> None:
    request = commands.encode_request(
        commands.C_STORE_RQ, 7, CT, sop_instance_uid=uids[0], has_data_set=True
    )
    asked.connection.sendall(data_pdu(STORAGE, request, is_command=True))
    part = data_pdu(STORAGE, bytes(100_000), is_command=False, is_last=False)
    while True:
        asked.connection.sendall(part)


def endless_pending(script: Script, asked: Asked, uids: list[str]) -> None:
    pending = response(C_GET_RSP, asked.message_id, 0xFF00)
    while True:
        asked.connection.sendall(data_pdu(asked.context_id, pending, is_command=True))


def silence(script: Script, asked: Asked, uids: list[str]) -> None:
    read_pdu(asked.connection)


def half_an_instance(script: Script, asked: Asked, uids: list[str]) -> None:
    request = commands.encode_request(
        commands.C_STORE_RQ, 7, CT, sop_instance_uid=uids[0], has_data_set=True
    )
    asked.connection.sendall(data_pdu(STORAGE, request, is_command=True))
    asked.connection.sendall(data_pdu(STORAGE, bytes(100), is_command=False, is_last=False))
    read_pdu(asked.connection)


def nonsense(script: Script, asked: Asked, uids: list[str]) -> None:
    asked.connection.sendall(os.urandom(64))


def wrong_status(script: Script, asked: Asked, uids: list[str]) -> None:
    script.last(asked, status=0x1234)


def nothing_but_success(script: Script, asked: Asked, uids: list[str]) -> None:
    script.last(asked)


@pytest.mark.parametrize(
    "send",
    [
        endless_unasked,
        endless_bytes,
        endless_pending,
        silence,
        half_an_instance,
        nonsense,
        wrong_status,
        nothing_but_success,
    ],
)
def test_it_ends_and_leaves_nothing(
    spool: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    send: Callable[[Script, Asked, list[str]], None],
) -> None:
    monkeypatch.setattr(messages, "_LONGEST_QUIET", 1)
    monkeypatch.setattr(intake, "_MAX_UNTAKEN", 20)
    monkeypatch.setattr(intake, "_MAX_UNTAKEN_BYTES", 1 << 20)
    found = outcomes(Script(tmp_path, send), max_instance_mib=1)
    assert found == dict.fromkeys(UIDS, "unreadable")
    assert left_behind(spool) == []


def rows(*uids: str) -> Iterator[bytes]:
    for uid in uids:
        yield commands.encode_identifier([(0x0020, 0x000D, commands.encode_uid(uid))])


@pytest.mark.parametrize(
    "identifier",
    [b"\xff" * 20, b"\x20\0\x0d\0\xff\xff\xff\x7f1.2", b"\x08\0\x20\0\xff\xff\xff\xff"],
)
def test_answers_that_are_no_data_sets(identifier: bytes) -> None:
    def answer(asked: Asked) -> None:
        found = response(C_FIND_RSP, asked.message_id, 0xFF00, has_data_set=True)
        asked.connection.sendall(
            data_pdu(asked.context_id, found, is_command=True)
            + data_pdu(asked.context_id, identifier, is_command=False)
        )

    with raw_peer(answer) as port:
        section = DimseSourceSection(host="127.0.0.1", port=port, dimse_timeout_s=LIMIT_S)
        source = QueryRetrieveSource(section)
        with pytest.raises(SourceUnavailableError, match="not DICOM"):
            list(source.studies())


def test_answers_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    from dcmvault.dicom import attribute_query

    monkeypatch.setattr(attribute_query, "_MAX_ANSWERS", 100)

    def answer(asked: Asked) -> None:
        found = response(C_FIND_RSP, asked.message_id, 0xFF00, has_data_set=True)
        (row,) = rows("1.2.3")
        while True:
            asked.connection.sendall(
                data_pdu(asked.context_id, found, is_command=True)
                + data_pdu(asked.context_id, row, is_command=False)
            )

    with raw_peer(answer) as port:
        section = DimseSourceSection(host="127.0.0.1", port=port, dimse_timeout_s=LIMIT_S)
        with pytest.raises(SourceUnavailableError, match="without end"):
            list(QueryRetrieveSource(section).studies())
