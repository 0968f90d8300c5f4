"""What a worker does once per second beside its work."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from sqlalchemy.exc import SQLAlchemyError

from dcmvault.errors import StateError

_log = logging.getLogger(__name__)

_TICK_S = 1.0


class Upkeep(threading.Thread):
    """Repeats its tasks; one that meets a database error has another chance at the next tick."""

    def __init__(self, tasks: Sequence[Callable[[], None]]) -> None:
        super().__init__(name="dcmvault-upkeep", daemon=True)
        self._tasks = tasks
        self._stop_event = threading.Event()

    def run(self) -> None:
        """Work until `stop`."""
        while not self._stop_event.wait(_TICK_S):
            for task in self._tasks:
                try:
                    task()
                except (SQLAlchemyError, StateError) as error:
                    _log.warning("upkeep of the work queues failed (%s)", type(error).__name__)

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._stop_event.set()
        self.join()
