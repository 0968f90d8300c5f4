"""Several samples of one thing become one of a longer span."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from dcmvault.model.alert import Subject
from dcmvault.model.sample import THINNED_BY, Figure, Sample, Thinning

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

#: Spans in seconds, and for how long samples of each are kept.
KEPT = (
    (1, timedelta(hours=1)),
    (60, timedelta(weeks=1)),
    (3600, timedelta(days=366)),
)


def begin_of(at: datetime, span_s: int) -> datetime:
    """Return when the span began in which a moment lies; spans count from 1970 on."""
    span = timedelta(seconds=span_s)
    return _EPOCH + (at - _EPOCH) // span * span


def thinned(samples: Iterable[Sample], span_s: int) -> list[Sample]:
    """Make one sample per span and subject, by time and subject; a figure counts where it was."""
    together: dict[tuple[datetime, Subject], list[Sample]] = defaultdict(list)
    for sample in samples:
        together[begin_of(sample.at, span_s), sample.subject].append(sample)
    return [
        Sample(at, subject, _one(sorted(some, key=lambda sample: sample.at)), span_s)
        for (at, subject), some in sorted(together.items(), key=lambda pair: pair[0])
    ]


def _one(samples: Sequence[Sample]) -> dict[Figure, float]:
    values: dict[Figure, list[float]] = defaultdict(list)
    for sample in samples:
        for figure, value in sample.figures.items():
            values[figure].append(value)
    return {
        figure: _thin(THINNED_BY[figure], values[figure]) for figure in Figure if figure in values
    }


def _thin(how: Thinning, values: Sequence[float]) -> float:
    if how is Thinning.MEAN:
        return sum(values) / len(values)
    if how is Thinning.LEAST:
        return min(values)
    return max(values) if how is Thinning.MOST else values[-1]
