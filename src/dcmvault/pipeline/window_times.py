"""When the hours of a week change: pure, and without a walk through its minutes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from dcmvault.model.schedule import WeekTable

#: Hours come round each week; a day more, as days on which clocks are set have another length.
_DAYS = 9


def is_any_open(tables: Sequence[WeekTable | None], moment: datetime) -> bool:
    """Say whether one of several tables is open; none stands for hours that never close."""
    return any(table is None or table.is_open(moment) for table in tables)


def next_change(tables: Sequence[WeekTable | None], now: datetime) -> datetime | None:
    """Return when that is otherwise than now; None: never."""
    before = is_any_open(tables, now)
    moments = {
        moment
        for table in tables
        if table is not None
        for moment in _edges(table, now)
        if moment > now
    }
    return next((at for at in sorted(moments) if is_any_open(tables, at) is not before), None)


def _edges(table: WeekTable, now: datetime) -> Iterator[datetime]:
    """List the moments at which windows begin and end, as clocks in the table's zone show them."""
    local = now.astimezone(table.zone)
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
    minutes = {
        minute
        for window in (*table.open, *table.closed)
        for minute in (window.begin_min, window.end_min)
    }
    for day in range(-1, _DAYS):
        for minute in minutes:
            # By the clock on the wall: the zone says which moment that is.
            wall = midnight + timedelta(days=day, minutes=minute)
            yield wall.astimezone(now.tzinfo)
