"""What a place is believed to hold, whether it is backed up to or from: what a drill asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from dcmvault.catalogue.rows import entry_of
from dcmvault.catalogue.siblings import was_replaced
from dcmvault.catalogue.tables import (
    EntryState,
    destinations,
    entries,
    holdings,
    instances,
    series,
    sources,
    studies,
    versions,
)
from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import VersionId
from dcmvault.model.instance import InstanceEntry, InstanceIdentity
from dcmvault.ports.restores import KnownCopy, KnownStudy


def known_studies(connection: sa.Connection, place: str) -> list[KnownStudy]:
    """List the studies of which a place is believed to hold something, by UID."""
    held = _held_at(connection, place)
    if held is None:
        return []
    query = (
        sa.select(
            studies.c.study_instance_uid,
            sa.func.count(),
            sa.func.sum(versions.c.size),
            studies.c.patient_id,
            studies.c.accession_number,
            studies.c.study_date,
        )
        .select_from(_with_identities(held))
        .group_by(studies.c.id)
        .order_by(studies.c.study_instance_uid)
    )
    return [
        KnownStudy(uid, count, int(size or 0), *about)
        for uid, count, size, *about in connection.execute(query)
    ]


def known_copies(connection: sa.Connection, place: str, study_instance_uid: str) -> list[KnownCopy]:
    """List what a place is believed to hold of a study."""
    to = _destination(connection, place)
    if to is not None:
        copies = _copies_at(connection, to, study_instance_uid)
        if copies or _holds_anything(connection, to):
            return copies
    origin = _source(connection, place)
    if origin is None:
        return []
    listed = _listed_by(entries.c.source_id + 0 == origin)
    return _known(study_instance_uid, _copies(connection, listed, study_instance_uid))


def _copies_at(
    connection: sa.Connection, destination: Any, study_instance_uid: str
) -> list[KnownCopy]:
    # By version: SQLite would walk all of the place by its key.
    here = holdings.c.destination_id + 0 == destination.id
    if not destination.keeps_versions:
        # What replaced another is there, too: seldom is there more than one of an instance.
        sent = _of_level(Level.SENT).where(here).subquery()
        rows = _copies(connection, sent, study_instance_uid, sent.c.level)
        if len({row.sop_instance_uid for row in rows}) == len(rows):
            present = [row for row in rows if row.level >= Level.PRESENT]
            return _known(study_instance_uid, present)
    held = _held_by(destination).where(here).subquery()
    return _known(study_instance_uid, _copies(connection, held, study_instance_uid))


def _copies(
    connection: sa.Connection,
    held: sa.Subquery,
    study_instance_uid: str,
    *more: sa.ColumnElement[Any],
) -> Sequence[Any]:
    query = (
        sa.select(
            held.c.version_id,
            held.c.locator,
            versions.c.size,
            versions.c.file_sha256,
            series.c.series_instance_uid,
            instances.c.sop_instance_uid,
            *more,
        )
        .select_from(_with_identities(held))
        .where(studies.c.study_instance_uid == study_instance_uid)
        .order_by(instances.c.sop_instance_uid, held.c.version_id)
    )
    return connection.execute(query).all()


def _known(study_instance_uid: str, rows: Sequence[Any]) -> list[KnownCopy]:
    return [
        KnownCopy(
            VersionId(row.version_id),
            InstanceIdentity(study_instance_uid, row.series_instance_uid, row.sop_instance_uid),
            row.size,
            row.file_sha256 or b"",
            row.locator,
        )
        for row in rows
    ]


def originals(
    connection: sa.Connection, version_id: VersionId, place: str
) -> list[tuple[str, InstanceEntry]]:
    """Return the sources that have a version now, but for the place itself, and their entries."""
    query = (
        sa.select(entries, sources.c.name)
        .join(sources, sources.c.id == entries.c.source_id)
        .where(
            entries.c.version_id == version_id,
            entries.c.state == EntryState.PRESENT,
            sources.c.name != place,
        )
        .order_by(entries.c.id)
    )
    return [(row.name, entry_of(row)) for row in connection.execute(query)]


def _held_at(connection: sa.Connection, place: str) -> sa.Subquery | None:
    """Return versions with the place's names of them; None for a place that is not known."""
    to = _destination(connection, place)
    if to is not None and _holds_anything(connection, to):
        return _held_by(to).where(holdings.c.destination_id == to.id).subquery()
    origin = _source(connection, place)
    return None if origin is None else _listed_by(entries.c.source_id == origin)


def _destination(connection: sa.Connection, place: str) -> Any:
    query = sa.select(destinations.c.id, destinations.c.keeps_versions)
    return connection.execute(query.where(destinations.c.name == place)).one_or_none()


def _source(connection: sa.Connection, place: str) -> int | None:
    return connection.scalar(sa.select(sources.c.id).where(sources.c.name == place))


def _held_by(destination: Any) -> sa.Select[tuple[int, str, Level]]:
    held = _of_level(Level.PRESENT)
    return held if destination.keeps_versions else held.where(~was_replaced(destination.id))


def _of_level(level: Level) -> sa.Select[tuple[int, str, Level]]:
    return sa.select(
        holdings.c.version_id, holdings.c.object_key.label("locator"), holdings.c.level
    ).where(holdings.c.level >= level.value)


def _holds_anything(connection: sa.Connection, destination: Any) -> bool:
    here = _held_by(destination).where(holdings.c.destination_id == destination.id)
    return bool(connection.scalar(sa.select(here.exists())))


def _listed_by(is_listed: sa.ColumnElement[bool]) -> sa.Subquery:
    return (
        sa.select(entries.c.version_id, entries.c.locator)
        .where(is_listed, entries.c.state == EntryState.PRESENT)
        .subquery()
    )


def _with_identities(held: sa.Subquery) -> sa.FromClause:
    return (
        sa.join(held, versions, versions.c.id == held.c.version_id)
        .join(instances, instances.c.id == versions.c.instance_id)
        .join(series, series.c.id == instances.c.series_id)
        .join(studies, studies.c.id == series.c.study_id)
    )
