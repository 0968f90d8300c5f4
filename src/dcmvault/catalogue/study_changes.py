"""Noting that what is counted of studies no longer holds."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from dcmvault.catalogue.matrix_tables import study_changes
from dcmvault.catalogue.tables import entries, instances, series, studies, versions


def note_studies(connection: sa.Connection, study_ids: Collection[int | None]) -> None:
    """Note that something of these studies changes in this transaction; None is left out."""
    rows = [{"study_id": key} for key in sorted({key for key in study_ids if key is not None})]
    if rows:
        connection.execute(sa.insert(study_changes), rows)


def note_study(connection: sa.Connection, study_instance_uid: str) -> None:
    """Note that something of a study changes; the empty UID is that of no study."""
    if study_instance_uid:
        note_selected(
            connection,
            sa.select(studies.c.id).where(studies.c.study_instance_uid == study_instance_uid),
        )


def note_entries(connection: sa.Connection, entry_ids: Sequence[int]) -> None:
    """Note that something of the studies of some entries (at most some hundred) changes."""
    note_selected(
        connection,
        sa.select(entries.c.study_id)
        .distinct()
        .where(entries.c.id.in_(entry_ids), entries.c.study_id.is_not(None)),
    )


def note_versions(connection: sa.Connection, of_versions: sa.ColumnElement[bool]) -> None:
    """Note that something of the studies of some versions changes."""
    note_selected(
        connection,
        sa.select(series.c.study_id)
        .distinct()
        .join(instances, instances.c.series_id == series.c.id)
        .join(versions, versions.c.instance_id == instances.c.id)
        .where(of_versions),
    )


def note_selected(connection: sa.Connection, study_ids: sa.Select[Any]) -> None:
    """Note that something of the studies that a query selects changes."""
    connection.execute(sa.insert(study_changes).from_select(["study_id"], study_ids))
