"""What is asked about a source at a destination, and which studies have anything due there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from dcmvault.catalogue.excluded import is_wanted
from dcmvault.catalogue.siblings import replaced_versions
from dcmvault.catalogue.tables import (
    EntryState,
    entries,
    holdings,
    instances,
    items,
    jobs,
    series,
    studies,
    versions,
)
from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import DestinationId, SourceId
from dcmvault.model.selection import EVERYTHING, NO_STUDY, Selection


@dataclass(frozen=True, slots=True)
class DueQuestion:
    """What is asked about the present versions of a source at a destination."""

    source_id: SourceId
    destination_id: DestinationId
    #: Versions held at this level are not due by themselves.
    level: Level
    #: Reason given for held versions that are due all the same: full | differential, or empty.
    held_reason: str = ""
    #: Held versions newer than this are due if `held_reason` is set.
    held_after: int = 0
    #: The run at this destination whose items are left out.
    run_destination_id: int | None = None
    #: Every present version is listed.
    everything: bool = False
    #: Every content is due, whatever another one says.
    keeps_versions: bool = True
    #: The part of the source that is meant.
    selection: Selection = EVERYTHING
    #: Ascending keys of the studies that are looked at, 0 for opaque files; None: all.
    study_keys: tuple[int, ...] | None = None


def everything_of(
    source_id: SourceId,
    destination_id: DestinationId,
    *,
    keeps_versions: bool,
    study_keys: tuple[int, ...] | None = None,
) -> DueQuestion:
    """Ask for every present version, whatever is held, of all studies or of some."""
    return DueQuestion(
        source_id,
        destination_id,
        Level.PROVEN,
        everything=True,
        keeps_versions=keeps_versions,
        study_keys=study_keys,
    )


def due_study_keys(connection: sa.Connection, question: DueQuestion) -> list[int]:
    """List the studies with anything that seems due, ascending; 0 for opaque files.

    It is not looked for equal contents that stand for what seems due.
    """
    key = sa.func.coalesce(entries.c.study_id, 0)
    query = (
        sa.select(key)
        .distinct()
        .select_from(entries)
        .where(
            entries.c.state == EntryState.PRESENT,
            entries.c.source_id == question.source_id,
            entries.c.version_id.is_not(None),
        )
    )
    if not question.selection.is_whole:
        query = (
            query.join(versions, versions.c.id == entries.c.version_id)
            .outerjoin(instances, instances.c.id == versions.c.instance_id)
            .outerjoin(series, series.c.id == instances.c.series_id)
            .outerjoin(studies, studies.c.id == series.c.study_id)
            .where(is_selected(question.selection))
        )
    held = sa.and_(
        holdings.c.version_id == entries.c.version_id,
        holdings.c.destination_id == question.destination_id,
    )
    level = sa.func.coalesce(holdings.c.level, 0)
    found = set(
        connection.scalars(
            what_is_due(question, query.outerjoin(holdings, held), level, entries.c.version_id)
        )
    )
    if not question.keeps_versions:
        # By itself, so that neither question is put for each row of the other.
        replaced = replaced_versions(question.destination_id).subquery()
        query = query.join(replaced, replaced.c.id == entries.c.version_id)
        none = sa.literal(Level.NONE.value)
        found.update(connection.scalars(what_is_due(question, query, none, entries.c.version_id)))
    return sorted(found)


def is_selected(selection: Selection) -> sa.ColumnElement[bool]:
    """Say, of rows with their study and series, whether they are meant."""
    conditions: list[sa.ColumnElement[bool]] = []
    if selection.studies or selection.series:
        # Of files that are no instances there is neither a study nor a series.
        named = sa.func.coalesce(studies.c.study_instance_uid, NO_STUDY)
        conditions.append(
            sa.or_(named.in_(selection.studies), series.c.series_instance_uid.in_(selection.series))
        )
    if selection.patients:
        conditions.append(studies.c.patient_id.in_(selection.patients))
    if selection.accessions:
        conditions.append(studies.c.accession_number.in_(selection.accessions))
    date = sa.func.replace(studies.c.study_date, ".", "")  # as ACR-NEMA wrote them
    if selection.first_date:
        conditions.append(date >= selection.first_date)
    if selection.last_date:
        conditions.append(sa.and_(date != "", date <= selection.last_date))
    return sa.and_(sa.true(), *conditions)


def what_is_due(
    question: DueQuestion,
    query: sa.Select[Any],
    level: sa.ColumnElement[Any],
    version_id: sa.ColumnElement[int],
) -> sa.Select[Any]:
    """Restrict a query over entries to what is asked for, by the level at which each is held."""
    wanted = is_wanted(entries.c.study_id)
    if question.everything:
        # What is left out is not looked for, but where there is, or was, a copy.
        query = query.where(sa.or_(wanted, holdings.c.version_id.is_not(None)))
    else:
        due = level < question.level
        if question.held_reason:
            due = sa.or_(due, version_id > question.held_after)
        query = query.where(due, wanted)
    if question.run_destination_id is not None:
        query = query.where(
            ~sa.exists().where(
                items.c.version_id == version_id,
                items.c.job_id == jobs.c.id,
                jobs.c.run_destination_id == question.run_destination_id,
            )
        )
    return query
