"""How often queues are looked at: often while work waits, seldom while none does.

A look costs about 3 ms of a core when there is room for work, and tenths of that when there is
none; and a free slot stays empty until the next look.
"""

from __future__ import annotations

from collections import Counter

from dcmvault.engine.binding import Binding
from dcmvault.engine.ledger import (
    BUSY_POLL_S,
    HASTY_POLL_S,
    RUNS_POLL_S,
    Ledger,
    QueueLook,
)
from dcmvault.engine.names import RUNS_QUEUE

#: A queue without work to start for so many decisions is looked at seldom.
_PATIENCE_TICKS = 5
#: Jobs that end between two decisions from which on empty slots would cost more than looks.
_MANY_ENDS = 5
#: Seconds between looks at a queue without work: when nothing is being done here at all, and when
#: something is (a run that plans will soon have jobs). Not longer: the engine shortens its pause
#: by a tenth with each look only, so that a lazy queue is slow for its first dozens of jobs.
_IDLE_POLL_S = 1.0
_IDLE_WHILE_RUNNING_POLL_S = 0.25


class QueuePace:
    """Decides how often each queue is looked at, by all workers; asked about once per second."""

    def __init__(self, ledger: Ledger, binding: Binding) -> None:
        self._ledger = ledger
        self._binding = binding
        self._idle_ticks: Counter[str] = Counter()
        self._ended_before: Counter[str] = Counter()

    def adjust(self) -> None:
        """Look at all queues once, and change what should be changed."""
        for look in self._ledger.looks():
            poll_s = self._decide(look)
            if poll_s != look.poll_s:
                self._ledger.set_poll(look.name, poll_s)

    def _decide(self, look: QueueLook) -> float:
        name = look.name
        ended = self._binding.ended_in[name]
        ended_now, self._ended_before[name] = ended - self._ended_before[name], ended
        self._idle_ticks[name] = 0 if look.startable else self._idle_ticks[name] + 1
        if self._idle_ticks[name] >= _PATIENCE_TICKS:
            return _IDLE_WHILE_RUNNING_POLL_S if self._binding.running else _IDLE_POLL_S
        if name == RUNS_QUEUE:
            return RUNS_POLL_S
        return HASTY_POLL_S if look.startable and ended_now >= _MANY_ENDS else BUSY_POLL_S
