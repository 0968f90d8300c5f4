"""Signs that a source is being spoilt, counted as passes write down what they see."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import sqlalchemy as sa

from dcmvault.catalogue.database import Database, insert_new
from dcmvault.catalogue.monitoring_tables import believed_signs, source_signs
from dcmvault.catalogue.tables import EntryState, sources
from dcmvault.model.identifiers import SourceId
from dcmvault.ports.signs import HeldSource, SourceSigns

_COUNTED = ("changed", "spoilt", "mended", "gone", "returned")
#: What is remembered when it was believed: not what is gone.
_REMEMBERED = ("changed", "spoilt", "mended")


@dataclass(frozen=True, slots=True)
class SignsInDatabase:
    """Implements `ports.signs.SignBook`."""

    database: Database

    def signs(self, source_id: SourceId) -> SourceSigns:
        """Return what happened since the source was last believed."""
        with self.database.read() as connection:
            row = connection.execute(_row_of(source_id)).one_or_none()
        return SourceSigns() if row is None else _signs_of(row)

    def hold(self, source_id: SourceId, at: datetime) -> None:
        """Note that backups of the source are held, since then or earlier."""
        with self.database.write() as connection:
            insert_new(connection, source_signs, [{"source_id": source_id}])
            connection.execute(
                sa.update(source_signs)
                .where(source_signs.c.source_id == source_id, source_signs.c.held_at.is_(None))
                .values(held_at=at)
            )

    def lately(self, source_id: SourceId, since: datetime) -> SourceSigns:
        """Add what was believed since then to what happened since the source was last believed."""
        with self.database.read() as connection:
            row = connection.execute(_row_of(source_id)).one_or_none()
            past = _believed(connection, source_id, since)
        names = ("known", *_COUNTED)
        now = {name: getattr(row, name) if row is not None else 0 for name in names}
        return _signs_of(SimpleNamespace(**_with_past(now, past)))

    def believe(self, source_id: SourceId, at: datetime, since: datetime) -> None:
        """Take the source as it is, and hold nothing; what was believed `since` is remembered."""
        with self.database.read() as connection:
            row = connection.execute(_row_of(source_id)).one_or_none()
        if row is None or (row.held_at is None and not any(getattr(row, n) for n in _COUNTED)):
            return
        past = believed_signs.c
        with self.database.write() as connection:
            connection.execute(_no_row_of(source_id))
            connection.execute(
                sa.delete(believed_signs).where(
                    past.source_id == source_id, past.believed_at < since
                )
            )
            counts = {name: getattr(row, name) for name in _REMEMBERED}
            if any(counts.values()):
                connection.execute(
                    sa.insert(believed_signs).values(
                        source_id=source_id, believed_at=at, known=row.known, **counts
                    )
                )

    def doubt(self, source_id: SourceId, since: datetime) -> None:
        """Take back what was believed since then: it is among the signs again."""
        with self.database.write() as connection:
            past = _believed(connection, source_id, since)
            insert_new(connection, source_signs, [{"source_id": source_id}])
            row = connection.execute(_row_of(source_id)).one()
            now = {name: getattr(row, name) for name in ("known", *_REMEMBERED)}
            connection.execute(
                sa.update(source_signs)
                .where(source_signs.c.source_id == source_id)
                .values(**_with_past(now, past))
            )
            connection.execute(_nothing_believed(source_id))

    def accept(self, source_id: SourceId) -> None:
        """Take the source as it is, for good: nothing happened to it, and nothing is held."""
        with self.database.write() as connection:
            connection.execute(_no_row_of(source_id))
            connection.execute(_nothing_believed(source_id))

    def held(self) -> list[HeldSource]:
        """List the sources whose backups are held."""
        query = (
            sa.select(source_signs, sources.c.name)
            .join(sources, sources.c.id == source_signs.c.source_id)
            .where(source_signs.c.held_at.is_not(None))
            .order_by(source_signs.c.source_id)
        )
        with self.database.read() as connection:
            return [
                HeldSource(SourceId(row.source_id), row.name, row.held_at, _signs_of(row))
                for row in connection.execute(query)
            ]


def _row_of(source_id: SourceId) -> sa.Select[Any]:
    return sa.select(source_signs).where(source_signs.c.source_id == source_id)


def _no_row_of(source_id: SourceId) -> sa.Delete:
    return sa.delete(source_signs).where(source_signs.c.source_id == source_id)


def _nothing_believed(source_id: SourceId) -> sa.Delete:
    return sa.delete(believed_signs).where(believed_signs.c.source_id == source_id)


def _believed(connection: sa.Connection, source_id: SourceId, since: datetime) -> Any:
    """Sum up what was believed of a source since then."""
    past = believed_signs.c
    return connection.execute(
        sa.select(
            sa.func.coalesce(sa.func.max(past.known), 0).label("known"),
            *(
                sa.cast(sa.func.coalesce(sa.func.sum(past[name]), 0), sa.BigInteger).label(name)
                for name in _REMEMBERED
            ),
        ).where(past.source_id == source_id, past.believed_at >= since)
    ).one()


def _with_past(now: Mapping[str, int], past: Any) -> dict[str, int]:
    """Add up; of what the source had the most at any time counts: that it grows is no sign."""
    both = dict(now)
    both["known"] = max(now["known"], past.known)
    for name in _REMEMBERED:
        both[name] += getattr(past, name)
    return both


def _signs_of(row: Any) -> SourceSigns:
    # What changed twice changed.
    changed = min(max(row.changed - row.mended, 0), row.known)
    return SourceSigns(
        known=row.known,
        changed=changed,
        spoilt=min(row.spoilt, changed),
        gone=min(max(row.gone - row.returned, 0), row.known),
    )


def note_signs(
    connection: sa.Connection, source_id: SourceId, known: int, signs: Counter[str]
) -> None:
    """Add to a source's signs, in the transaction that writes what they are about.

    `known` is how many instances it had, unless something happened to them before.
    """
    if not any(signs.values()):
        return
    table = source_signs.c
    insert_new(connection, source_signs, [{"source_id": source_id}])
    # It may be held already, for showing nothing: that says nothing of what it had.
    untouched = sa.and_(*(table[name] == 0 for name in _COUNTED))
    connection.execute(
        sa.update(source_signs)
        .where(table.source_id == source_id)
        .values(
            known=sa.case((untouched, known), else_=table.known),
            **{name: table[name] + count for name, count in signs.items() if count},
        )
    )


def count_signs(written: Iterable[tuple[Any | None, Any]], newest_version: int) -> Counter[str]:
    """Count what happened to entries, from their rows before and after.

    `newest_version` is the newest of before the pass: what holds an older one holds nothing new.
    """
    signs: Counter[str] = Counter()
    for old, new in written:
        if new.problem_code:
            continue  # what it holds is not known now
        known_content = new.version_id is not None and new.version_id <= newest_version
        if old is None or old.state == EntryState.GONE:
            signs["returned"] += known_content
        elif old.version_id != new.version_id and old.version_id is not None:
            if known_content or (old.study_id is None and new.study_id is not None):
                signs["mended"] += 1
            else:
                signs["changed"] += 1
                signs["spoilt"] += old.study_id is not None and new.study_id is None
    return signs
