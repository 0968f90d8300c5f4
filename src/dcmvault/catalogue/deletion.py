"""Facts about studies whose originals somebody wants to delete, in set operations page by page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from dcmvault.catalogue.database import Database, chunks
from dcmvault.catalogue.siblings import version_there
from dcmvault.catalogue.tables import (
    EntryState,
    Moment,
    destinations,
    entries,
    holdings,
    run_destinations,
    runs,
    series,
    studies,
    versions,
)
from dcmvault.model.deletion import CopyFacts, HeldPart, StudyFacts
from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import SourceId

#: Studies looked at in one transaction.
_PAGE = 5_000


@dataclass(frozen=True, slots=True)
class DeletionInDatabase:
    """Implements `ports.deletion.DeletionCatalogue`."""

    database: Database

    def study_facts(
        self, source_id: SourceId, study_instance_uids: Collection[str] = ()
    ) -> Iterator[StudyFacts]:
        """Yield the facts of every study with an entry at the source, or of these only."""
        if study_instance_uids:
            for some in chunks(sorted(study_instance_uids)):
                with self.database.read() as connection:
                    query = sa.select(studies.c.id).where(studies.c.study_instance_uid.in_(some))
                    keys = sorted(connection.scalars(query))
                    found = _facts(connection, source_id, entries.c.study_id.in_(keys))
                yield from found
            return
        last = 0
        while True:
            with self.database.read() as connection:
                page = connection.scalars(
                    sa.select(entries.c.study_id)
                    .distinct()
                    .where(entries.c.source_id == source_id, entries.c.study_id > last)
                    .order_by(entries.c.study_id)
                    .limit(_PAGE)
                ).all()
                if not page:
                    return
                among = entries.c.study_id.between(page[0], page[-1])
                found = _facts(connection, source_id, among)
            yield from found
            last = page[-1]

    def unplaced(self, source_id: SourceId) -> int:
        """Count the source's entries whose study is not known and that no destination holds."""
        is_held = sa.exists().where(
            holdings.c.version_id == entries.c.version_id, holdings.c.level >= Level.PRESENT
        )
        is_opaque = sa.and_(
            entries.c.state == EntryState.PRESENT, entries.c.version_id.is_not(None), ~is_held
        )
        query = (
            sa.select(sa.func.count())
            .select_from(entries)
            .where(
                entries.c.source_id == source_id,
                entries.c.study_id.is_(None),
                sa.or_(entries.c.state == EntryState.UNREADABLE, is_opaque),
            )
        )
        with self.database.read() as connection:
            return int(connection.scalar(query) or 0)


def _facts(
    connection: sa.Connection, source_id: SourceId, among: sa.ColumnElement[bool]
) -> list[StudyFacts]:
    listed = sa.and_(entries.c.source_id == source_id, entries.c.state != EntryState.GONE, among)
    present = sa.and_(listed, entries.c.state == EntryState.PRESENT)
    conflicts = _conflicts(connection, present)
    changed = _changed(connection, present)
    copies = _copies(connection, source_id, present)
    modalities = _modalities(connection, listed)
    is_present = entries.c.state == EntryState.PRESENT
    size = sa.case((entries.c.size == 0, versions.c.size), else_=entries.c.size)
    query = (
        sa.select(
            studies.c.id,
            studies.c.study_instance_uid,
            studies.c.study_date,
            sa.func.count(sa.distinct(sa.case((is_present, entries.c.version_id)))).label(
                "instances"
            ),
            sa.func.coalesce(sa.func.sum(sa.case((is_present, size))), 0).label("bytes"),
            sa.func.count(sa.case((entries.c.state == EntryState.UNREADABLE, 1))).label(
                "unreadable"
            ),
        )
        .select_from(entries)
        .join(studies, studies.c.id == entries.c.study_id)
        .outerjoin(versions, versions.c.id == entries.c.version_id)
        .where(listed)
        .group_by(studies.c.id, studies.c.study_instance_uid, studies.c.study_date)
        .order_by(studies.c.id)
    )
    return [
        StudyFacts(
            study_instance_uid=row.study_instance_uid,
            study_date=row.study_date,
            modalities=", ".join(modalities[row.id]),
            instances=row.instances,
            bytes=int(row.bytes),
            changed=changed.get(row.id, 0),
            unreadable=row.unreadable,
            conflicts=conflicts.get(row.id, 0),
            copies=copies[row.id],
        )
        for row in connection.execute(query)
    ]


def _conflicts(connection: sa.Connection, present: sa.ColumnElement[bool]) -> Mapping[int, int]:
    """Count, by study, the instances of which the source has contents that differ.

    Those whose data sets were compared and found equal do not differ.
    """
    unlike = sa.case((versions.c.data_set_digest.is_(None), versions.c.id))
    several = (
        sa.select(entries.c.study_id, versions.c.instance_id)
        .join(versions, versions.c.id == entries.c.version_id)
        .where(present, versions.c.instance_id.is_not(None))
        .group_by(entries.c.study_id, versions.c.instance_id)
        .having(
            sa.func.count(sa.distinct(unlike))
            + sa.func.count(sa.distinct(versions.c.data_set_digest))
            > 1
        )
        .subquery()
    )
    return _counted(connection, several)


def _changed(connection: sa.Connection, present: sa.ColumnElement[bool]) -> Mapping[int, int]:
    """Count, by study, instances of which other content was backed up, and this nowhere."""
    own, other, others_holdings = holdings.alias(), versions.alias(), holdings.alias()
    is_held = sa.exists().where(own.c.version_id == versions.c.id, own.c.level >= Level.PRESENT)
    other_is_there = (
        sa.exists()
        .where(
            other.c.instance_id == versions.c.instance_id,
            other.c.id != versions.c.id,
            sa.or_(
                versions.c.data_set_digest.is_(None),
                other.c.data_set_digest.is_(None),
                other.c.data_set_digest != versions.c.data_set_digest,
            ),
            others_holdings.c.version_id == other.c.id,
            others_holdings.c.level >= Level.SENT,
        )
        .correlate(versions)
    )
    changed = (
        sa.select(entries.c.study_id, versions.c.instance_id)
        .join(versions, versions.c.id == entries.c.version_id)
        .where(present, ~is_held, other_is_there)
        .distinct()
        .subquery()
    )
    return _counted(connection, changed)


def _counted(connection: sa.Connection, found: sa.Subquery) -> Mapping[int, int]:
    query = sa.select(found.c.study_id, sa.func.count().label("n")).group_by(found.c.study_id)
    return {row.study_id: row.n for row in connection.execute(query)}


def _copies(
    connection: sa.Connection, source_id: SourceId, present: sa.ColumnElement[bool]
) -> Mapping[int, tuple[CopyFacts, ...]]:
    """Sum up, by study, what each destination of the source holds at which level."""
    used = connection.execute(
        sa.select(destinations)
        .where(
            destinations.c.id.in_(
                sa.select(run_destinations.c.destination_id)
                .join(runs, runs.c.id == run_destinations.c.run_id)
                .where(runs.c.source_id == source_id)
            )
        )
        .order_by(destinations.c.id)
    ).all()
    found: dict[int, tuple[CopyFacts, ...]] = defaultdict(tuple)
    for destination in used:
        parts: dict[int, list[HeldPart]] = defaultdict(list)
        for row in _parts(connection, destination, present):
            level = Level(row.level)
            parts[row.study_id].append(HeldPart(level, row.instances, row.oldest, row.newest))
        for study_id, some in parts.items():
            found[study_id] += (CopyFacts(destination.name, tuple(some)),)
    return found


def _parts(
    connection: sa.Connection, destination: Any, present: sa.ColumnElement[bool]
) -> Sequence[Any]:
    there = (
        sa.select(entries.c.study_id, version_there(destination.id).label("version_id"))
        .join(versions, versions.c.id == entries.c.version_id)
        .where(present)
        .distinct()
        .subquery()
    )
    level: sa.ColumnElement[int] = sa.func.coalesce(holdings.c.level, 0)
    if not destination.keeps_versions:
        level = sa.case((_may_be_another(destination.id), Level.SENT.value), else_=level)
    copies = (
        sa.select(
            there.c.study_id,
            level.label("level"),
            holdings.c.verified_at,
            sa.func.coalesce(holdings.c.received_at, holdings.c.verified_at, type_=Moment).label(
                "stored_at"
            ),
        )
        .select_from(
            there.outerjoin(
                holdings,
                sa.and_(
                    holdings.c.version_id == there.c.version_id,
                    holdings.c.destination_id == destination.id,
                ),
            )
        )
        .subquery()
    )
    is_held = copies.c.level >= Level.PRESENT
    query = (
        sa.select(
            copies.c.study_id,
            copies.c.level,
            sa.func.count().label("instances"),
            # Unless every one of them has evidence, none is the oldest.
            sa.case(
                (
                    sa.func.count(sa.case((is_held, copies.c.verified_at))) == sa.func.count(),
                    sa.func.min(copies.c.verified_at),
                ),
                else_=None,
            ).label("oldest"),
            sa.func.max(copies.c.stored_at, type_=Moment).label("newest"),
        )
        .group_by(copies.c.study_id, copies.c.level)
        .order_by(copies.c.study_id, copies.c.level)
    )
    return connection.execute(query).all()


def _may_be_another(destination_id: int) -> sa.ColumnElement[bool]:
    """Say of a holding that its evidence may be of other content under the same identity.

    Where there is one place for each identity and other content was sent to it, too, a name in a
    list or a commitment does not tell which of them is there: a PACS may keep the first and say
    yes to the second. Only reading it back does, unless the other came or was seen since.
    """
    own, other, others_holdings = versions.alias(), versions.alias(), holdings.alias()
    differs = sa.or_(
        own.c.data_set_digest.is_(None),
        other.c.data_set_digest.is_(None),
        own.c.data_set_digest != other.c.data_set_digest,
    )
    is_newer = sa.or_(
        others_holdings.c.received_at >= holdings.c.verified_at,
        others_holdings.c.proven_at >= holdings.c.verified_at,
    )
    return sa.and_(
        holdings.c.level > Level.SENT,
        sa.exists()
        .where(
            own.c.id == holdings.c.version_id,
            other.c.instance_id == own.c.instance_id,
            other.c.id != own.c.id,
            differs,
            others_holdings.c.version_id == other.c.id,
            # Not by the key of holdings: SQLite would walk all of the destination for each.
            others_holdings.c.destination_id + 0 == destination_id,
            others_holdings.c.level >= Level.SENT,
            sa.or_(holdings.c.level < Level.PROVEN, is_newer),
        )
        .correlate(holdings),
    )


def _modalities(
    connection: sa.Connection, listed: sa.ColumnElement[bool]
) -> Mapping[int, list[str]]:
    found: dict[int, list[str]] = defaultdict(list)
    of_page = sa.select(entries.c.study_id).where(listed)
    query = (
        sa.select(series.c.study_id, series.c.modality)
        .distinct()
        .where(series.c.study_id.in_(of_page), series.c.modality != "")
        .order_by(series.c.study_id, series.c.modality)
    )
    for row in connection.execute(query):
        found[row.study_id].append(row.modality)
    return found
