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
    #: The first and the last announcement since then; one value, as another thread announces.
    _announced: tuple[float, float] | None = None

    @property
    def has_announcements(self) -> bool:
        """Whether something was announced since the last pass began."""
        return self._announced is not None

    def announced(self, at: float) -> None:
        """Note that something changed at the source."""
        before = self._announced
        self._announced = (at if before is None else before[0], at)

    def begin(self, now: float) -> None:
        """Note that a pass begins, which finds all that was announced until now."""
        self._began = now
        self._announced = None

    def due_at(self) -> float:
        """Return when the next pass is due; the beginning of time before the first one."""
        if self._began is None:
            return 0.0
        at = self._began + self.rescan_s
        announced = self._announced
        if announced is None:
            return at
        first, last = announced
        return min(at, first + _UNSETTLED_TIMES * self.settle_s, last + self.settle_s)
