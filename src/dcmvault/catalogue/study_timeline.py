"""What happened to a study, as far as the catalogue still knows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from dcmvault.catalogue.tables import (
    HoldingState,
    Moment,
    destinations,
    drilled_studies,
    drills,
    evidence,
    holdings,
    instances,
    runs,
    series,
    studies,
    versions,
)
from dcmvault.model.evidence import Level
from dcmvault.model.plan import RunKind
from dcmvault.model.study_detail import TimelineEvent, TimelineKind

_REFUTED = (HoldingState.MISSING, HoldingState.DAMAGED)


def timeline_of(connection: sa.Connection, study_instance_uid: str) -> list[TimelineEvent]:
    """List events, newest first; what one run did at one destination is one of them."""
    study_id = connection.scalar(
        sa.select(studies.c.id).where(studies.c.study_instance_uid == study_instance_uid)
    )
    found = list(_drills(connection, study_instance_uid))
    if study_id is not None:
        for some in (_seen, _copies, _verified):
            found += some(connection, study_id)
    return sorted(found, key=lambda event: (event.at, event.kind, event.destination), reverse=True)


def _versions_of(study_id: int) -> sa.FromClause:
    return (
        sa.select(versions.c.id, versions.c.first_run_id)
        .join(instances, instances.c.id == versions.c.instance_id)
        .join(series, series.c.id == instances.c.series_id)
        .where(series.c.study_id == study_id)
        .subquery()
    )


def _seen(connection: sa.Connection, study_id: int) -> Iterator[TimelineEvent]:
    own = _versions_of(study_id)
    query = (
        sa.select(runs.c.run_id, runs.c.created_at, sa.func.count().label("instances"))
        .join(own, own.c.first_run_id == runs.c.id)
        .group_by(runs.c.id, runs.c.run_id, runs.c.created_at)
    )
    for row in connection.execute(query):
        yield TimelineEvent(
            row.created_at, TimelineKind.SEEN, run_id=row.run_id, instances=row.instances
        )


def _copies(connection: sa.Connection, study_id: int) -> Iterator[TimelineEvent]:
    own = _versions_of(study_id)
    is_refuted = holdings.c.state.in_(_REFUTED)
    query = (
        sa.select(
            destinations.c.name,
            runs.c.run_id,
            runs.c.kind,
            sa.func.max(holdings.c.received_at, type_=Moment).label("received_at"),
            sa.func.count(holdings.c.received_at).label("received"),
            sa.func.max(sa.case((is_refuted, holdings.c.verified_at)), type_=Moment).label(
                "refuted_at"
            ),
            sa.func.count(sa.case((is_refuted, 1))).label("refuted"),
        )
        .select_from(holdings)
        .join(own, own.c.id == holdings.c.version_id)
        .join(destinations, destinations.c.id == holdings.c.destination_id)
        .outerjoin(runs, runs.c.id == holdings.c.receipt_run_id)
        .group_by(destinations.c.name, runs.c.id, runs.c.run_id, runs.c.kind)
    )
    for row in connection.execute(query):
        run_id = row.run_id or ""
        if row.received_at is not None:
            kind = TimelineKind.DELIVERED
            if row.kind == RunKind.RESTORE.value:
                kind = TimelineKind.RESTORED
            yield TimelineEvent(
                row.received_at, kind, row.name, run_id, Level.SENT, instances=row.received
            )
        if row.refuted_at is not None:
            yield TimelineEvent(
                row.refuted_at, TimelineKind.REFUTED, row.name, not_held=row.refuted
            )


def _verified(connection: sa.Connection, study_id: int) -> Iterator[TimelineEvent]:
    query = (
        sa.select(
            destinations.c.name,
            runs.c.run_id,
            evidence.c.level,
            sa.func.max(evidence.c.observed_at, type_=Moment).label("at"),
            sa.func.sum(evidence.c.held).label("held"),
            sa.func.sum(evidence.c.not_held).label("not_held"),
        )
        .join(destinations, destinations.c.id == evidence.c.destination_id)
        .join(runs, runs.c.id == evidence.c.run_id)
        .where(evidence.c.study_id == study_id)
        .group_by(destinations.c.name, runs.c.id, runs.c.run_id, evidence.c.level)
    )
    for row in connection.execute(query):
        yield TimelineEvent(
            row.at,
            TimelineKind.VERIFIED,
            row.name,
            row.run_id,
            Level(row.level),
            instances=int(row.held),
            not_held=int(row.not_held),
        )


def _drills(connection: sa.Connection, study_instance_uid: str) -> Iterator[TimelineEvent]:
    query: sa.Select[Any] = (
        sa.select(drills.c.place, drills.c.drilled_at, drilled_studies)
        .join(drills, drills.c.id == drilled_studies.c.drill_id)
        .where(drilled_studies.c.study_instance_uid == study_instance_uid)
    )
    for row in connection.execute(query):
        yield TimelineEvent(
            row.drilled_at,
            TimelineKind.DRILLED,
            row.place,
            level=Level.NONE if row.problem else Level.PROVEN,
            instances=row.files,
            problem=row.problem,
        )
