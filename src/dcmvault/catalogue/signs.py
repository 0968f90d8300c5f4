"""Signs that a source is being spoilt, counted as passes write down what they see."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from dcmvault.catalogue.database import Database, insert_new
from dcmvault.catalogue.monitoring_tables import source_signs
from dcmvault.catalogue.tables import EntryState, sources
from dcmvault.model.identifiers import SourceId
from dcmvault.ports.signs import HeldSource, SourceSigns

_COUNTED = ("changed", "spoilt", "mended", "gone", "returned")


@dataclass(frozen=True, slots=True)
class SignsInDatabase:
    """Implements `ports.signs.SignBook`."""

    database: Database

    def signs(self, source_id: SourceId) -> SourceSigns:
        """Return what happened since the source was last believed."""
        with self.database.read() as connection:
            row = connection.execute(
                sa.select(source_signs).where(source_signs.c.source_id == source_id)
            ).one_or_none()
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

    def believe(self, source_id: SourceId) -> None:
        """Take the source as it is: nothing happened to it, and nothing is held."""
        table = source_signs.c
        with self.database.read() as connection:
            row = connection.execute(
                sa.select(source_signs).where(table.source_id == source_id)
            ).one_or_none()
        if row is None or (row.held_at is None and not any(getattr(row, n) for n in _COUNTED)):
            return
        with self.database.write() as connection:
            connection.execute(sa.delete(source_signs).where(table.source_id == source_id))

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
