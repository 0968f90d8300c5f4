"""Whatever is changed, removed or moved in the journal is found."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from dcmvault.audit.chain import HEAD_FILE
from dcmvault.audit.journal import Journal
from dcmvault.audit.verification import verify
from dcmvault.model.audit import Actor, ActorKind, AuditEvent, AuditKind
from dcmvault.model.journal import KeptHead

AT = datetime(2026, 1, 31, 2, tzinfo=UTC)
LINES = 14


def event(number: int) -> AuditEvent:
    return AuditEvent(
        AT, AuditKind.VERIFY, Actor(ActorKind.CLI, "ana"), details={"number": number, "words": "á"}
    )


@cache
def written() -> Path:
    """A journal of three files, one of which was torn and mended."""
    folder = Path(tempfile.mkdtemp(prefix="dcmvault-audit-"))
    journal = Journal(folder)
    for number in range(4):
        journal.append(event(number))
    with (folder / "audit-000001.jsonl").open("ab") as file:
        file.write(b'{"seq":5,"prev":"torn')
    journal = Journal(folder)
    for number in range(3):
        journal.append(event(number))
    journal.rotate(AT)
    journal.append(event(9))
    journal.rotate(AT)
    for number in range(3):
        journal.append(event(number))
    return folder


@contextmanager
def copied() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="dcmvault-audit-") as name:
        folder = Path(name) / "audit"
        shutil.copytree(written(), folder)
        yield folder


def all_lines(folder: Path) -> list[tuple[Path, int]]:
    return [
        (path, row)
        for path in sorted(folder.glob("*.jsonl"))
        for row in range(len(path.read_bytes().splitlines()))
    ]


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def test_as_written_it_is_whole() -> None:
    verdict = verify(written())
    assert (verdict.findings, verdict.lines, verdict.files, verdict.mended) == ([], 14, 3, 1)


def test_each_removed_line_is_found() -> None:
    for number in range(len(all_lines(written()))):
        with copied() as folder:
            path, row = all_lines(folder)[number]
            lines = lines_of(path)
            del lines[row]
            path.write_bytes(b"".join(lines))
            assert not verify(folder).is_whole, (path.name, row)


def test_each_repeated_line_is_found() -> None:
    for number in range(len(all_lines(written()))):
        with copied() as folder:
            path, row = all_lines(folder)[number]
            lines = lines_of(path)
            lines.insert(row, lines[row])
            path.write_bytes(b"".join(lines))
            assert not verify(folder).is_whole, (path.name, row)


def test_any_two_lines_that_change_places_are_found() -> None:
    count = len(all_lines(written()))
    for one in range(count):
        for other in range(one):
            with copied() as folder:
                (path, row), (other_path, other_row) = (
                    all_lines(folder)[one],
                    all_lines(folder)[other],
                )
                texts = {path: lines_of(path), other_path: lines_of(other_path)}
                texts[path][row], texts[other_path][other_row] = (
                    texts[other_path][other_row],
                    texts[path][row],
                )
                for where, lines in texts.items():
                    where.write_bytes(b"".join(lines))
                assert not verify(folder).is_whole, (one, other)


@given(st.data())
def test_any_changed_byte_is_found(data: st.DataObject) -> None:
    with copied() as folder:
        path = data.draw(st.sampled_from(sorted(folder.glob("*.jsonl"))))
        content = bytearray(path.read_bytes())
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] ^= data.draw(st.integers(1, 255))
        path.write_bytes(content)
        assert not verify(folder).is_whole


@given(st.data())
def test_any_end_that_is_cut_off_is_found_also_after_more_was_written(data: st.DataObject) -> None:
    with copied() as folder:
        path = sorted(folder.glob("*.jsonl"))[-1]
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.truncate(data.draw(st.integers(0, size - 1)))
        assert not verify(folder).is_whole
        Journal(folder).append(event(1))
        verdict = verify(folder)
        assert not verdict.is_whole
        assert verdict.mended == 2


def test_files_and_heads_that_are_gone_are_found_also_after_more_was_written() -> None:
    for name in (*(path.name for path in written().glob("*.jsonl")), HEAD_FILE):
        with copied() as folder:
            (folder / name).unlink()
            assert not verify(folder).is_whole, name
            if name != HEAD_FILE:
                Journal(folder).append(event(1))
                assert not verify(folder).is_whole, name


def test_a_line_that_was_written_anew_with_all_after_it_is_found_by_a_head_kept_elsewhere() -> None:
    """Whoever may write the folder can write another journal: only a witness elsewhere knows."""
    kept = verify(written()).last
    assert kept is not None
    with tempfile.TemporaryDirectory() as name:
        forged = Journal(Path(name))
        for number in range(LINES):
            forged.append(event(-number))
        assert verify(Path(name)).is_whole
        assert not verify(Path(name), kept).is_whole
        assert not verify(Path(name), KeptHead(LINES + 5, kept.sha256)).is_whole
    assert verify(written(), kept).is_whole
    first = json.loads(lines_of(written() / "audit-000001.jsonl")[1])["prev"]
    assert verify(written(), KeptHead(1, first)).is_whole
