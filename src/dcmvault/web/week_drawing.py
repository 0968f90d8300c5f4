"""A week's hours as seven bars: in which of them transfers run, and when plans begin."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from dcmvault.i18n import gettext as _
from dcmvault.model.schedule import WeekTable
from dcmvault.model.week import MINUTES_PER_DAY

#: Any Monday: only the day of the week and the time of day matter.
_MONDAY = datetime(2024, 1, 1)  # noqa: DTZ001 - what clocks show
_MINUTES_PER_HOUR = 60
#: Begins of a day that are read out.
_MOST_TOLD = 12


@dataclass(frozen=True, slots=True)
class Span:
    """Some minutes of a day."""

    begin: int
    end: int

    @property
    def width(self) -> int:
        """How many minutes."""
        return self.end - self.begin


@dataclass(frozen=True, slots=True)
class Day:
    """One bar, in minutes since midnight."""

    name: str
    open: Sequence[Span]
    #: Minutes at which a plan begins.
    begins: Sequence[int]
    description: str


@dataclass(frozen=True, slots=True)
class Week:
    """Seven days, Monday first."""

    days: Sequence[Day]

    @property
    def open_hours(self) -> float:
        """Hours of a week in which transfers run."""
        minutes = sum(span.width for day in self.days for span in day.open)
        return minutes / _MINUTES_PER_HOUR


def draw_week(table: WeekTable, due: Iterable[datetime] = ()) -> Week:
    """Draw the hours of a table, and moments (aware) at which plans begin."""
    begins: dict[int, set[int]] = {}
    for moment in due:
        local = moment.astimezone(table.zone)
        minute = local.hour * _MINUTES_PER_HOUR + local.minute
        begins.setdefault(local.weekday(), set()).add(minute)
    return Week(
        [
            _day(name, _open_spans(table, number), sorted(begins.get(number, ())))
            for number, name in enumerate(day_names())
        ]
    )


def day_names() -> tuple[str, ...]:
    """Name the days of the week, Monday first, shortly."""
    return (_("Mon"), _("Tue"), _("Wed"), _("Thu"), _("Fri"), _("Sat"), _("Sun"))


def _open_spans(table: WeekTable, day: int) -> Sequence[Span]:
    """Find the hours of a day: they change only where a window begins or ends."""
    edges = {0, MINUTES_PER_DAY}
    for window in (*table.open, *table.closed):
        edges |= {window.begin_min, window.end_min}
    bounds = sorted(edge for edge in edges if 0 <= edge <= MINUTES_PER_DAY)
    spans: list[Span] = []
    for begin, end in pairwise(bounds):
        if not table.is_open_at(_MONDAY + timedelta(days=day, minutes=begin)):
            continue
        if spans and spans[-1].end == begin:
            spans[-1] = Span(spans[-1].begin, end)
        else:
            spans.append(Span(begin, end))
    return spans


def _day(name: str, spans: Sequence[Span], begins: Sequence[int]) -> Day:
    if not spans:
        words = _("no transfers")
    elif spans[0].width == MINUTES_PER_DAY:
        words = _("transfers all day")
    else:
        hours = ", ".join(f"{_clock(one.begin)}–{_clock(one.end)}" for one in spans)
        words = _("transfers %s") % hours
    if begins:
        words += "; " + _("plans begin %s") % ", ".join(map(_clock, begins[:_MOST_TOLD]))
    return Day(name, spans, begins, f"{name}: {words}")


def _clock(minute: int) -> str:
    return f"{minute // _MINUTES_PER_HOUR:02}:{minute % _MINUTES_PER_HOUR:02}"
