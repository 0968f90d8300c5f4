"""How many connections to one peer stand at once, in this process or for all workers together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from dcmvault.ports.clock import Clock
from dcmvault.ports.queue import StageInterruption

#: Seconds between looks whether the work is being ended, while others' connections are waited for.
_LOOK_S = 0.2


def _none() -> int:
    return 0


@dataclass(slots=True)
class SharedSlots:
    """Implements `ports.workers.Slots`: as many as were configured, or as are granted."""

    most: int
    clock: Clock
    #: Counts those that stand though nobody uses them.
    idle: Callable[[], int] = _none
    #: When one was given back last (monotonic); None: never.
    given_back_at: float | None = None
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _taken: int = 0
    #: Where other workers share them: how many are granted to this one.
    _granted: int | None = None
    _waiting: int = 0
    _wanted: Callable[[], None] = lambda: None
    _is_over: Callable[[], bool] = lambda: False

    @property
    def in_use(self) -> int:
        """Count those that stand; one that is just being given back may be counted twice."""
        return self._taken + self.idle()

    @property
    def is_wanted(self) -> bool:
        """Whether some are used, or somebody waits for one."""
        return bool(self._taken or self._waiting)

    def lease(self, wanted: Callable[[], None], is_over: Callable[[], bool]) -> None:
        """Have none until some are granted; `wanted` is called when somebody waits."""
        with self._changed:
            self._granted, self._wanted, self._is_over = 0, wanted, is_over

    def grant(self, most: int) -> None:
        """Have so many at most from now on."""
        with self._changed:
            is_more = most > (self._granted or 0)
            self._granted = most
            if is_more:
                self._changed.notify_all()

    @contextmanager
    def settled(self) -> Iterator[int]:
        """Count those that stand, and let no more stand until the next grant.

        Else others could be given what is taken here while they ask. After an error the last grant
        holds again.
        """
        with self._changed:
            before = self._granted or 0
            self._granted = min(before, self._taken)
            in_use = self.in_use
        try:
            yield in_use
        except BaseException:
            self.grant(before)
            raise

    def take(self) -> None:
        """Wait until one more may stand; StageInterruption where the work is ended meanwhile."""
        with self._changed:
            self._waiting += 1
            try:
                if self._taken >= self._most_now():
                    self._wanted()
                while self._taken >= self._most_now():
                    if self._is_over():
                        raise StageInterruption
                    self._changed.wait(None if self._granted is None else _LOOK_S)
                self._taken += 1
            finally:
                self._waiting -= 1

    def give_back(self) -> None:
        """Say that one no longer stands, or waits for more work."""
        with self._changed:
            self._taken -= 1
            self.given_back_at = self.clock.monotonic()
            self._changed.notify_all()

    def _limit_now(self) -> int:
        return self.most

    def _most_now(self) -> int:
        limit = self._limit_now()
        return limit if self._granted is None else min(limit, self._granted)
