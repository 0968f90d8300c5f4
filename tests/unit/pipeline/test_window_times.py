"""When the hours of a week change: as a walk through its minutes finds it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from dcmvault.model.schedule import WeekTable
from dcmvault.model.week import WeekWindow
from dcmvault.pipeline.window_times import is_any_open, next_change

NIGHTS = WeekWindow(frozenset(range(7)), 22 * 60, 6 * 60)
MINUTE = timedelta(minutes=1)


def walked(tables: Sequence[WeekTable | None], now: datetime) -> datetime | None:
    """Find it the slow way."""
    before = is_any_open(tables, now)
    moment = now.replace(second=0, microsecond=0)
    for _ in range(8 * 24 * 60):
        moment += MINUTE
        if is_any_open(tables, moment) is not before:
            return moment
    return None


def test_nights_begin_and_end() -> None:
    table = WeekTable(ZoneInfo("America/Sao_Paulo"), open=(NIGHTS,))
    noon = datetime(2026, 1, 31, 15, 0, tzinfo=UTC)
    opens = next_change([table], noon)
    assert opens == datetime(2026, 2, 1, 1, 0, tzinfo=UTC)
    assert next_change([table], opens) == datetime(2026, 2, 1, 9, 0, tzinfo=UTC)


def test_hours_that_never_change_have_no_change() -> None:
    now = datetime(2026, 1, 31, 15, 0, tzinfo=UTC)
    assert next_change([], now) is None
    assert next_change([None], now) is None
    assert next_change([WeekTable(UTC)], now) is None
    assert next_change([WeekTable(UTC, open=(NIGHTS,)), None], now) is None


def test_any_tables_change_when_a_walk_says_so() -> None:
    """Also over the days on which clocks are set."""
    chance = random.Random(5)
    berlin = ZoneInfo("Europe/Berlin")
    starts = [datetime(2026, 3, 27, 11, 7, tzinfo=UTC), datetime(2026, 10, 23, 4, 59, tzinfo=UTC)]
    for number in range(12):
        tables = [
            WeekTable(
                chance.choice((berlin, UTC)),
                tuple(window(chance) for _ in range(chance.randrange(3))),
                tuple(window(chance) for _ in range(chance.randrange(2))),
            )
            for _ in range(chance.randrange(1, 3))
        ]
        now = starts[number % 2] + timedelta(minutes=chance.randrange(4000))
        assert next_change(tables, now) == walked(tables, now), (tables, now)


def window(chance: random.Random) -> WeekWindow:
    days = frozenset(chance.sample(range(7), chance.randrange(1, 8)))
    return WeekWindow(days, chance.randrange(1440), chance.randrange(1440))
