"""Orthanc's log of changes: which studies got instances since a pass, where it can be trusted.

The log tells what was stored. It does not tell what was deleted, loses the entries of what is
deleted, can be cleared at any time, and begins anew with a new database. So it is believed only
where it still has the very entry at which the last pass ended, and what it tells counts only where
Orthanc then holds as many instances as are known (`ports.source.KeepsChanges`).

With a database that several write to, an entry can become visible after one with a higher number.
So a mark also says which entries before it were there, and those are looked at again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from dcmvault.dicom.orthanc_rest import (
    ID,
    OrthancRest,
    ResourceGoneError,
    ResourceUnreadableError,
)
from dcmvault.model.instance import StudyRef
from dcmvault.ports.source import Changes
from dcmvault.sources.orthanc.rows import counted, series_rows, text

#: Entries asked for at once; each takes about 290 bytes.
_PAGE = 10_000
#: Pages that are read; after more changes everything is listed.
_MOST_PAGES = 50
#: Numbers up to that of a mark at which late entries are looked for; well below a page.
_LOOKED_AT_AGAIN = 512
#: Everything is listed after so long, whatever the log says.
_LISTED_AGAIN = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Mark:
    """The last entry of the log, and when everything was listed last."""

    sequence: int
    entry: tuple[str, ...]
    listed_at: datetime
    #: Bit N is set if the entry whose number is N less than `sequence` was there.
    visible: int

    def written(self) -> str:
        """Return it as a text that `read_mark` reads."""
        return json.dumps(
            [self.sequence, *self.entry, self.listed_at.isoformat(), f"{self.visible:x}"]
        )


def read_mark(bookmark: str) -> Mark | None:
    """Read a bookmark; None for what is none."""
    try:
        sequence, *entry, listed_at, visible = json.loads(bookmark)
        return Mark(
            int(sequence),
            tuple(map(str, entry)),
            datetime.fromisoformat(listed_at),
            int(visible, 16),
        )
    except (ValueError, TypeError):
        return None


def last_mark(rest: OrthancRest, listed_at: datetime) -> Mark | None:
    """Look where the log ends; None where it has no entry."""
    try:
        end = _last_entry(rest)
        if end is None:
            return None
        sequence = counted(end, "Seq")
        visible = 0
        for row in _rows_until(rest, sequence, since=sequence - _LOOKED_AT_AGAIN):
            visible |= _bit(sequence, row)
    except (ResourceGoneError, ResourceUnreadableError):
        return None
    return Mark(sequence, _entry(end), listed_at, visible)


def changes_since(rest: OrthancRest, bookmark: str, now: datetime) -> Changes | None:
    """Say which studies got instances since a pass; None where the log cannot tell."""
    mark = read_mark(bookmark)
    if mark is None or not timedelta(0) <= now - mark.listed_at < _LISTED_AGAIN:
        return None
    try:
        end = _last_entry(rest)
        if end is None or counted(end, "Seq") < mark.sequence:
            return None
        sequence = counted(end, "Seq")
        read = _stored_since(rest, mark, sequence)
        if read is None:
            return None
        stored, visible = read
        told = Mark(sequence, _entry(end), mark.listed_at, visible)
        return Changes(tuple(_studies_of(rest, stored)), told.written())
    except (ResourceGoneError, ResourceUnreadableError):
        return None


def _stored_since(rest: OrthancRest, mark: Mark, end: int) -> tuple[dict[str, None], int] | None:
    """List the instances stored after a mark, and the entries visible at the end of the log.

    Those of late entries before the mark are among them. None where the log lacks the mark.
    """
    stored: dict[str, None] = {}
    visible = 0
    is_reached = False
    for row in _rows_until(rest, end, since=mark.sequence - _LOOKED_AT_AGAIN):
        visible |= _bit(end, row)
        is_reached = is_reached or _entry(row) == mark.entry
        if counted(row, "Seq") > mark.sequence:
            if not is_reached:
                return None
        elif not _bit(mark.sequence, row) & ~mark.visible:
            continue
        instance_id = text(row, "ID")
        if text(row, "ChangeType") == "NewInstance" and ID.match(instance_id):
            stored[instance_id] = None
    return (stored, visible) if is_reached else None


def _bit(sequence: int, row: Mapping[str, object]) -> int:
    """Return the bit of an entry in `Mark.visible`; 0 for one that is too far from the mark."""
    before = sequence - counted(row, "Seq")
    return 1 << before if 0 <= before < _LOOKED_AT_AGAIN else 0


def _last_entry(rest: OrthancRest) -> Mapping[str, object] | None:
    rows = _rows(rest.json("/changes?last"))
    return rows[-1] if rows and ID.match(text(rows[-1], "ID")) else None


def _rows_until(rest: OrthancRest, end: int, *, since: int) -> Iterator[Mapping[str, object]]:
    """Read the entries after a number, to the end; ResourceUnreadableError if there are too many.

    Also for a log that does not get to its end.
    """
    since = max(since, 0)
    for _page in range(_MOST_PAGES):
        answer = rest.json(f"/changes?since={since}&limit={_PAGE}")
        yield from _rows(answer)
        last = counted(answer, "Last")
        if last >= end:
            return
        if last <= since:
            break
        since = last
    raise ResourceUnreadableError("Orthanc's log of changes does not come to its end.")


def _studies_of(rest: OrthancRest, instance_ids: dict[str, None]) -> Iterator[StudyRef]:
    """Find the studies that instances belong to, each once; one that is gone has none."""
    while instance_ids:
        instance_id = next(iter(instance_ids))
        del instance_ids[instance_id]
        try:
            study = rest.json(f"/instances/{instance_id}/study")
            study_id = text(study, "ID") if isinstance(study, dict) else ""
            if not ID.match(study_id):
                raise ResourceUnreadableError("Orthanc does not say which study it is.")
            for series in series_rows(rest.json(f"/studies/{study_id}/series?expand")).values():
                for sibling in series.instance_ids:
                    instance_ids.pop(sibling, None)
        except ResourceGoneError:
            continue
        yield StudyRef(study_id)


def _rows(answer: object) -> list[Mapping[str, object]]:
    rows = answer.get("Changes") if isinstance(answer, dict) else None
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _entry(row: Mapping[str, object]) -> tuple[str, ...]:
    """Return what tells an entry of the log from those of other logs."""
    return (
        str(counted(row, "Seq")),
        *(text(row, name) for name in ("ChangeType", "ID", "Date", "ResourceType")),
    )
