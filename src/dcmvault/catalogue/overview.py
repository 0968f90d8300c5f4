"""Counts for the overview: what is protected by what is asked, and runs as strips show them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

import sqlalchemy as sa

from dcmvault.catalogue import requests
from dcmvault.catalogue.database import Database
from dcmvault.catalogue.excluded import is_excluded, is_wanted
from dcmvault.catalogue.run_report import ENDED_RUNS
from dcmvault.catalogue.siblings import version_there, was_replaced
from dcmvault.catalogue.tables import (
    STATE_COUNTERS,
    EntryState,
    HoldingState,
    destinations,
    entries,
    holdings,
    run_destinations,
    run_unreadable,
    runs,
    versions,
)
from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import DestinationId, SourceId
from dcmvault.model.job import ItemState
from dcmvault.model.overview import (
    CopyCount,
    Outcome,
    PlaceAsked,
    Proof,
    Protection,
    RunBar,
    RunRow,
)
from dcmvault.model.plan import RunKind
from dcmvault.model.report import RunState

_HELD = STATE_COUNTERS[ItemState.HELD]


class _Sums(NamedTuple):
    """A run's parts together; `is_short` where one held not all, or took no snapshot."""

    items: int
    held: int
    transferred_bytes: int
    is_short: bool


_NO_PARTS = _Sums(0, 0, 0, is_short=False)


@dataclass(frozen=True, slots=True)
class OverviewInDatabase:
    """Implements `ports.overview.OverviewCatalogue`."""

    database: Database

    def protection(
        self, source_id: SourceId, asked: Sequence[PlaceAsked], *, everywhere: bool
    ) -> Protection:
        """Count what is at a source, and what of it is held at these places at their levels."""
        names = [f"at_{number}" for number in range(len(asked))]
        with self.database.read() as connection:
            keeping = set(
                connection.scalars(
                    sa.select(destinations.c.id).where(destinations.c.keeps_versions)
                )
            )
            each = _versions_of(source_id, asked, names, keeping)
            by_study = (
                sa.select(
                    each.c.study_id,
                    sa.func.sum(each.c.size).label("bytes"),
                    sa.func.min(each.c.first_run_id).label("first_run_id"),
                    *(sa.func.min(each.c[name]).label(name) for name in names),
                )
                .group_by(each.c.study_id)
                .subquery()
            )
            groups = connection.execute(
                sa.select(
                    sa.func.count(by_study.c.study_id).label("studies"),
                    sa.func.sum(by_study.c.bytes).label("bytes"),
                    sa.func.min(by_study.c.first_run_id).label("first_run_id"),
                    *(by_study.c[name] for name in names),
                ).group_by(*(by_study.c[name] for name in names))
                if names
                else sa.select(
                    sa.func.count(by_study.c.study_id).label("studies"),
                    sa.func.sum(by_study.c.bytes).label("bytes"),
                    sa.func.min(by_study.c.first_run_id).label("first_run_id"),
                )
            ).all()
            found = _protection(connection, groups, names, everywhere=everywhere)
            return found + Protection(excluded=_excluded_at(connection, source_id))

    def copies(self) -> Mapping[DestinationId, CopyCount]:
        """Sum up what destinations hold by evidence, and what they were found to have lost."""
        held = holdings.c.level >= Level.PRESENT
        refuted = holdings.c.state.in_((HoldingState.MISSING, HoldingState.DAMAGED))
        query = (
            sa.select(
                holdings.c.destination_id,
                sa.func.coalesce(sa.func.sum(sa.case((held, versions.c.size), else_=0)), 0),
                sa.func.count(sa.case((refuted, 1))),
            )
            .join(versions, versions.c.id == holdings.c.version_id)
            .group_by(holdings.c.destination_id)
        )
        with self.database.read() as connection:
            return {
                DestinationId(key): CopyCount(int(size), int(lost))
                for key, size, lost in connection.execute(query)
            }

    def unreadable(self) -> Mapping[SourceId, int]:
        """Count the entries that sources could not give when they were last passed over."""
        query = (
            sa.select(entries.c.source_id, sa.func.count())
            # A literal, so that the index of those few is seen to do.
            .where(entries.c.state == sa.literal_column("'unreadable'"))
            .group_by(entries.c.source_id)
        )
        with self.database.read() as connection:
            return {SourceId(key): int(count) for key, count in connection.execute(query)}

    def run_rows(self, limit: int, now: datetime) -> list[RunRow]:
        """List the newest runs, newest first."""
        newest = sa.select(runs.c.id).order_by(runs.c.id.desc()).limit(limit).scalar_subquery()
        with self.database.read() as connection:
            found = connection.execute(
                sa.select(
                    *(runs.c.id, runs.c.run_id, runs.c.request, runs.c.kind, runs.c.state),
                    *(runs.c.created_at, runs.c.started_at, runs.c.finished_at),
                    runs.c.error_code,
                )
                .where(runs.c.id.in_(newest))
                .order_by(runs.c.id.desc())
            ).all()
            parts = _sums(connection, newest)
            short = frozenset(
                connection.scalars(
                    sa.select(run_unreadable.c.run_id)
                    .where(run_unreadable.c.run_id.in_(newest))
                    .distinct()
                )
            )
        return [_row(run, parts.get(run.id, _NO_PARTS), now, run.id in short) for run in found]

    def sent_by_week(self, since: datetime) -> Mapping[datetime, int]:
        """Sum up the bytes that backups sent, by the Monday (UTC) of the week they began in."""
        query = (
            sa.select(runs.c.created_at, sa.func.sum(run_destinations.c.transferred_bytes))
            .join(run_destinations, run_destinations.c.run_id == runs.c.id)
            .where(runs.c.created_at >= since, runs.c.kind == RunKind.BACKUP.value)
            .group_by(runs.c.id, runs.c.created_at)
        )
        weeks: dict[datetime, int] = defaultdict(int)
        with self.database.read() as connection:
            for created_at, size in connection.execute(query):
                weeks[monday_of(created_at)] += int(size or 0)
        return weeks

    def latest_restore(self) -> Proof | None:
        """Return the newest restore that a run carried out and that ended; None for none."""
        query = (
            sa.select(runs)
            .where(runs.c.kind == RunKind.RESTORE.value, runs.c.state == RunState.FINISHED)
            .order_by(runs.c.id.desc())
            .limit(1)
        )
        with self.database.read() as connection:
            run = connection.execute(query).one_or_none()
            if run is None:
                return None
            parts = _parts(connection, sa.select(sa.literal(run.id)).scalar_subquery())
        some = parts.get(run.id, ())
        place = requests.from_text(run.request).source
        passed = bool(some) and all(part.items == getattr(part, _HELD) for part in some)
        return Proof(run.finished_at, place, passed, is_drill=False)


def monday_of(moment: datetime) -> datetime:
    """Return the beginning of the week (UTC) that a moment is in."""
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return day - timedelta(days=day.weekday())


def _versions_of(
    source_id: SourceId, asked: Sequence[PlaceAsked], names: Sequence[str], keeping: set[int]
) -> sa.Subquery:
    """Ask of each present version of a source whether it is held at each place as asked."""
    return (
        sa.select(
            entries.c.study_id,
            versions.c.size,
            versions.c.first_run_id,
            *(
                sa.case((_is_held(one, keeping), 1), else_=0).label(name)
                for name, one in zip(names, asked, strict=True)
            ),
        )
        .join(versions, versions.c.id == entries.c.version_id)
        .where(
            entries.c.source_id == source_id,
            entries.c.state == EntryState.PRESENT,
            is_wanted(entries.c.study_id),
        )
        .subquery()
    )


def _excluded_at(connection: sa.Connection, source_id: SourceId) -> int:
    query = sa.select(sa.func.count(entries.c.study_id.distinct())).where(
        entries.c.source_id == source_id,
        entries.c.state == EntryState.PRESENT,
        is_excluded(entries.c.study_id),
    )
    return int(connection.scalar(query) or 0)


def _is_held(asked: PlaceAsked, keeping: set[int]) -> sa.ColumnElement[bool]:
    if not asked.destination_id:
        return sa.false()
    there: sa.ColumnElement[Any] = versions.c.id
    more: list[sa.ColumnElement[bool]] = []
    if asked.destination_id not in keeping:
        there = version_there(asked.destination_id)
        more.append(~was_replaced(asked.destination_id))
    return (
        sa.exists()
        .where(
            holdings.c.destination_id == asked.destination_id,
            holdings.c.version_id == there,
            holdings.c.level >= asked.level,
            *more,
        )
        .correlate(versions, entries)
    )


def _protection(
    connection: sa.Connection, groups: Sequence[Any], names: Sequence[str], *, everywhere: bool
) -> Protection:
    total = Protection()
    oldest: int | None = None
    for group in groups:
        copies = sum(getattr(group, name) for name in names)
        enough = bool(names) and (copies == len(names) if everywhere else copies >= 1)
        size = int(group.bytes or 0)
        if not enough and group.studies and group.first_run_id is not None:
            oldest = group.first_run_id if oldest is None else min(oldest, group.first_run_id)
        total += Protection(
            group.studies,
            group.studies if enough else 0,
            size,
            size if enough else 0,
            by_copies={copies: group.studies} if group.studies else {},
        )
    if oldest is None:
        return total
    since = connection.scalar(sa.select(runs.c.created_at).where(runs.c.id == oldest))
    return total + Protection(oldest_unprotected_at=since)


def _parts(connection: sa.Connection, of: sa.ScalarSelect[int]) -> dict[int, list[Any]]:
    parts: dict[int, list[Any]] = defaultdict(list)
    for part in connection.execute(
        sa.select(run_destinations).where(run_destinations.c.run_id.in_(of))
    ):
        parts[part.run_id].append(part)
    return parts


def _sums(connection: sa.Connection, of: sa.ScalarSelect[int]) -> dict[int, _Sums]:
    """Sum up the parts of many runs where they lie: each has one for every destination."""
    part = run_destinations.c
    is_short = sa.or_(part["items"] != part[_HELD], part.snapshot_failure_code != "")
    query = (
        sa.select(
            part.run_id,
            sa.func.sum(part["items"]),
            sa.func.sum(part[_HELD]),
            sa.func.sum(part.transferred_bytes),
            sa.func.max(sa.case((is_short, 1), else_=0)),
        )
        .where(part.run_id.in_(of))
        .group_by(part.run_id)
    )
    return {
        key: _Sums(int(items), int(held), int(size), bool(short))
        for key, items, held, size, short in connection.execute(query)
    }


def _row(run: Any, parts: _Sums, now: datetime, is_short: bool) -> RunRow:
    source, places = _places_of(run.request)
    begun_at = run.started_at or run.created_at
    return RunRow(
        RunBar(
            run.run_id,
            _outcome(run, is_short=is_short or parts.is_short),
            begun_at,
            max(0.0, ((run.finished_at or now) - begun_at).total_seconds()),
            parts.items,
            parts.held,
            parts.transferred_bytes,
            run.error_code or "",
        ),
        run.kind,
        source,
        places,
        run.finished_at,
    )


@lru_cache(maxsize=256)
def _places_of(request: str) -> tuple[str, tuple[str, ...]]:
    """Read from where to where a run was asked for: runs of a plan are asked for alike."""
    read = requests.from_text(request)
    return read.source, tuple(one.address for one in read.destinations)


def _outcome(run: Any, *, is_short: bool) -> Outcome:
    """Say how a run ended, as its exit status does."""
    if run.state not in ENDED_RUNS:
        return Outcome.GOES_ON
    if run.state is RunState.FAILED:
        return Outcome.FAILED
    if run.state is RunState.CANCELLED:
        return Outcome.CANCELLED
    return Outcome.INCOMPLETE if is_short else Outcome.WHOLE
