"""How often queues are looked at: often while work waits, seldom while none does.

A look costs about 3 ms of a core when there is room for work, and tenths of that when there is
none; and a free slot stays empty until the next look.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter

from sqlalchemy.exc import SQLAlchemyError

from dcmvault.engine.binding import Binding
from dcmvault.engine.client import (
    BUSY_POLL_S,
    HASTY_POLL_S,
    RUNS_POLL_S,
    DurableQueue,
    QueueLook,
)
from dcmvault.engine.names import RUNS_QUEUE

_log = logging.getLogger(__name__)

#: Seconds between decisions.
_TICK_S = 1.0
#: A queue without work to start for so many decisions is looked at seldom.
_PATIENCE_TICKS = 5
#: Jobs that end between two decisions from which on empty slots would cost more than looks.
_MANY_ENDS = 5
#: Seconds between looks at a queue without work: a destination's, and that of runs, whose work
#: comes first and for which somebody may be waiting.
_IDLE_POLL_S = 2.0
_IDLE_RUNS_POLL_S = 1.0


class QueuePace(threading.Thread):
    """Decides once per second how often each queue is looked at, by all workers."""

    def __init__(self, queue: DurableQueue, binding: Binding) -> None:
        super().__init__(name="dcmvault-queue-pace", daemon=True)
        self._queue = queue
        self._binding = binding
        self._stop_event = threading.Event()
        self._idle_ticks: Counter[str] = Counter()
        self._ended_before: Counter[str] = Counter()

    def run(self) -> None:
        """Decide once per tick until `stop`."""
        while not self._stop_event.wait(_TICK_S):
            try:
                for look in self._queue.looks():
                    poll_s = self._decide(look)
                    if poll_s != look.poll_s:
                        self._queue.set_poll(look.name, poll_s)
            except SQLAlchemyError as error:
                _log.warning("the queues' pace could not be set (%s)", type(error).__name__)

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._stop_event.set()
        self.join()

    def _decide(self, look: QueueLook) -> float:
        name = look.name
        ended = self._binding.ended_in[name]
        ended_now, self._ended_before[name] = ended - self._ended_before[name], ended
        self._idle_ticks[name] = 0 if look.startable else self._idle_ticks[name] + 1
        if self._idle_ticks[name] >= _PATIENCE_TICKS:
            return _IDLE_RUNS_POLL_S if name == RUNS_QUEUE else _IDLE_POLL_S
        if name == RUNS_QUEUE:
            return RUNS_POLL_S
        return HASTY_POLL_S if look.startable and ended_now >= _MANY_ENDS else BUSY_POLL_S
