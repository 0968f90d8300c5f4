"""The chain of the journal: how lines are linked, read and checked.

Each line is a JSON object with its number (`seq`, from 1) and the SHA-256 of the line before it,
without its newline (`prev`; 64 zeros before the first). Files follow each other by number, and the
chain goes on from one to the next. The head, in a file of its own, remembers a line near the end.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcmvault.model.audit import AuditKind
from dcmvault.model.journal import Break, Finding

#: What the first line has for the hash of the line before it.
NO_HASH = "0" * 64
HEAD_FILE = "head.json"
_FILE = re.compile(r"audit-([0-9]{6})\.jsonl")
#: Bytes; ours are smaller. What is longer is read in pieces, of which none is a line of ours.
_LONGEST_LINE = 1 << 20


@dataclass(frozen=True, slots=True)
class Position:
    """The end of a line: where it lies, its number, its hash."""

    number: int
    offset: int
    seq: int
    sha256: str


START = Position(1, 0, 0, NO_HASH)


@dataclass(frozen=True, slots=True)
class Line:
    """One line as it lies in a file."""

    number: int
    #: Counted from 1 in its file, where reading began at its start.
    row: int
    #: Where it ends in the file, with its newline.
    end: int
    raw: bytes
    is_whole: bool

    @property
    def sha256(self) -> str:
        """The hash that the next line has."""
        return hashlib.sha256(self.raw).hexdigest()


@dataclass(frozen=True, slots=True)
class Checked:
    """A line with what it says (None for what is no line of ours) and what is wrong with it."""

    line: Line
    record: Mapping[str, Any] | None
    findings: tuple[Finding, ...] = ()


def file_name(number: int) -> str:
    """Return the name of the file with this number."""
    return f"audit-{number:06}.jsonl"


def file_numbers(folder: Path) -> list[int]:
    """List the numbers of the journal's files, in order."""
    if not folder.is_dir():
        return []
    return sorted(
        int(found[1]) for path in folder.iterdir() if (found := _FILE.fullmatch(path.name))
    )


def read_head(folder: Path) -> Position | None:
    """Return what the head remembers; None where there is none, or it cannot be read."""
    try:
        told = json.loads((folder / HEAD_FILE).read_bytes())
        return Position(
            int(told["file"]), int(told["offset"]), int(told["seq"]), str(told["sha256"])
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_lines(folder: Path, start: Position = START) -> Iterator[Line]:
    """Read what follows a position, file by file."""
    for number in file_numbers(folder):
        if number < start.number:
            continue
        offset = start.offset if number == start.number else 0
        with (folder / file_name(number)).open("rb") as file:
            file.seek(offset)
            row = 0
            while raw := file.readline(_LONGEST_LINE):
                row += 1
                offset += len(raw)
                yield Line(number, row, offset, raw.removesuffix(b"\n"), raw.endswith(b"\n"))


def check(folder: Path, start: Position = START) -> Iterator[Checked]:
    """Follow the chain from a position: every line, with every break found at it."""
    seq, prev = start.seq, start.sha256
    torn: Line | None = None
    for line in read_lines(folder, start):
        record = _parsed(line)
        found: list[Finding] = []
        if torn is not None and not _mends(record, torn):
            found.append(_finding(Break.UNREADABLE, torn, seq + 1))
        if torn is None and record is not None and _torn_hash(record):
            found.append(_finding(Break.MISSING, line, record["seq"]))
        torn = line if record is None else None
        if record is not None:
            found += _link(line, record, seq, prev)
            seq, prev = record["seq"], line.sha256
        yield Checked(line, record, tuple(found))
    if torn is not None:
        yield Checked(torn, None, (_finding(Break.UNREADABLE, torn, seq + 1),))


def tail_after(folder: Path, start: Position) -> tuple[Position, Line | None]:
    """Return the last line of ours after a position, and the torn line after that, if any."""
    tail, torn = start, None
    for line in read_lines(folder, start):
        record = _parsed(line)
        torn = line if record is None else None
        if record is not None:
            tail = Position(line.number, line.end, record["seq"], line.sha256)
    return tail, torn


def _link(line: Line, record: Mapping[str, Any], seq: int, prev: str) -> list[Finding]:
    number = record["seq"]
    if number > seq + 1:
        return [Finding(Break.MISSING, file_name(line.number), line.row, seq + 1, number - 1)]
    if number <= seq:
        return [_finding(Break.ORDER, line, number)]
    if record["prev"] != prev:
        return [_finding(Break.CHANGED, line, number)]
    return []


def _finding(kind: Break, line: Line, seq: int) -> Finding:
    return Finding(kind, file_name(line.number), line.row, seq)


def _parsed(line: Line) -> Mapping[str, Any] | None:
    """Return what a line says; None for what is none of ours."""
    if not line.is_whole:
        return None
    try:
        record = json.loads(line.raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or type(record.get("seq")) is not int:
        return None
    return record if isinstance(record.get("prev"), str) and "event" in record else None


def _mends(record: Mapping[str, Any] | None, torn: Line) -> bool:
    return record is not None and _torn_hash(record) == torn.sha256


def _torn_hash(record: Mapping[str, Any]) -> str:
    """Return the hash of the torn line that this one speaks of, if it does."""
    details = record.get("details")
    if record["event"] != AuditKind.JOURNAL_MENDED or not isinstance(details, dict):
        return ""
    return str(details.get("torn_sha256", ""))
