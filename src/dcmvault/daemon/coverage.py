"""The duty of looking: what is protected where, ready to be told however much there is of it.

Coverage is counted over all instances: a moment's work for a practice, seconds for a large archive.
Where it is quick it is counted when somebody asks; else it is counted at intervals, and whoever
asks is told the last count, and when that was.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from dcmvault.app.as_data import source_data
from dcmvault.app.known_status import QUICK_S, count_status, kept_status
from dcmvault.app.standing import Counted, count
from dcmvault.app.wiring.workplace import Workplace

#: Between two counts, at least; and so many times what a count takes: a twentieth of a core.
_INTERVAL = timedelta(seconds=10)
_SHARE = 20
#: How old a quick count may be where many ask, as pages that are open do.
_FRESH = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Count:
    """Sources with their coverage, JSON-able, when that was, and the seconds that it took."""

    sources: Sequence[Mapping[str, object]]
    at: datetime
    took_s: float
    counted: Counted


class Coverage:
    """Knows the last count. Safe for threads."""

    def __init__(self, workplace: Workplace) -> None:
        self._workplace = workplace
        self._counting = threading.Lock()
        self._last: Count | None = None

    def __call__(self, now: datetime) -> datetime:
        """Count, where it takes long; say when again."""
        last = self._last
        if last is None or last.took_s > QUICK_S:
            last = self._count()
        return now + _interval(last.took_s)

    def latest(self) -> tuple[Sequence[Mapping[str, object]], datetime]:
        """Return the sources, and the moment that they were counted at."""
        last = self._last
        if last is None and (kept := kept_status(self._workplace)) is not None:
            return [source_data(view) for view in kept.views], kept.counted_at
        if last is None or last.took_s <= QUICK_S:
            last = self._count()
        return last.sources, last.at

    def standing(self) -> Counted | None:
        """Return what was counted for the overview; None while nobody counted yet.

        Asked often, so it is counted anew only where the last count is some seconds old.
        """
        last = self._last
        if last is None or last.took_s > QUICK_S:
            return None if last is None else last.counted
        if self._workplace.clock.now() - last.at >= _FRESH:
            last = self._count()
        return last.counted

    def _count(self) -> Count:
        before = self._last
        with self._counting:
            last = self._last
            if last is not None and last is not before and last.took_s > QUICK_S:
                return last  # somebody else counted meanwhile
            clock = self._workplace.clock
            began = clock.monotonic()
            # What is kept is told by commands until well after the next count.
            known = count_status(self._workplace, lambda took_s: 2 * _interval(took_s))
            sources = [source_data(view) for view in known.views]
            counted = count(self._workplace, known.views)
            self._last = Count(sources, known.counted_at, clock.monotonic() - began, counted)
            return self._last


def _interval(took_s: float) -> timedelta:
    return max(_INTERVAL, timedelta(seconds=_SHARE * took_s))
