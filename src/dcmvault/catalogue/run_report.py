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
from dcmvault.catalogue.routes import diversions
from dcmvault.catalogue.study_reports import study_reports
from dcmvault.catalogue.tables import (
    STATE_COUNTERS,
    destinations,
    entries,
    instances,
    items,
    jobs,
    run_destinations,
    run_unreadable,
    runs,
    snapshots,
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


def assemble_report(
    connection: sa.Connection, run: Any, *, studies: bool, items: bool
) -> RunReport:
    """Assemble the report of the run with this row.

    `studies` asks for its study reports, `items` for every instance of which there is something to
    say, and for the number of studies.
    """
    parts = read_parts(connection, run_destinations.c.run_id == run.id)
    unreadable = count_unreadable(connection, run.id)
    ended = run.state in ENDED_RUNS
    reports = tuple(destination_report(part, unreadable=unreadable, ended=ended) for part in parts)
    touched = _touched_studies(connection, [part.id for part in parts]) if items else {}
    return RunReport(
        run_id=RunId(run.run_id),
        request=requests.from_text(run.request),
        state=run.state,
        started_at=run.started_at or run.created_at,
        finished_at=run.finished_at,
        destinations=reports,
        studies=len({uid for uids in touched.values() for uid in uids}),
        not_dicom=run.not_dicom,
        gone=run.gone,
        exit_status=exit_status(connection, run, reports, unreadable=unreadable),
        stages=json.loads(run.stages),
        failures=tuple(_failures(connection, run, parts, ended=ended)) if items else (),
        warned=tuple(_warned(connection, parts)) if items else (),
        warnings=tuple(json.loads(run.warnings)),
        diversions=tuple(diversions(connection, run.id)),
        study_reports=tuple(study_reports(connection, run, parts, touched)) if studies else (),
        error=(
            None if run.error_code is None else (run.error_code, run.error_message, run.error_hint)
        ),
    )


def read_parts(connection: sa.Connection, where: sa.ColumnElement[bool]) -> Sequence[Any]:
    """Read runs' parts at destinations, with name and the run's state, as planned."""
    taken = (
        sa.select(snapshots.c.snapshot_id)
        .where(
            snapshots.c.run_id == run_destinations.c.run_id,
            snapshots.c.destination_id == run_destinations.c.destination_id,
        )
        .order_by(snapshots.c.generation.desc(), snapshots.c.snapshot_id)
        .limit(1)
        .scalar_subquery()
    )
    # Sources over a network may tell no sizes before they fetch.
    fetched = (
        sa.select(sa.func.sum(versions.c.size))
        .select_from(jobs)
        .join(items, items.c.job_id == jobs.c.id)
        .join(versions, versions.c.id == items.c.version_id)
        .where(jobs.c.run_destination_id == run_destinations.c.id)
        .scalar_subquery()
    )
    size = sa.case((run_destinations.c.bytes > 0, run_destinations.c.bytes), else_=fetched)
    return connection.execute(
        sa.select(
            run_destinations,
            destinations.c.name,
            runs.c.state,
            taken.label("snapshot"),
            sa.func.coalesce(size, 0).label("source_bytes"),
        )
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
        source_bytes=int(part.source_bytes),
        transferred_bytes=part.transferred_bytes,
        snapshot=part.snapshot,
        snapshot_failure=(
            (part.snapshot_failure_code, part.snapshot_failure, part.snapshot_failure_hint)
            if part.snapshot_failure_code
            else None
        ),
        stages=json.loads(part.stages),
    )


def cause_of_state(state: ItemState) -> str:
    """Return the code of an item whose state explains itself."""
    return _BY_STATE.get(state, _UNFINISHED)[0]


def exit_status(
    connection: sa.Connection, run: Any, reports: Sequence[DestinationReport], *, unreadable: int
) -> int:
    """Return the exit status that a run deserves, by what became of it at these destinations."""
    if run.state is RunState.CANCELLED:
        return _INTERRUPTED
    if run.state is RunState.FAILED:
        return _status_by_code().get(run.error_code or "", errors.DcmvaultError.exit_status)
    reached = all(report.counts.stored == report.counts.selected for report in reports)
    if reached and not unreadable:
        # The copies are there; what is missing is the point in time to go back to.
        return max(
            (
                max(_status_by_code().get(report.snapshot_failure[0], _NOT_ALL), _NOT_ALL)
                for report in reports
                if report.snapshot_failure is not None
            ),
            default=0,
        )
    if not unreadable and not any(report.counts.stored for report in reports):
        causes = {_status_by_code().get(code, _NOT_ALL) for code in _failed_codes(connection, run)}
        if len(causes) == 1:
            # Nothing at all was reached, for one kind of reason: that reason is the answer.
            return max(causes.pop(), _NOT_ALL)
    return _NOT_ALL


def _failed_codes(connection: sa.Connection, run: Any) -> Sequence[str]:
    """List the codes of the items that did not reach their level."""
    return connection.scalars(
        sa.select(items.c.code)
        .distinct()
        .select_from(run_destinations)
        .join(jobs, jobs.c.run_destination_id == run_destinations.c.id)
        .join(items, items.c.job_id == jobs.c.id)
        .where(run_destinations.c.run_id == run.id, items.c.state != ItemState.HELD)
    ).all()


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


def _select_items() -> sa.Select[Any]:
    return (
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
        .order_by(items.c.id)
    )


def _warned(connection: sa.Connection, parts: Sequence[Any]) -> Iterator[Failure]:
    """List instances that are held although something about them is worth a word."""
    for part in parts:
        query = _select_items().where(
            jobs.c.run_destination_id == part.id,
            items.c.state == ItemState.HELD,
            items.c.code != "",
        )
        for row in connection.execute(query):
            yield _failure(row, part.name)


def _failures(
    connection: sa.Connection, run: Any, parts: Sequence[Any], *, ended: bool
) -> Iterator[Failure]:
    unreadable = connection.execute(
        sa.select(run_unreadable, entries.c.locator)
        .join(entries, entries.c.id == run_unreadable.c.entry_id)
        .where(run_unreadable.c.run_id == run.id)
        .order_by(run_unreadable.c.entry_id)
    ).all()
    wanted = [
        state
        for state in ItemState
        if state is not ItemState.HELD and (ended or state not in OPEN_STATES)
    ]
    some_wanted = sum((jobs.c[STATE_COUNTERS[state]] for state in wanted), sa.literal(0))
    for part in parts:
        query = _select_items().where(
            jobs.c.run_destination_id == part.id, some_wanted > 0, items.c.state.in_(wanted)
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
