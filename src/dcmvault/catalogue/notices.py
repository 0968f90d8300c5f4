"""Notices and how far each channel was told; what runs there is to tell of."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from dcmvault.catalogue import requests
from dcmvault.catalogue.database import Database, upsert
from dcmvault.catalogue.excluded import is_wanted
from dcmvault.catalogue.notice_tables import notice_deliveries, notice_marks, notices
from dcmvault.catalogue.run_report import ENDED_RUNS
from dcmvault.catalogue.tables import (
    STATE_COUNTERS,
    EntryState,
    entries,
    holdings,
    run_destinations,
    runs,
    versions,
)
from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import RunId
from dcmvault.model.job import ItemState
from dcmvault.model.notice import Event, Notice, Severity
from dcmvault.model.plan import RunKind, RunRequest
from dcmvault.model.report import RunState
from dcmvault.model.selection import Selection
from dcmvault.ports.notices import ChannelState, Delivery, DeliveryState, Protection

#: Any number, as long as nobody else takes the same advisory lock in our database.
_ADVISORY_LOCK = 0x64636D76_6E6F7465
#: Runs of a source that are looked through for the newest of a plan.
_RUNS_BACK = 500
_FORGOTTEN_AT_ONCE = 500
_ENDS = (Event.RUN_OK.value, Event.RUN_INCOMPLETE.value, Event.RUN_FAILED.value)


@dataclass(frozen=True, slots=True)
class NoticesInDatabase:
    """Implements `ports.notices.NoticeBook` and `NewsCatalogue`."""

    database: Database

    def post(self, notice: Notice, channels: Sequence[str]) -> bool:
        """Keep a notice for these channels; False if one of this id is kept already."""
        known = sa.select(notices.c.id).where(notices.c.notice_id == notice.notice_id)
        with self.database.read() as connection:
            if connection.scalar(known) is not None:
                return False
        with self.database.write() as connection:
            self.database.lock_until_commit(connection, _ADVISORY_LOCK)
            if connection.scalar(known) is not None:
                return False
            key = connection.execute(
                sa.insert(notices).values(
                    notice_id=notice.notice_id,
                    event=notice.event.value,
                    severity=notice.severity.value,
                    at=notice.at,
                    plan=notice.plan,
                    run_id=notice.run_id,
                    facts=json.dumps(dict(notice.facts), sort_keys=True, ensure_ascii=False),
                )
            ).inserted_primary_key
            assert key is not None
            rows = [
                {
                    "notice_key": key[0],
                    "channel": channel,
                    "state": DeliveryState.WAITING,
                    "next_at": notice.at,
                }
                for channel in channels
            ]
            if rows:
                connection.execute(sa.insert(notice_deliveries), rows)
        return True

    def take_due(
        self, now: datetime, until: datetime, *, but: Collection[str] = (), limit: int = 100
    ) -> list[Delivery]:
        """Return waiting deliveries whose time has come, oldest first, and lease them."""
        table = notice_deliveries.c
        upcoming = self.next_due(but=but)
        if upcoming is None or upcoming > now:
            return []  # most looks find nothing: they write nothing
        with self.database.write() as connection:
            self.database.lock_until_commit(connection, _ADVISORY_LOCK)
            rows = connection.execute(
                sa.select(notice_deliveries, notices)
                .join(notices, notices.c.id == table.notice_key)
                .where(
                    table.state == DeliveryState.WAITING,
                    table.next_at <= now,
                    table.channel.not_in(but),
                )
                .order_by(table.id)
                .limit(limit)
            ).all()
            keys = [row[0] for row in rows]
            connection.execute(
                sa.update(notice_deliveries).where(table.id.in_(keys)).values(next_at=until)
            )
        return [_delivery(row) for row in rows]

    def settle(
        self,
        delivery_id: int,
        state: DeliveryState,
        now: datetime,
        *,
        next_at: datetime | None = None,
        code: str = "",
        message: str = "",
        attempted: bool = True,
        recipients_left: tuple[str, ...] = (),
    ) -> None:
        """Write down how an attempt ended."""
        table = notice_deliveries.c
        left = {"recipients_left": json.dumps(recipients_left)} if recipients_left else {}
        with self.database.write() as connection:
            connection.execute(
                sa.update(notice_deliveries)
                .where(table.id == delivery_id, table.state == DeliveryState.WAITING)
                .values(
                    state=state,
                    attempts=table.attempts + int(attempted),
                    next_at=next_at,
                    settled_at=now,
                    code=code,
                    message=message,
                    **left,
                )
            )

    def next_due(self, *, but: Collection[str] = ()) -> datetime | None:
        """Return when the next delivery is to be tried; None if none waits."""
        table = notice_deliveries.c
        with self.database.read() as connection:
            return connection.scalar(
                sa.select(table.next_at)
                .where(table.state == DeliveryState.WAITING, table.channel.not_in(but))
                .order_by(table.next_at)
                .limit(1)
            )

    def channel_states(self) -> list[ChannelState]:
        """Sum up every channel that ever had a notice, by name."""
        table = notice_deliveries.c

        def count(state: DeliveryState) -> sa.ColumnElement[int]:
            return sa.func.sum(sa.case((table.state == state, 1), else_=0))

        def last(state: DeliveryState) -> sa.ColumnElement[datetime | None]:
            return sa.func.max(sa.case((table.state == state, table.settled_at)), type_=_MOMENT)

        query = (
            sa.select(
                table.channel,
                count(DeliveryState.WAITING).label("waiting"),
                count(DeliveryState.SENT).label("sent"),
                count(DeliveryState.GIVEN_UP).label("given_up"),
                last(DeliveryState.SENT).label("last_sent_at"),
                last(DeliveryState.GIVEN_UP).label("last_given_up_at"),
            )
            .group_by(table.channel)
            .order_by(table.channel)
        )
        with self.database.read() as connection:
            sums = connection.execute(query).all()
            causes = {row.channel: self._cause(connection, row) for row in sums}
        return [
            ChannelState(
                row.channel,
                int(row.waiting),
                int(row.sent),
                int(row.given_up),
                row.last_sent_at,
                row.last_given_up_at,
                *causes[row.channel],
            )
            for row in sums
        ]

    def _cause(self, connection: sa.Connection, channel: Any) -> tuple[str, str]:
        """Return why the newest attempt of a channel failed, unless it was sent since."""
        table = notice_deliveries.c
        newest = connection.execute(
            sa.select(table.code, table.message)
            .where(table.channel == channel.channel, table.settled_at.is_not(None))
            .order_by(table.settled_at.desc(), table.id.desc())
            .limit(1)
        ).one_or_none()
        return ("", "") if newest is None else (newest.code, newest.message)

    def mark(self, name: str, at: datetime) -> None:
        """Remember a moment under a name, in the place of an earlier one."""
        with self.database.write() as connection:
            upsert(connection, notice_marks, [{"name": name, "at": at}])

    def marks(self) -> Mapping[str, datetime]:
        """Return all moments by their names."""
        with self.database.read() as connection:
            rows = connection.execute(sa.select(notice_marks.c.name, notice_marks.c.at))
            return {row.name: row.at for row in rows}

    def unmark(self, name: str) -> None:
        """Forget a moment."""
        with self.database.write() as connection:
            connection.execute(sa.delete(notice_marks).where(notice_marks.c.name == name))

    def forget_notices(self, before: datetime) -> None:
        """Forget notices from before then, some at a time, of which no channel is to be told."""
        table = notice_deliveries.c
        waits = (
            sa.select(table.id)
            .where(table.notice_key == notices.c.id, table.state == DeliveryState.WAITING)
            .exists()
        )
        old = (
            sa.select(notices.c.id)
            .where(notices.c.at < before, sa.not_(waits))
            .order_by(notices.c.at)
            .limit(_FORGOTTEN_AT_ONCE)
        )
        with self.database.read() as connection:
            keys = connection.scalars(old).all()
        if not keys:
            return  # nearly every time: it writes nothing
        with self.database.write() as connection:
            self.database.lock_until_commit(connection, _ADVISORY_LOCK)
            connection.execute(sa.delete(notice_deliveries).where(table.notice_key.in_(keys)))
            connection.execute(sa.delete(notices).where(notices.c.id.in_(keys)))

    def untold_runs(self, since: datetime, limit: int = 100) -> list[RunId]:
        """List runs that ended since then, and of which no end is kept."""
        told = sa.select(notices.c.run_id).where(notices.c.event.in_(_ENDS))
        query = (
            sa.select(runs.c.run_id)
            .where(
                runs.c.state.in_(ENDED_RUNS),
                runs.c.finished_at >= since,
                runs.c.run_id.not_in(told),
            )
            .order_by(runs.c.id)
            .limit(limit)
        )
        with self.database.read() as connection:
            return [RunId(name) for name in connection.scalars(query)]

    def latest_end(
        self, source: str, destinations: Sequence[str], *, good: bool = False
    ) -> tuple[RunId, datetime] | None:
        """Return the newest backup from there to at least these that ended; None for none."""
        states = (RunState.FINISHED,) if good else ENDED_RUNS
        # Found by the text of the request: runs of others, however many, must not crowd it out.
        from_there = f'"source":{json.dumps(source, ensure_ascii=False)}'
        query = (
            sa.select(runs.c.id, runs.c.run_id, runs.c.request, runs.c.finished_at)
            .where(
                runs.c.kind == RunKind.BACKUP.value,
                runs.c.state.in_(states),
                runs.c.request.contains(from_there, autoescape=True),
            )
            .order_by(runs.c.id.desc())
            .limit(_RUNS_BACK)
        )
        wanted = set(destinations)
        with self.database.read() as connection:
            for row in connection.execute(query).all():
                request = requests.from_text(row.request)
                if request.source != source or not _is_of_a_plan(request):
                    continue
                if not wanted <= {one.address for one in request.destinations}:
                    continue
                if not good or _reached_everything(connection, row.id):
                    return RunId(row.run_id), row.finished_at
        return None

    def ended_since(self, since: datetime) -> list[Notice]:
        """Return the notices of ends of runs since then, oldest first."""
        query = (
            sa.select(notices)
            .where(notices.c.event.in_(_ENDS), notices.c.at >= since)
            .order_by(notices.c.at, notices.c.id)
        )
        with self.database.read() as connection:
            return [_notice(row) for row in connection.execute(query)]

    def protection(self) -> Protection:
        """Count the studies that are at sources now, each once, and those without a copy."""
        present = sa.and_(
            entries.c.state == EntryState.PRESENT,
            entries.c.study_id.is_not(None),
            entries.c.version_id.is_not(None),
            is_wanted(entries.c.study_id),
        )
        bare = sa.and_(present, sa.not_(_has_a_copy()))
        with self.database.read() as connection:
            studies = connection.scalar(
                sa.select(sa.func.count(entries.c.study_id.distinct())).where(present)
            )
            row = connection.execute(
                sa.select(
                    sa.func.count(entries.c.study_id.distinct()).label("studies"),
                    sa.func.min(runs.c.created_at, type_=_MOMENT).label("oldest"),
                )
                .select_from(entries)
                .join(versions, versions.c.id == entries.c.version_id)
                .outerjoin(runs, runs.c.id == versions.c.first_run_id)
                .where(bare)
            ).one()
        return Protection(studies or 0, row.studies, row.oldest)


def _has_a_copy() -> sa.ColumnElement[bool]:
    """Say of an entry's version whether it, or one with an equal data set, is held anywhere."""
    equal = versions.alias("equal")
    return (
        sa.select(holdings.c.version_id)
        .join(equal, equal.c.id == holdings.c.version_id)
        .where(
            holdings.c.level >= Level.PRESENT,
            sa.or_(
                equal.c.id == versions.c.id,
                sa.and_(
                    equal.c.instance_id == versions.c.instance_id,
                    equal.c.data_set_digest == versions.c.data_set_digest,
                ),
            ),
        )
        .correlate(versions)
        .exists()
    )


def _is_of_a_plan(request: RunRequest) -> bool:
    """Say whether a run backs up a source as plans do: all of it, or all that is recent."""
    return request.selection == Selection(first_date=request.selection.first_date)


_MOMENT = notice_deliveries.c.settled_at.type


def _reached_everything(connection: sa.Connection, run_key: int) -> bool:
    """Say whether all that the source could give reached its level, snapshots included."""
    table = run_destinations.c
    settled = sum(table[STATE_COUNTERS[state]] for state in (ItemState.HELD, ItemState.UNREADABLE))
    short = sa.select(table.id).where(
        table.run_id == run_key,
        sa.or_(table["items"] != settled, table.snapshot_failure_code != ""),
    )
    return connection.scalar(short.limit(1)) is None


def _notice(row: Any) -> Notice:
    return Notice(
        notice_id=row.notice_id,
        event=Event(row.event),
        severity=Severity(row.severity),
        at=row.at,
        plan=row.plan,
        run_id=row.run_id,
        facts=json.loads(row.facts),
    )


def _delivery(row: Any) -> Delivery:
    return Delivery(
        delivery_id=row[0],
        channel=row.channel,
        notice=_notice(row),
        state=row.state,
        attempts=row.attempts,
        next_at=row.next_at,
        code=row.code,
        message=row.message,
        recipients_left=tuple(json.loads(row.recipients_left)) if row.recipients_left else (),
    )
