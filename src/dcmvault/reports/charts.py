"""Charts as geometry: rectangles and words in units of a drawing, for SVG and for PDF alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

#: The drawing's width in its own units.
WIDTH = 1000.0
_LEFT = 4.0
_COLUMNS_HEIGHT = 150.0
_AXIS = 24.0
_ROW = 30.0
_BAR = 16.0
#: A column or a run that exists is seen, however small it is.
_LEAST = 3.0
#: Ticks on an axis of time, at most.
_MOST_TICKS = 9


@dataclass(frozen=True, slots=True)
class Rect:
    """A rectangle of a kind (which gives its colour), with words for who points at it."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    title: str = ""


@dataclass(frozen=True, slots=True)
class Label:
    """Words in a drawing; `anchor` is start, middle or end."""

    x: float
    y: float
    text: str
    anchor: str = "start"


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing; without rectangles there is nothing to draw."""

    height: float
    rects: tuple[Rect, ...]
    labels: tuple[Label, ...]
    #: Heights of lines from side to side.
    lines: tuple[float, ...]
    #: The chart in words, for who cannot see it.
    description: str
    #: Kind and meaning of each colour.
    legend: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Span:
    """One bar of a timeline."""

    row: str
    begin: datetime
    end: datetime
    kind: str
    title: str


def timeline(
    spans: Sequence[Span],
    since: datetime,
    until: datetime,
    description: str,
    legend: Sequence[tuple[str, str]] = (),
) -> Chart:
    """Draw what happened when, a row for each name, in the order of their first bars."""
    names = list(dict.fromkeys(span.row for span in spans))
    rects, labels = [], []
    for number, name in enumerate(names):
        top = number * (_ROW + 14)
        labels.append(Label(_LEFT, top + 12, name))
        for span in spans:
            if span.row == name:
                x = _place(span.begin, since, until)
                width = max(_place(span.end, since, until) - x, _LEAST)
                x = min(x, WIDTH - width)
                rects.append(Rect(x, top + 19, width, _BAR, span.kind, span.title))
    bottom = len(names) * (_ROW + 14) + 4
    labels += _ticks(since, until, bottom + 16)
    return Chart(bottom + _AXIS, tuple(rects), tuple(labels), (bottom,), description, tuple(legend))


@dataclass(frozen=True, slots=True)
class Bucket:
    """A stretch of time."""

    begin: datetime
    end: datetime


def buckets(since: datetime, until: datetime) -> list[Bucket]:
    """Cut a period into hours, days, weeks or months, whichever fit."""
    span = until - since
    if span <= timedelta(hours=49):
        step = timedelta(hours=1)
        begin = since.replace(minute=0, second=0, microsecond=0)
    elif span <= timedelta(days=63):
        step = timedelta(days=1)
        begin = since.replace(hour=0, minute=0, second=0, microsecond=0)
    elif span <= timedelta(days=430):
        step = timedelta(days=7)
        begin = since.replace(hour=0, minute=0, second=0, microsecond=0)
        begin -= timedelta(days=begin.weekday())
    else:
        return _months(since, until)
    found = []
    while begin < until:
        found.append(Bucket(begin, begin + step))
        begin += step
    return found


def columns(
    values: Sequence[tuple[Bucket, float]],
    say: Callable[[float], str],
    kind: str,
    description: str,
) -> Chart:
    """Draw one column for each stretch of time; `say` writes a value with its unit."""
    highest = max((value for _bucket, value in values), default=0.0)
    if not highest:
        return Chart(0, (), (), (), description)
    since, until = values[0][0].begin, values[-1][0].end
    rects = []
    for bucket, value in values:
        if not value:
            continue
        x, end = (_place(moment, since, until) for moment in (bucket.begin, bucket.end))
        height = max(value / highest * _COLUMNS_HEIGHT, _LEAST)
        gap = min(3.0, (end - x) * 0.15)
        title = f"{_moment(bucket.begin, until - since)}: {say(value)}"
        top = 20 + _COLUMNS_HEIGHT - height
        rects.append(Rect(x + gap / 2, top, max(end - x - gap, 1.0), height, kind, title))
    bottom = 20 + _COLUMNS_HEIGHT
    labels = [Label(_LEFT, 14, say(highest)), *_ticks(since, until, bottom + 16)]
    return Chart(bottom + _AXIS, tuple(rects), tuple(labels), (20.0, bottom), description)


def _months(since: datetime, until: datetime) -> list[Bucket]:
    begin = since.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    starts = [begin]
    while starts[-1] < until:
        starts.append((starts[-1] + timedelta(days=32)).replace(day=1))
    return [Bucket(one, other) for one, other in pairwise(starts)]


def _place(moment: datetime, since: datetime, until: datetime) -> float:
    span = (until - since).total_seconds() or 1.0
    share = (moment - since).total_seconds() / span
    return min(max(share, 0.0), 1.0) * WIDTH


def _ticks(since: datetime, until: datetime, y: float) -> list[Label]:
    """Write times under a drawing, as many as are legible."""
    starts = [bucket.begin for bucket in buckets(since, until) if bucket.begin >= since]
    step = max(-(-len(starts) // _MOST_TICKS), 1)
    labels = []
    for moment in starts[::step]:
        x = _place(moment, since, until)
        if x <= WIDTH - 60:
            labels.append(Label(x, y, _moment(moment, until - since)))
    return labels


def _moment(moment: datetime, span: timedelta) -> str:
    if span <= timedelta(hours=49):
        return f"{moment:%d %H:%M}" if span > timedelta(hours=24) else f"{moment:%H:%M}"
    return f"{moment:%Y-%m}" if span > timedelta(days=430) else f"{moment:%m-%d}"
