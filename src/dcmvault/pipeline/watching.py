"""When a watched source is due: after what was announced has settled, and at an interval anyway."""

from __future__ import annotations

from dataclasses import dataclass

#: However much goes on at a source, it is passed over when this many times the settling is over.
_UNSETTLED_TIMES = 20


@dataclass(slots=True)
class Watch:
    """One source's next pass. Times are seconds of one monotonic clock.

    Announcements are hints: a pass over the source finds out what changed, also where none came.
    """

    #: Nothing must be announced for so long before a pass begins.
    settle_s: float
    #: A pass begins at the latest so long after the one before began.
    rescan_s: float
    _began: float | None = None
    _first_announced: float | None = None
    _last_announced: float | None = None

    @property
    def has_announcements(self) -> bool:
        """Whether something was announced since the last pass began."""
        return self._first_announced is not None

    def announced(self, at: float) -> None:
        """Note that something changed at the source."""
        if self._first_announced is None:
            self._first_announced = at
        self._last_announced = at

    def begin(self, now: float) -> None:
        """Note that a pass begins, which finds all that was announced until now."""
        self._began = now
        self._first_announced = self._last_announced = None

    def due_at(self) -> float:
        """Return when the next pass is due; the beginning of time before the first one."""
        if self._began is None:
            return 0.0
        at = self._began + self.rescan_s
        if self._first_announced is None or self._last_announced is None:
            return at
        longest = self._first_announced + _UNSETTLED_TIMES * self.settle_s
        return min(at, longest, self._last_announced + self.settle_s)
