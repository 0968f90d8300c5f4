"""Listen: when a backup of what was sent to us is due, and what may leave the spool after it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from dcmvault.app.wiring.listener import Receiver
from dcmvault.app.wiring.workplace import Workplace
from dcmvault.model.evidence import Level
from dcmvault.model.instance import InstanceEntry
from dcmvault.model.plan import DestinationRequest, RunRequest
from dcmvault.ports.source import Source

#: Seconds between looks at the spool though nothing was heard of it.
_LOOK_S = 300.0
#: Seconds after a run that did not succeed, doubled each time, and at most.
_RETRY_S = 60.0
_LONGEST_RETRY_S = 3600.0
#: Seconds between looks for what may leave the spool: as usual, and while it is full.
_CLEAR_S = 3600.0
_CLEAR_FULL_S = 60.0
#: Seconds between looks whether to stop.
_TICK_S = 0.2
_DAY_S = 86_400.0
_NANOSECOND = 1e-9


class Arrivals:
    """When studies last got an instance. Told by the listener's threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: By the spool's names of studies, monotonic.
        self._last: dict[str, float] = {}

    def arrived(self, study: str) -> None:
        """Note that a study got an instance now."""
        with self._lock:
            self._last[study] = time.monotonic()

    def take_settled(self, settle_s: float) -> bool:
        """Say whether studies settled that were not told of yet."""
        before = time.monotonic() - settle_s
        with self._lock:
            settled = [study for study, last in self._last.items() if last <= before]
            for study in settled:
                del self._last[study]
        return bool(settled)


@dataclass(slots=True)
class Listening:
    """Continuous protection of what is sent to us: says when to run, and clears the spool.

    Used by one thread. What was listed is known by hashes: the spool may hold millions of files.
    """

    workplace: Workplace
    request: RunRequest
    receiver: Receiver
    arrivals: Arrivals
    #: Told how many instances left the spool.
    cleared: Callable[[int], None]
    _covered: frozenset[int] = frozenset()
    _listed: frozenset[int] = frozenset()
    _retry_at: float = float("inf")
    _failures: int = 0
    _look_at: float = 0.0
    _clear_at: float = field(default=0.0)

    def wait(self, stop: threading.Event) -> bool:
        """Wait until a backup is due; False when `stop` was set before."""
        while not stop.is_set():
            if self.is_due():
                return True
            stop.wait(_TICK_S)
        return False

    def is_due(self) -> bool:
        """Say whether a backup is due now; clears the spool when it is time for that."""
        now = time.monotonic()
        settle_s = self.workplace.settings.listener.settle_s
        if self.arrivals.take_settled(settle_s) or now >= self._look_at:
            self._look_at = now + _LOOK_S
            self._listed = frozenset(map(hash, self._entries()))
            if self._listed - self._covered:
                return True
        if now >= self._retry_at:
            self._listed = frozenset(map(hash, self._entries()))
            return True
        if now >= self._clear_at:
            self.clear()
        return False

    def ended(self, *, is_good: bool) -> None:
        """Take in how the run ended; one that did not succeed is repeated, later each time.

        What every destination holds after it needs no other run; what a failed one left undone
        waits for its repetition.
        """
        self._covered = (
            frozenset(map(hash, self._held_everywhere(Level.SENT))) if is_good else self._listed
        )
        self._failures = 0 if is_good else self._failures + 1
        pause_s = min(_RETRY_S * 2 ** min(self._failures - 1, 10), _LONGEST_RETRY_S)
        self._retry_at = float("inf") if is_good else time.monotonic() + pause_s
        self.clear()

    def clear(self) -> None:
        """Remove from the spool what every destination holds, once it was kept long enough.

        Held is what reached the level asked for, `complete` at least. Where the spool is full,
        what is held leaves at once.
        """
        full = not self.receiver.spool.has_room()
        self._clear_at = time.monotonic() + (_CLEAR_FULL_S if full else _CLEAR_S)
        keep_s = 0.0 if full else self.workplace.settings.listener.keep_days * _DAY_S
        before_ns = (self.workplace.clock.now().timestamp() - keep_s) / _NANOSECOND
        removed = 0
        for entry in self._held_everywhere(Level.COMPLETE):
            if entry.fingerprint.mtime_ns <= before_ns:
                study, _slash, name = entry.locator.partition("/")
                removed += self.receiver.spool.remove(study, name, entry.fingerprint)
        if removed:
            self.cleared(removed)

    def _held_everywhere(self, least: Level) -> Iterator[InstanceEntry]:
        """Page through what all destinations hold at the level asked for, and at `least`."""
        first, *others = self.request.destinations
        elsewhere: set[int] | None = None
        for wanted in others:
            there = map(hash, self._held_at(wanted, least))
            elsewhere = {key for key in there if elsewhere is None or key in elsewhere}
        for entry in self._held_at(first, least):
            if elsewhere is None or hash(entry) in elsewhere:
                yield entry

    def _held_at(self, wanted: DestinationRequest, least: Level) -> Iterator[InstanceEntry]:
        catalogue = self.workplace.catalogue
        return catalogue.holdings.held_entries(
            catalogue.sources.source(self.request.source),
            catalogue.plans.destination(wanted.address),
            max(wanted.level or least, least),
        )

    def _entries(self) -> Iterator[InstanceEntry]:
        source: Source = self.workplace.source(self.request.source)
        for study in source.studies():
            yield from source.entries(study)
