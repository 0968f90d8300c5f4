"""Alerts in the catalogue: each is raised once and cleared once, and both are events."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from dcmvault.catalogue.database import Database
from dcmvault.catalogue.monitoring_tables import alert_events, alerts
from dcmvault.model.alert import (
    Alert,
    AlertChange,
    AlertCode,
    AlertEvent,
    AlertSeverity,
    Subject,
)

#: Any number, as long as nobody else takes the same advisory lock in our database.
_ADVISORY_LOCK = 0x64636D76616C72


@dataclass(frozen=True, slots=True)
class AlertsInDatabase:
    """Implements `ports.alerts.AlertBook`."""

    database: Database

    def open_alerts(self) -> list[Alert]:
        """List what is raised now, critical ones first, then the oldest."""
        query = sa.select(alerts).where(alerts.c.cleared_at.is_(None)).order_by(alerts.c.id)
        with self.database.read() as connection:
            found = [_alert_of(row) for row in connection.execute(query)]
        return sorted(found, key=lambda one: one.severity is not AlertSeverity.CRITICAL)

    def alert_events(self, after: int, limit: int = 100) -> list[AlertEvent]:
        """List what was raised and cleared, each once, in order, from the one after that number."""
        query = (
            sa.select(
                alerts,
                alert_events.c.id.label("number"),
                alert_events.c.change,
                alert_events.c.at,
                alert_events.c.figures.label("figures_then"),
            )
            .join(alerts, alerts.c.id == alert_events.c.alert_id)
            .where(alert_events.c.id > after)
            .order_by(alert_events.c.id)
            .limit(limit)
        )
        with self.database.read() as connection:
            return [
                AlertEvent(
                    row.number, row.change, row.at, _alert_of(row), json.loads(row.figures_then)
                )
                for row in connection.execute(query)
            ]

    def last_alert_event(self) -> int:
        """Return the number of the newest event; 0 for none."""
        with self.database.read() as connection:
            return int(connection.scalar(sa.select(sa.func.max(alert_events.c.id))) or 0)

    def raise_alert(
        self,
        code: AlertCode,
        subject: Subject,
        severity: AlertSeverity,
        at: datetime,
        figures: Mapping[str, float | int | str],
    ) -> Alert:
        """Write down that something is wrong; what is raised already stays as it is."""
        with self._write() as connection:
            row = connection.execute(_open(code, subject)).one_or_none()
            if row is None:
                text = json.dumps(figures, sort_keys=True)
                key = connection.execute(
                    sa.insert(alerts)
                    .values(
                        code=code,
                        kind=subject.kind,
                        subject=subject.name,
                        severity=severity,
                        raised_at=at,
                        figures=text,
                    )
                    .returning(alerts.c.id)
                ).scalar_one()
                _note(connection, key, AlertChange.RAISED, at, text)
                row = connection.execute(_open(code, subject)).one()
        return _alert_of(row)

    def clear_alert(
        self,
        code: AlertCode,
        subject: Subject,
        at: datetime,
        figures: Mapping[str, float | int | str],
    ) -> None:
        """Write down that it is over; harmless where it is not raised."""
        with self._write() as connection:
            row = connection.execute(_open(code, subject)).one_or_none()
            if row is None:
                return
            connection.execute(
                sa.update(alerts)
                .where(alerts.c.id == row.id)
                # A clock that was set back ends nothing before it began.
                .values(cleared_at=max(at, row.raised_at))
            )
            text = json.dumps(figures, sort_keys=True)
            _note(connection, row.id, AlertChange.CLEARED, at, text)

    def alert_history(self, limit: int = 100) -> list[Alert]:
        """List alerts, newest first, also those that are over."""
        query = sa.select(alerts).order_by(alerts.c.id.desc()).limit(limit)
        with self.database.read() as connection:
            return [_alert_of(row) for row in connection.execute(query)]

    def forget_alerts(self, before: datetime) -> None:
        """Forget what was cleared before that time, with its events."""
        old = sa.select(alerts.c.id).where(alerts.c.cleared_at < before)
        with self._write() as connection:
            connection.execute(sa.delete(alert_events).where(alert_events.c.alert_id.in_(old)))
            connection.execute(sa.delete(alerts).where(alerts.c.cleared_at < before))

    @contextmanager
    def _write(self) -> Iterator[sa.Connection]:
        """Write alone: events become visible in the order of their numbers."""
        with self.database.write() as connection:
            self.database.lock_until_commit(connection, _ADVISORY_LOCK)
            yield connection


def _open(code: AlertCode, subject: Subject) -> sa.Select[Any]:
    return sa.select(alerts).where(
        alerts.c.code == code,
        alerts.c.kind == subject.kind,
        alerts.c.subject == subject.name,
        alerts.c.cleared_at.is_(None),
    )


def _note(
    connection: sa.Connection, key: int, change: AlertChange, at: datetime, figures: str
) -> None:
    connection.execute(
        sa.insert(alert_events).values(alert_id=key, change=change, at=at, figures=figures)
    )


def _alert_of(row: Any) -> Alert:
    return Alert(
        alert_id=row.id,
        code=row.code,
        subject=Subject(row.kind, row.subject),
        severity=row.severity,
        raised_at=row.raised_at,
        cleared_at=row.cleared_at,
        figures=json.loads(row.figures),
    )
