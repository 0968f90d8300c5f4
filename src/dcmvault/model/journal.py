"""The audit journal as it is asked about: what to look for, and what checking it found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any


class Break(StrEnum):
    """What is wrong with the chain at a line."""

    #: This line or the one before it is not as it was written.
    CHANGED = "changed"
    MISSING = "missing"
    ORDER = "order"
    UNREADABLE = "unreadable"
    #: The journal ends before what its head, or a head kept elsewhere, remembers.
    CUT = "cut"
    #: The line that a head remembers is another one.
    HEAD = "head"
    HEAD_LOST = "head-lost"


@dataclass(frozen=True, slots=True)
class Finding:
    """One place where the chain is broken; `last` where several lines are missing."""

    kind: Break
    file: str
    row: int
    seq: int
    last: int = 0


@dataclass(frozen=True, slots=True)
class KeptHead:
    """A line's number and hash as somebody wrote them down elsewhere."""

    seq: int
    sha256: str


@dataclass(slots=True)
class JournalVerdict:
    """What verifying found."""

    lines: int = 0
    files: int = 0
    #: Lines that say that the journal was torn, cut, or without its head, when it was used next.
    mended: int = 0
    #: The last line: to be kept elsewhere, it proves later that nothing was cut off or rewritten.
    last: KeptHead | None = None
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """What is looked for: everything that is given must fit. Empty: all lines."""

    since: datetime | None = None
    until: datetime | None = None
    #: A kind of event, or how it begins (“vault.” is all about vaults).
    event: str = ""
    outcome: str = ""
    #: A part of the name or address of who did it.
    actor: str = ""
    study: str = ""
    #: Something that the place or any detail has in it.
    text: str = ""

    def fits(self, record: Mapping[str, Any]) -> bool:
        """Say whether a line is one of those."""
        at = _moment(record.get("at"))
        if (self.since and (at is None or at < self.since)) or (
            self.until and (at is None or at >= self.until)
        ):
            return False
        if not str(record["event"]).startswith(self.event):
            return False
        if self.outcome and record.get("outcome") != self.outcome:
            return False
        if self.study and self.study not in record.get("study_instance_uids", ()):
            return False
        who = " ".join(map(str, dict(record.get("actor", {})).values()))
        what = " ".join([str(record.get("place", "")), *map(str, _values(record))])
        return _has(who, self.actor) and _has(what, self.text)


def _values(record: Mapping[str, Any]) -> Iterator[object]:
    details = record.get("details", {})
    if isinstance(details, dict):
        yield from details.values()


def _has(text: str, wanted: str) -> bool:
    return wanted.casefold() in text.casefold()


def _moment(text: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
