"""What a place is believed to hold, whether it is backed up to or from: what a drill asks for."""

from __future__ import annotations

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
    held = _held_at(connection, place, of_study=True)
    if held is None:
        return []
    query = (
        sa.select(
            held.c.version_id,
            held.c.locator,
            versions.c.size,
            versions.c.file_sha256,
            series.c.series_instance_uid,
            instances.c.sop_instance_uid,
        )
        .select_from(_with_identities(held))
        .where(studies.c.study_instance_uid == study_instance_uid)
        .order_by(instances.c.sop_instance_uid, held.c.version_id)
    )
    return [
        KnownCopy(
            VersionId(row.version_id),
            InstanceIdentity(study_instance_uid, row.series_instance_uid, row.sop_instance_uid),
            row.size,
            row.file_sha256 or b"",
            row.locator,
        )
        for row in connection.execute(query)
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


def _held_at(
    connection: sa.Connection, place: str, *, of_study: bool = False
) -> sa.Subquery | None:
    """Return versions with the place's names of them; None for a place that is not known.

    Where one study is asked about (`of_study`), what is held is looked up by version: SQLite would
    walk all of the place by its key.
    """
    to = connection.scalar(sa.select(destinations.c.id).where(destinations.c.name == place))
    if to is not None:
        held = sa.select(holdings.c.version_id, holdings.c.object_key.label("locator")).where(
            holdings.c.level >= Level.PRESENT.value, ~was_replaced(to)
        )
        here = held.where(holdings.c.destination_id == to)
        if connection.scalar(sa.select(here.exists())):
            if of_study:
                here = held.where(holdings.c.destination_id + 0 == to)
            return here.subquery()
    origin = connection.scalar(sa.select(sources.c.id).where(sources.c.name == place))
    if origin is None:
        return None
    return (
        sa.select(entries.c.version_id, entries.c.locator)
        .where(
            (entries.c.source_id + 0 if of_study else entries.c.source_id) == origin,
            entries.c.state == EntryState.PRESENT,
        )
        .subquery()
    )


def _with_identities(held: sa.Subquery) -> sa.FromClause:
    return (
        sa.join(held, versions, versions.c.id == held.c.version_id)
        .join(instances, instances.c.id == versions.c.instance_id)
        .join(series, series.c.id == instances.c.series_id)
        .join(studies, studies.c.id == series.c.study_id)
    )
