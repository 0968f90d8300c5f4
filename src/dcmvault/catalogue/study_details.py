"""One study of the catalogue: its series, the ledger of its instances, its snapshots."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from dcmvault.catalogue.bulk import among
from dcmvault.catalogue.database import Database
from dcmvault.catalogue.rows import entry_of
from dcmvault.catalogue.study_questions import lines_of
from dcmvault.catalogue.study_reports import coercions_of
from dcmvault.catalogue.study_timeline import timeline_of
from dcmvault.catalogue.tables import (
    EntryState,
    HoldingState,
    destinations,
    entries,
    holdings,
    instances,
    items,
    jobs,
    kinds,
    run_destinations,
    runs,
    series,
    snapshots,
    sources,
    studies,
    versions,
)
from dcmvault.model.evidence import Level
from dcmvault.model.report import AttributeCoercion
from dcmvault.model.study_detail import (
    CopyLine,
    LedgerLine,
    LedgerPage,
    LedgerPlace,
    Picture,
    SeriesLine,
    SnapshotLine,
    StudyDetail,
    TimelineEvent,
)

_MOST_SNAPSHOTS = 100


@dataclass(frozen=True, slots=True)
class StudyDetailsInDatabase:
    """Implements `ports.study_details.StudyDetails`."""

    database: Database

    def detail(self, study_instance_uid: str) -> StudyDetail | None:
        """Return a study; None for one that is unknown or was not counted yet."""
        with self.database.read() as connection:
            study = connection.execute(
                sa.select(studies).where(studies.c.study_instance_uid == study_instance_uid)
            ).one_or_none()
            lines = [] if study is None else lines_of(connection, [study.id])
            if study is None or not lines:
                return None
            coerced = _coercions(connection, study.id, lines[0].copies)
            return StudyDetail(
                line=lines[0],
                patient_birth_date=study.patient_birth_date,
                patient_sex=study.patient_sex,
                study_time=study.study_time,
                institution_name=study.institution_name,
                series=tuple(_series(connection, study.id)),
                snapshots=tuple(_snapshots(connection, study.id)),
                coercions={name: listed for name, (listed, _left_out) in coerced.items()},
                coercions_left_out={
                    name: left_out for name, (_listed, left_out) in coerced.items()
                },
            )

    def ledger(
        self,
        study_instance_uid: str,
        *,
        series_instance_uid: str = "",
        problems_only: bool = False,
        after: LedgerPlace | None = None,
        limit: int = 100,
    ) -> LedgerPage:
        """Return some instances, of one series or all, with what is known of each copy."""
        query = (
            sa.select(
                instances.c.id,
                instances.c.series_id,
                instances.c.sop_instance_uid,
                series.c.series_instance_uid,
            )
            .join(series, series.c.id == instances.c.series_id)
            .join(studies, studies.c.id == series.c.study_id)
            .where(studies.c.study_instance_uid == study_instance_uid)
            .order_by(instances.c.series_id, instances.c.id)
            .limit(limit + 1)
        )
        if series_instance_uid:
            query = query.where(series.c.series_instance_uid == series_instance_uid)
        if problems_only:
            query = query.where(_has_problems())
        if after is not None:
            here = sa.tuple_(instances.c.series_id, instances.c.id)
            query = query.where(here > (after.series_key, after.instance_key))
        with self.database.read() as connection:
            found = connection.execute(query).all()
            rows, more = found[:limit], len(found) > limit
            lines = _ledger(connection, {row.id: row for row in rows})
        last = LedgerPlace(rows[-1].series_id, rows[-1].id) if more else None
        return LedgerPage(tuple(lines), last)

    def picture(self, study_instance_uid: str, series_instance_uid: str) -> Picture | None:
        """Choose the instance that stands for a series: the middle one, in its newest content."""
        of_series = (
            sa.select(instances.c.id)
            .join(series, series.c.id == instances.c.series_id)
            .join(studies, studies.c.id == series.c.study_id)
            .where(
                studies.c.study_instance_uid == study_instance_uid,
                series.c.series_instance_uid == series_instance_uid,
            )
        )
        with self.database.read() as connection:
            count = connection.scalar(sa.select(sa.func.count()).select_from(of_series.subquery()))
            middle = of_series.order_by(instances.c.id).offset(int(count or 0) // 2).limit(1)
            version = connection.execute(
                sa.select(versions, instances.c.sop_instance_uid)
                .join(instances, instances.c.id == versions.c.instance_id)
                .where(instances.c.id == middle.scalar_subquery())
                .order_by(versions.c.id.desc())
                .limit(1)
            ).one_or_none()
            return None if version is None else _picture(connection, version)

    def timeline(self, study_instance_uid: str, limit: int = 200) -> list[TimelineEvent]:
        """List what happened, newest first."""
        with self.database.read() as connection:
            return timeline_of(connection, study_instance_uid)[:limit]


def _picture(connection: sa.Connection, version: Any) -> Picture:
    originals = (
        sa.select(entries, sources.c.name)
        .join(sources, sources.c.id == entries.c.source_id)
        .where(entries.c.version_id == version.id, entries.c.state == EntryState.PRESENT)
        .order_by(entries.c.id)
    )
    copies = (
        sa.select(destinations.c.name)
        .join(holdings, holdings.c.destination_id == destinations.c.id)
        .where(holdings.c.version_id == version.id, holdings.c.level >= Level.SENT.value)
        .order_by(destinations.c.id)
    )
    return Picture(
        version.sop_instance_uid,
        version.file_sha256 or b"",
        version.size,
        tuple((row.name, entry_of(row)) for row in connection.execute(originals)),
        tuple(connection.scalars(copies)),
    )


def _series(connection: sa.Connection, study_id: int) -> list[SeriesLine]:
    query = (
        sa.select(
            series.c.series_instance_uid,
            series.c.modality,
            series.c.series_number,
            series.c.series_description,
            series.c.body_part_examined,
            sa.func.count(instances.c.id.distinct()).label("instances"),
            sa.func.coalesce(sa.func.sum(versions.c.size), 0).label("bytes"),
        )
        .outerjoin(instances, instances.c.series_id == series.c.id)
        .outerjoin(versions, versions.c.instance_id == instances.c.id)
        .where(series.c.study_id == study_id)
        .group_by(series.c.id)
    )
    found = [
        SeriesLine(
            row.series_instance_uid,
            row.modality,
            row.series_number,
            row.series_description,
            row.body_part_examined,
            row.instances,
            int(row.bytes),
        )
        for row in connection.execute(query)
    ]
    return sorted(found, key=_by_number)


def _by_number(line: SeriesLine) -> tuple[int, str]:
    text = line.series_number.strip()
    is_number = text.isascii() and text.isdecimal() and len(text) < 16
    return (int(text) if is_number else 1 << 60, line.series_instance_uid)


def _of_study(study_id: int) -> sa.Select[Any]:
    return (
        sa.select(versions.c.id)
        .join(instances, instances.c.id == versions.c.instance_id)
        .join(series, series.c.id == instances.c.series_id)
        .where(series.c.study_id == study_id)
    )


def _snapshots(connection: sa.Connection, study_id: int) -> list[SnapshotLine]:
    brought = (
        sa.select(holdings.c.destination_id, holdings.c.receipt_run_id)
        .distinct()
        .where(
            holdings.c.version_id.in_(_of_study(study_id)),
            holdings.c.level >= Level.SENT.value,
            holdings.c.receipt_run_id.is_not(None),
        )
        .subquery()
    )
    query = (
        sa.select(snapshots, destinations.c.name, runs.c.run_id.label("run"))
        .join(
            brought,
            sa.and_(
                brought.c.destination_id == snapshots.c.destination_id,
                brought.c.receipt_run_id == snapshots.c.run_id,
            ),
        )
        .join(destinations, destinations.c.id == snapshots.c.destination_id)
        .join(runs, runs.c.id == snapshots.c.run_id)
        .order_by(snapshots.c.created_at.desc(), snapshots.c.snapshot_id)
        .limit(_MOST_SNAPSHOTS)
    )
    return [
        SnapshotLine(row.name, row.snapshot_id, row.generation, row.created_at, row.run)
        for row in connection.execute(query)
    ]


def _coercions(
    connection: sa.Connection, study_id: int, copies: Mapping[str, Any]
) -> dict[str, tuple[tuple[AttributeCoercion, ...], int]]:
    names = [name for name, copy in copies.items() if copy.coerced]
    if not names:
        return {}
    found = connection.execute(
        sa.select(destinations.c.id, destinations.c.name).where(destinations.c.name.in_(names))
    )
    return {row.name: coercions_of(connection, study_id, row.id) for row in found}


def _has_problems() -> sa.ColumnElement[bool]:
    own = versions.alias("own")
    of_own = sa.and_(holdings.c.version_id == own.c.id, own.c.instance_id == instances.c.id)
    copies = sa.exists().where(of_own).correlate(instances)
    return sa.or_(~copies, copies.where(holdings.c.state != HoldingState.HELD))


def _ledger(connection: sa.Connection, of_instances: Mapping[int, Any]) -> list[LedgerLine]:
    if not of_instances:
        return []
    present = sa.exists().where(
        entries.c.version_id == versions.c.id, entries.c.state == EntryState.PRESENT
    )
    query = (
        sa.select(
            versions,
            kinds.c.sop_class_uid,
            kinds.c.transfer_syntax_uid,
            present.label("is_present"),
        )
        .outerjoin(kinds, kinds.c.id == versions.c.kind_id)
        .where(among(connection, versions.c.instance_id, list(of_instances)))
        .order_by(versions.c.id)
    )
    rows = connection.execute(query).all()
    copies = _copies(connection, [row.id for row in rows])
    place = {key: number for number, key in enumerate(of_instances)}
    return [
        LedgerLine(
            of_instances[row.instance_id].series_instance_uid,
            of_instances[row.instance_id].sop_instance_uid,
            row.sop_class_uid or "",
            row.transfer_syntax_uid or "",
            row.instance_number,
            row.size,
            (row.file_sha256 or b"").hex(),
            bool(row.is_present),
            tuple(copies[row.id]),
        )
        for row in sorted(rows, key=lambda row: (place[row.instance_id], row.id))
    ]


def _copies(connection: sa.Connection, version_ids: Sequence[int]) -> dict[int, list[CopyLine]]:
    attempts = _last_attempts(connection, version_ids)
    names = {row.id: row.name for row in connection.execute(sa.select(destinations))}
    query = (
        sa.select(holdings, runs.c.run_id)
        .outerjoin(runs, runs.c.id == holdings.c.receipt_run_id)
        .where(among(connection, holdings.c.version_id, version_ids))
    )
    found: dict[int, dict[int, CopyLine]] = defaultdict(dict)
    for row in connection.execute(query):
        last = attempts.pop((row.version_id, row.destination_id), None)
        found[row.version_id][row.destination_id] = CopyLine(
            names[row.destination_id],
            row.state.value,
            Level(row.level),
            row.coerced,
            row.status,
            row.warning,
            code="" if last is None else last.code,
            message="" if last is None else last.message,
            hint="" if last is None else last.hint,
            received_at=row.received_at,
            verified_at=row.verified_at,
            run_id=row.run_id or ("" if last is None else last.run_id),
        )
    for (version_id, destination_id), last in attempts.items():
        found[version_id][destination_id] = CopyLine(
            names[destination_id],
            "",
            Level.NONE,
            status=last.status,
            code=last.code,
            message=last.message,
            hint=last.hint,
            run_id=last.run_id,
        )
    return defaultdict(
        list, {key: [some[place] for place in sorted(some)] for key, some in found.items()}
    )


def _last_attempts(
    connection: sa.Connection, version_ids: Collection[int]
) -> dict[tuple[int, int], Any]:
    """Return the newest item of each version at each destination."""
    newest = (
        sa.select(sa.func.max(items.c.id))
        .join(jobs, jobs.c.id == items.c.job_id)
        .join(run_destinations, run_destinations.c.id == jobs.c.run_destination_id)
        .where(among(connection, items.c.version_id, version_ids))
        .group_by(items.c.version_id, run_destinations.c.destination_id)
    )
    query = (
        sa.select(items, run_destinations.c.destination_id, runs.c.run_id)
        .join(jobs, jobs.c.id == items.c.job_id)
        .join(run_destinations, run_destinations.c.id == jobs.c.run_destination_id)
        .join(runs, runs.c.id == run_destinations.c.run_id)
        .where(items.c.id.in_(newest))
    )
    return {(row.version_id, row.destination_id): row for row in connection.execute(query)}
