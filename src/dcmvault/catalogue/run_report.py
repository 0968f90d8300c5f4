"""Assembling the report of a run from what was written down."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from dcmvault import errors
from dcmvault.catalogue import requests
from dcmvault.catalogue.counters import OPEN_STATES, count_of
from dcmvault.catalogue.database import chunks
from dcmvault.catalogue.tables import (
    STATE_COUNTERS,
    EntryState,
    destinations,
    entries,
    holdings,
    instances,
    items,
    jobs,
    run_destinations,
    run_unreadable,
    runs,
    series,
    studies,
    versions,
)
from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import RunId
from dcmvault.model.job import ItemState
from dcmvault.model.report import (
    Counts,
    DestinationReport,
    Failure,
    RunReport,
    RunState,
    StudyReport,
)

#: States that a run never leaves.
ENDED_RUNS = (RunState.FINISHED, RunState.FAILED, RunState.CANCELLED)
#: Exit status of an interrupted command, as shells have it.
_INTERRUPTED = 130
#: Some instances did not reach the asked level.
_NOT_ALL = 3

#: What is said about items whose state explains itself.
_BY_STATE: Mapping[ItemState, tuple[str, str, str]] = {
    ItemState.CONFLICT: (
        "conflict",
        "other content under the same SOP Instance UID has the one place that the peer gives",
        "compare the two files at the source; the one seen first was delivered",
    ),
    ItemState.CANCELLED: ("cancelled", "cancelled before it was delivered", "run it again"),
    ItemState.UNREADABLE: ("unreadable", "the source could not give the file", ""),
    ItemState.FAILED: ("failed", "it did not reach the asked level", ""),
}
_UNFINISHED = ("unfinished", "the run ended before it reached the asked level", "run it again")


def assemble_report(connection: sa.Connection, run: Any, *, studies: bool) -> RunReport:
    """Assemble the report of the run with this row; `studies` asks for its study reports."""
    parts = read_parts(connection, run_destinations.c.run_id == run.id)
    unreadable = connection.execute(
        sa.select(run_unreadable, entries.c.locator)
        .join(entries, entries.c.id == run_unreadable.c.entry_id)
        .where(run_unreadable.c.run_id == run.id)
        .order_by(run_unreadable.c.entry_id)
    ).all()
    ended = run.state in ENDED_RUNS
    reports = tuple(
        destination_report(part, unreadable=len(unreadable), ended=ended) for part in parts
    )
    touched = _touched_studies(connection, [part.id for part in parts])
    return RunReport(
        run_id=RunId(run.run_id),
        request=requests.from_text(run.request),
        state=run.state,
        started_at=run.started_at or run.created_at,
        finished_at=run.finished_at,
        destinations=reports,
        studies=len({uid for uids in touched.values() for uid in uids}),
        not_dicom=run.not_dicom,
        exit_status=_exit_status(run, reports, unreadable=len(unreadable)),
        stages=json.loads(run.stages),
        failures=tuple(_failures(connection, parts, unreadable, ended=ended)),
        warnings=tuple(json.loads(run.warnings)),
        study_reports=tuple(_study_reports(connection, run, parts, touched)) if studies else (),
        error=(
            None if run.error_code is None else (run.error_code, run.error_message, run.error_hint)
        ),
    )


def read_parts(connection: sa.Connection, where: sa.ColumnElement[bool]) -> Sequence[Any]:
    """Read runs' parts at destinations, with name and the run's state, as planned."""
    return connection.execute(
        sa.select(run_destinations, destinations.c.name, runs.c.state)
        .join(destinations, destinations.c.id == run_destinations.c.destination_id)
        .join(runs, runs.c.id == run_destinations.c.run_id)
        .where(where)
        .order_by(run_destinations.c.id)
    ).all()


def count_unreadable(connection: sa.Connection, run_key: int) -> int:
    """Count the entries that the source could not give to a run's pass."""
    found = connection.scalar(
        sa.select(sa.func.count())
        .select_from(run_unreadable)
        .where(run_unreadable.c.run_id == run_key)
    )
    return int(found or 0)


def destination_report(
    part: Any, *, unreadable: int, ended: bool | None = None
) -> DestinationReport:
    """Make the report of one destination's part of a run from its counters.

    What is still open counts as failed once the run has ended.
    """
    if ended is None:
        ended = part.state in ENDED_RUNS
    left = OPEN_STATES if ended else frozenset()
    counts = Counts(
        selected=part.items,
        already_held=part.already_held,
        stored=count_of(part, ItemState.HELD),
        failed=count_of(part, ItemState.FAILED, ItemState.CANCELLED, *left),
        unreadable=count_of(part, ItemState.UNREADABLE) + unreadable,
        conflicts=count_of(part, ItemState.CONFLICT),
    )
    return DestinationReport(
        name=part.name,
        address=part.name,
        level=Level(part.level),
        counts=counts,
        source_bytes=part.bytes,
        transferred_bytes=part.transferred_bytes,
    )


def _exit_status(run: Any, reports: Sequence[DestinationReport], *, unreadable: int) -> int:
    if run.state is RunState.CANCELLED:
        return _INTERRUPTED
    if run.state is RunState.FAILED:
        return _status_by_code().get(run.error_code or "", errors.DcmvaultError.exit_status)
    reached = all(report.counts.stored == report.counts.selected for report in reports)
    return 0 if reached and not unreadable else _NOT_ALL


def _status_by_code() -> dict[str, int]:
    """Map each error code to its exit status."""
    found = {}
    kinds: list[type[errors.DcmvaultError]] = [errors.DcmvaultError]
    while kinds:
        kind = kinds.pop()
        found[kind.code] = kind.exit_status
        kinds += kind.__subclasses__()
    return found


def _touched_studies(
    connection: sa.Connection, parts: Sequence[int]
) -> Mapping[int, Sequence[str]]:
    """List the studies selected, by part of the run; opaque files belong to none."""
    found: dict[int, list[str]] = defaultdict(list)
    query = (
        sa.select(jobs.c.run_destination_id, jobs.c.study_instance_uid)
        .where(jobs.c.run_destination_id.in_(parts), jobs.c.study_instance_uid != "")
        .group_by(jobs.c.run_destination_id, jobs.c.study_instance_uid)
        .order_by(sa.func.min(jobs.c.id))
    )
    for row in connection.execute(query):
        found[row.run_destination_id].append(row.study_instance_uid)
    return found


def _failures(
    connection: sa.Connection, parts: Sequence[Any], unreadable: Sequence[Any], *, ended: bool
) -> Iterator[Failure]:
    wanted = [
        state
        for state in ItemState
        if state is not ItemState.HELD and (ended or state not in OPEN_STATES)
    ]
    some_wanted = sum((jobs.c[STATE_COUNTERS[state]] for state in wanted), sa.literal(0))
    for part in parts:
        query = (
            sa.select(
                items.c.state,
                items.c.code,
                items.c.status,
                items.c.message,
                items.c.hint,
                jobs.c.study_instance_uid,
                instances.c.sop_instance_uid,
                entries.c.locator,
            )
            .select_from(jobs)
            .join(items, items.c.job_id == jobs.c.id)
            .join(entries, entries.c.id == items.c.entry_id)
            .join(versions, versions.c.id == items.c.version_id)
            .outerjoin(instances, instances.c.id == versions.c.instance_id)
            .where(jobs.c.run_destination_id == part.id, some_wanted > 0, items.c.state.in_(wanted))
            .order_by(items.c.id)
        )
        for row in connection.execute(query):
            yield _failure(row, part.name)
        for row in unreadable:
            yield Failure(
                sop_instance_uid="",
                study_instance_uid="",
                destination=part.name,
                code=row.code,
                status="",
                message=row.message,
                locator=row.locator,
            )


def _failure(row: Any, destination: str) -> Failure:
    code, message, hint = _BY_STATE.get(row.state, _UNFINISHED)
    return Failure(
        sop_instance_uid=row.sop_instance_uid or "",
        study_instance_uid=row.study_instance_uid,
        destination=destination,
        code=row.code or code,
        status=row.status,
        message=row.message or message,
        hint=row.hint or hint,
        locator=row.locator,
    )


def _study_reports(
    connection: sa.Connection, run: Any, parts: Sequence[Any], touched: Mapping[int, Sequence[str]]
) -> Iterator[StudyReport]:
    for part in parts:
        for some in chunks(touched.get(part.id, [])):
            yield from _reports_of(connection, run, part, some)


def _reports_of(
    connection: sa.Connection, run: Any, part: Any, uids: Sequence[str]
) -> Iterator[StudyReport]:
    level = sa.func.coalesce(holdings.c.level, 0)
    present = (
        sa.select(entries.c.study_id, entries.c.version_id)
        .distinct()
        .where(entries.c.state == EntryState.PRESENT)
    )
    if run.source_id is not None:
        present = present.where(entries.c.source_id == run.source_id)
    ids = {
        row.id: row
        for row in connection.execute(
            sa.select(studies).where(studies.c.study_instance_uid.in_(uids))
        )
    }
    shown = present.where(entries.c.study_id.in_(ids)).subquery()
    # A claim counts only where nothing but claims was asked for.
    least = Level.SENT if part.level <= Level.SENT else Level.PRESENT
    is_held = level >= least
    evidence = {
        row.study_id: row
        for row in connection.execute(
            sa.select(
                shown.c.study_id,
                sa.func.count().label("instances"),
                sa.func.count(sa.case((is_held, 1))).label("held"),
                sa.func.min(level).label("level"),
                sa.func.min(sa.case((is_held, holdings.c.verified_at))).label("verified_at"),
            )
            .select_from(shown)
            .outerjoin(
                holdings,
                sa.and_(
                    holdings.c.version_id == shown.c.version_id,
                    holdings.c.destination_id == part.destination_id,
                ),
            )
            .group_by(shown.c.study_id)
        )
    }
    modalities = _modalities(connection, list(ids))
    by_uid = {row.study_instance_uid: row for row in ids.values()}
    for uid in uids:
        study = by_uid.get(uid)
        found = None if study is None else evidence.get(study.id)
        if study is None or found is None:
            continue
        yield StudyReport(
            study_instance_uid=uid,
            destination=part.name,
            modalities=", ".join(modalities[study.id]),
            study_date=study.study_date,
            instances=found.instances,
            held=found.held,
            level=Level(found.level) if found.held == found.instances else Level.NONE,
            verified_at=found.verified_at,
            patient_name=study.patient_name,
            patient_id=study.patient_id,
            study_description=study.study_description,
        )


def _modalities(connection: sa.Connection, study_ids: Sequence[int]) -> Mapping[int, list[str]]:
    found: dict[int, list[str]] = defaultdict(list)
    query = (
        sa.select(series.c.study_id, series.c.modality)
        .distinct()
        .where(series.c.study_id.in_(study_ids), series.c.modality != "")
        .order_by(series.c.study_id, series.c.modality)
    )
    for row in connection.execute(query):
        found[row.study_id].append(row.modality)
    return found
