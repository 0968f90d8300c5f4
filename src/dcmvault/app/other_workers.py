"""What the other workers of an installation do, for the one that measures for all."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dcmvault.errors import StateError
from dcmvault.ports.workers import KnownWorker, WorkerBook

#: Seconds for which an answer holds, and after which a silent worker is not counted on.
_FRESH_S = 0.5
_SILENT_S = 10.0
#: A daemon stays, so it comes first; a command ends soon.
_ORDER = {"serve": 0, "worker": 1}


@dataclass(slots=True)
class OtherWorkers:
    """Implements `app.monitoring.Others` over the book of workers. Safe for threads."""

    book: WorkerBook
    worker_id: str
    _asked_s: float = float("-inf")
    _known: Sequence[KnownWorker] = ()
    #: Bytes of workers that are gone, too: what was moved never gets less.
    _moved: dict[str, Mapping[str, int]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def leads(self) -> bool:
        """Say whether this process is the first of those that live."""
        living = [one for one in self._look() if one.silent_s < _SILENT_S]
        first = min(
            living,
            key=lambda one: (
                _ORDER.get(one.identity.role, len(_ORDER)),
                one.started_at,
                one.identity.worker_id,
            ),
            default=None,
        )
        return first is not None and first.identity.worker_id == self.worker_id

    def moved(self) -> Mapping[str, int]:
        """Return the bytes that others moved since this process looks, by address."""
        self._look()
        total: Counter[str] = Counter()
        with self._lock:
            for moved in self._moved.values():
                total.update(moved)
        return total

    def associations(self) -> Mapping[str, int]:
        """Count the associations of others, by address."""
        total: Counter[str] = Counter()
        for one in self._look():
            if one.identity.worker_id != self.worker_id:
                total.update(one.doing.associations)
        return total

    def _look(self) -> Sequence[KnownWorker]:
        with self._lock:
            if time.monotonic() - self._asked_s >= _FRESH_S:
                try:
                    self._known = self.book.workers()
                except StateError:
                    # Whoever cannot ask leads nobody, and writes nothing anyway.
                    self._known = ()
                self._asked_s = time.monotonic()
                for one in self._known:
                    if one.identity.worker_id != self.worker_id:
                        self._moved[one.identity.worker_id] = one.doing.moved
            return self._known
