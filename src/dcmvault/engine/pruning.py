"""Forgetting the durable work of runs that ended long ago; the catalogue remembers the runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from dcmvault.engine.ledger import Ledger

#: Work stays to be looked at for so long after its end.
KEPT = timedelta(days=14)
#: Runs forgotten at one tick of the upkeep: each may have had thousands of jobs.
_RUNS_AT_ONCE = 5
#: Seconds between looks once nothing is left to forget.
_EVERY_S = 6 * 3600.0


class Pruning:
    """Forgets ended runs little by little, at the start of a worker and some times a day."""

    def __init__(self, ledger: Ledger, now: Callable[[], datetime] | None = None) -> None:
        self._ledger = ledger
        self._now = now if now is not None else lambda: datetime.now(UTC)
        self._next = 0.0

    def prune(self) -> None:
        """Forget the next few runs that are old enough."""
        if time.monotonic() < self._next:
            return
        old = self._ledger.ended_runs(self._now() - KEPT, _RUNS_AT_ONCE)
        for run_id in old:
            self._ledger.forget_run(run_id)
        if len(old) < _RUNS_AT_ONCE:
            self._next = time.monotonic() + _EVERY_S
