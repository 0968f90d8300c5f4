"""Associations of one peer: how many stand at once, and those that stay open between deliveries."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from dcmvault.destinations.shared_slots import SharedSlots
from dcmvault.dicom.association import PeerAssociation
from dcmvault.dicom.pdu import ContextProposal
from dcmvault.ports.clock import Clock

#: Longer than between two batches; shorter than peers wait (Orthanc ends idle ones after 30 s, and
#: serves only a few at once).
_IDLE_S = 5.0
#: Seconds that no peer takes to accept an association, unless it first serves another to its end.
_LONG_S = 2.0
#: Seconds for which it is remembered that a peer serves fewer associations than configured.
_REMEMBERED_S = 300.0


@dataclass(slots=True)
class IdleAssociations:
    """Idle associations of one destination. Safe for threads."""

    clock: Clock
    #: When one was released last (monotonic); None: never.
    released_at: float | None = None
    _idle: list[tuple[PeerAssociation, float]] = field(default_factory=list)
    #: Associations that are being asked for.
    _opening: int = 0
    #: Associations that are being released.
    _leaving: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    #: Held while associations are being released: the peer still serves them.
    _releasing: threading.Lock = field(default_factory=threading.Lock)
    _reaper: threading.Timer | None = None

    def standing(self) -> int:
        """Count those that the peer serves still."""
        with self._lock:
            return len(self._idle) + self._leaving

    def take(self, proposals: Collection[ContextProposal]) -> PeerAssociation | None:
        """Return an association that asked for all this and still stands, if there is one.

        Where none is, all are released: a peer serves only a few, and another will be made.
        """
        wanted = set(proposals)
        with self._lock:
            self._idle = [one for one in self._idle if one[0].still_stands()]
            for number, (association, _since) in enumerate(self._idle):
                if wanted <= association.contexts.proposed:
                    del self._idle[number]
                    return association
        self.close()
        return None

    @contextmanager
    def opening(self) -> Iterator[None]:
        """Say that another association is being asked for: none is kept from the peer meanwhile."""
        with self._lock:
            self._opening += 1
        try:
            yield
        finally:
            with self._lock:
                self._opening -= 1

    def keep(self, association: PeerAssociation) -> None:
        """Keep an association on which nothing is in flight, for a few seconds.

        A peer that serves one at a time lets others wait for its end: then it is released at once.
        """
        with self._lock:
            is_awaited = self._opening > 0
            self._leaving += is_awaited
        if is_awaited:
            with self._releasing:
                self._release([association])
            return
        with self._lock:
            self._idle.append((association, self.clock.monotonic()))
            self._watch()

    def close(self) -> None:
        """Release them all."""
        with self._releasing:
            with self._lock:
                idle, self._idle = self._idle, []
                self._leaving += len(idle)
                reaper, self._reaper = self._reaper, None
            if reaper is not None:
                # Else its thread would wait for nothing.
                reaper.cancel()
            self._release(association for association, _since in idle)

    def _watch(self) -> None:
        if self._reaper is None:
            self._reaper = threading.Timer(_IDLE_S, self._reap)
            self._reaper.daemon = True
            self._reaper.start()

    def _reap(self) -> None:
        with self._releasing:
            with self._lock:
                if threading.current_thread() is not self._reaper:
                    return
                self._reaper = None
                before = self.clock.monotonic() - _IDLE_S
                old = [association for association, since in self._idle if since <= before]
                self._idle = [one for one in self._idle if one[1] > before]
                self._leaving += len(old)
                if self._idle:
                    self._watch()
            self._release(old)

    def _release(self, associations: Iterable[PeerAssociation]) -> None:
        for association in associations:
            try:
                association.release()
            finally:
                with self._lock:
                    self._leaving -= 1
            self.released_at = self.clock.monotonic()


@dataclass(slots=True)
class AssociationSlots(SharedSlots):
    """How many associations may stand at once: what was configured, or what the peer serves.

    A peer that serves fewer rejects the others, or lets them wait until their time-out. Safe for
    threads.
    """

    _limit: int = 0
    _refused_at: float = 0.0

    def __post_init__(self) -> None:
        self._limit = self.most

    def _limit_now(self) -> int:
        if self.clock.monotonic() - self._refused_at > _REMEMBERED_S:
            self._limit = self.most
        return self._limit

    def waited(self, seconds: float) -> None:
        """Say how long the peer took to accept one: long beside others, if it serves no more."""
        with self._changed:
            if seconds > _LONG_S and self._taken > 1:
                self._limit = min(self._limit, self._taken - 1)
                self._refused_at = self.clock.monotonic()

    def refused(self) -> bool:
        """Give one back that the peer did not accept; say whether to take one and try again.

        That is so while others of ours stand: then the peer serves as many as these for now.
        """
        with self._changed:
            self._taken -= 1
            self._changed.notify_all()
            if not self._taken:
                return False
            self._limit = self._taken
            # Peers may count even what they refuse, for a moment.
            self._refused_at = self.given_back_at = self.clock.monotonic()
            return True
