"""Orthanc's log of changes: which studies got instances since a pass, where it can be trusted.

The log tells what was stored. It does not tell what was deleted, loses the entries of what is
deleted, can be cleared at any time, and begins anew with a new database. So it is believed only
where it still has the very entry at which the last pass ended, and what it tells counts only where
Orthanc then holds as many instances as are known (`ports.source.KeepsChanges`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from dcmvault.model.instance import StudyRef
from dcmvault.ports.source import Changes
from dcmvault.sources.orthanc.rest import (
    ID,
    OrthancRest,
    ResourceGoneError,
    ResourceUnreadableError,
)
from dcmvault.sources.orthanc.rows import counted, series_rows, text

#: Entries asked for at once; each takes about 290 bytes.
_PAGE = 10_000
#: Pages that are read; after more changes everything is listed.
_MOST_PAGES = 50
#: Everything is listed after so long, whatever the log says.
_LISTED_AGAIN = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Mark:
    """The last entry of the log, and when everything was listed last."""

    sequence: int
    entry: tuple[str, ...]
    listed_at: datetime

    def written(self) -> str:
        """Return it as a text that `read_mark` reads."""
        return json.dumps([self.sequence, *self.entry, self.listed_at.isoformat()])


def read_mark(bookmark: str) -> Mark | None:
    """Read a bookmark; None for what is none."""
    try:
        sequence, *entry, listed_at = json.loads(bookmark)
        return Mark(int(sequence), tuple(map(str, entry)), datetime.fromisoformat(listed_at))
    except (ValueError, TypeError):
        return None


def last_mark(rest: OrthancRest, listed_at: datetime) -> Mark | None:
    """Look where the log ends; None where it has no entry."""
    try:
        rows = _rows(rest.json("/changes?last"))
    except (ResourceGoneError, ResourceUnreadableError):
        return None
    if not rows or not ID.match(text(rows[-1], "ID")):
        return None
    return Mark(counted(rows[-1], "Seq"), _entry(rows[-1]), listed_at)


def changes_since(rest: OrthancRest, bookmark: str, now: datetime) -> Changes | None:
    """Say which studies got instances since a pass; None where the log cannot tell."""
    mark = read_mark(bookmark)
    if mark is None or not timedelta(0) <= now - mark.listed_at < _LISTED_AGAIN:
        return None
    try:
        end = last_mark(rest, mark.listed_at)
        if end is None or end.sequence < mark.sequence:
            return None
        instance_ids = _stored_since(rest, mark, end)
        if instance_ids is None:
            return None
        return Changes(tuple(_studies_of(rest, instance_ids)), end.written())
    except ResourceUnreadableError:
        return None


def _stored_since(rest: OrthancRest, mark: Mark, end: Mark) -> dict[str, None] | None:
    """List the instances that were stored after a mark; None where the log does not reach it."""
    stored: dict[str, None] = {}
    since = mark.sequence - 1
    for page in range(_MOST_PAGES):
        answer = rest.json(f"/changes?since={since}&limit={_PAGE}")
        rows = _rows(answer)
        if not page and (not rows or _entry(rows[0]) != mark.entry):
            return None
        for row in rows[0 if page else 1 :]:
            instance_id = text(row, "ID")
            if text(row, "ChangeType") == "NewInstance" and ID.match(instance_id):
                stored[instance_id] = None
        last = counted(answer, "Last")
        if last >= end.sequence:
            return stored
        if last <= since:  # a log that does not go on
            return None
        since = last
    return None


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
