"""Associations that stay open between deliveries: making one costs several round trips."""

from __future__ import annotations

import threading
from collections.abc import Collection
from dataclasses import dataclass, field

from dcmvault.dicom.association import PeerAssociation
from dcmvault.dicom.pdu import ContextProposal
from dcmvault.ports.clock import Clock

#: Longer than between two batches; shorter than peers wait (Orthanc ends idle ones after 30 s, and
#: serves only a few at once).
_IDLE_S = 5.0


@dataclass(slots=True)
class IdleAssociations:
    """Idle associations of one destination. Safe for threads."""

    clock: Clock
    _idle: list[tuple[PeerAssociation, float]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _reaper: threading.Timer | None = None

    def take(self, proposals: Collection[ContextProposal]) -> PeerAssociation | None:
        """Return an association that negotiated all this and still stands, if there is one.

        Where none is, all are released: a peer serves only a few, and another will be made.
        """
        pairs = {
            (one.abstract_syntax_uid, uid) for one in proposals for uid in one.transfer_syntax_uids
        }
        with self._lock:
            self._idle = [one for one in self._idle if one[0].still_stands()]
            for number, (association, _since) in enumerate(self._idle):
                if pairs <= set(association.contexts.negotiated()):
                    del self._idle[number]
                    return association
        self.close()
        return None

    def keep(self, association: PeerAssociation) -> None:
        """Keep an association on which nothing is in flight, for a few seconds."""
        with self._lock:
            self._idle.append((association, self.clock.monotonic()))
            self._watch()

    def close(self) -> None:
        """Release them all."""
        with self._lock:
            idle, self._idle = self._idle, []
        for association, _since in idle:
            association.release()

    def _watch(self) -> None:
        if self._reaper is None:
            self._reaper = threading.Timer(_IDLE_S, self._reap)
            self._reaper.daemon = True
            self._reaper.start()

    def _reap(self) -> None:
        with self._lock:
            self._reaper = None
            before = self.clock.monotonic() - _IDLE_S
            old = [association for association, since in self._idle if since <= before]
            self._idle = [one for one in self._idle if one[1] > before]
            if self._idle:
                self._watch()
        for association in old:
            association.release()
