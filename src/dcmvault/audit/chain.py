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
#: Crashes in a row while the journal is mended: what is more is no accident.
_MOST_TORN = 100
#: Bytes that are compared of a line that a crash interrupted: its number, and what it follows.
_LONGEST_BEGIN = 128
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


class Torn:
    """Lines in a row that are none of ours: what a crash left, as far as the next line says so.

    A crash in the middle of a line leaves one; each that interrupts the mending leaves the begin of
    another. What is not such a begin was never left by a crash.
    """

    def __init__(self, line: Line) -> None:
        self.lines = [line]
        self.bytes = len(line.raw)
        self._hash = hashlib.sha256(line.raw)
        self._begins: list[bytes] = []

    def add(self, line: Line) -> None:
        """Add the line after the last one."""
        self.bytes += 1 + len(line.raw)
        self._hash.update(b"\n" + line.raw)
        self._begins.append(line.raw[:_LONGEST_BEGIN])
        self.lines = [*self.lines[:_MOST_TORN], line]

    @property
    def last(self) -> Line:
        """The line before the one that mends."""
        return self.lines[-1]

    @property
    def number(self) -> int:
        """How many lines these are."""
        return 1 + len(self._begins)

    @property
    def sha256(self) -> str:
        """The hash of all, with the ends of lines between them: that of the line if it is one."""
        return self._hash.hexdigest()

    def is_mended_by(self, record: Mapping[str, Any]) -> bool:
        """Say whether a line of ours speaks of these, and a crash can have left them."""
        if _torn_hash(record) != self.sha256 or self.number > _MOST_TORN:
            return False
        begin = _begin(record["seq"], record["prev"])
        return all(one.startswith(begin) or begin.startswith(one) for one in self._begins)


def _begin(seq: int, prev: str) -> bytes:
    return json.dumps({"seq": seq, "prev": prev}, separators=(",", ":"))[:-1].encode()


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
    torn: Torn | None = None
    for line in read_lines(folder, start):
        record = _parsed(line)
        if record is None:
            torn = _torn_with(torn, line)
            yield Checked(line, None)
            continue
        found: list[Finding] = []
        if torn is not None and not torn.is_mended_by(record):
            found += [_finding(Break.UNREADABLE, one, seq + 1) for one in torn.lines]
        if torn is None and _torn_hash(record):
            found.append(_finding(Break.MISSING, line, record["seq"]))
        torn = None
        found += _link(line, record, seq, prev)
        seq, prev = record["seq"], line.sha256
        yield Checked(line, record, tuple(found))
    if torn is not None:
        found = [_finding(Break.UNREADABLE, one, seq + 1) for one in torn.lines]
        yield Checked(torn.last, None, tuple(found))


def tail_after(folder: Path, start: Position) -> tuple[Position, Torn | None]:
    """Return the last line of ours after a position, and the torn lines after that, if any."""
    tail: Position = start
    torn: Torn | None = None
    for line in read_lines(folder, start):
        record = _parsed(line)
        torn = _torn_with(torn, line) if record is None else None
        if record is not None:
            tail = Position(line.number, line.end, record["seq"], line.sha256)
    return tail, torn


def _torn_with(torn: Torn | None, line: Line) -> Torn:
    if torn is None:
        return Torn(line)
    torn.add(line)
    return torn


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


def _torn_hash(record: Mapping[str, Any]) -> str:
    """Return the hash of the torn lines that this one speaks of, if it does."""
    details = record.get("details")
    if record["event"] != AuditKind.JOURNAL_MENDED or not isinstance(details, dict):
        return ""
    return str(details.get("torn_sha256", ""))
