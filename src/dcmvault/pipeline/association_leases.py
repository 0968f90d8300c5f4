"""One worker's part of the associations of destinations that several workers share."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from dcmvault.errors import StateError
from dcmvault.ports.workers import SHARES_LEASE_S, AssociationShares, SharesAssociations

_log = logging.getLogger(__name__)

#: Seconds between two claims; a share that nobody used for so many looks is given back.
_EACH_S = 0.5
_PATIENT_LOOKS = 4
#: So much earlier a share ends for its holder, who may be about to open an association.
_MARGIN_S = 2.0


@dataclass(slots=True)
class _Shared:
    """A destination, and when its share was granted last (monotonic)."""

    destination: SharesAssociations
    granted_s: float = float("-inf")
    idle_looks: int = 0
    has_share: bool = False
    _closing: threading.Thread | None = None

    def close_idle(self) -> None:
        """End what nobody uses, beside: a peer that froze must not hold up the shares of others."""
        if self._closing is None or not self._closing.is_alive():
            self._closing = threading.Thread(
                target=self.destination.close_idle, name="closing-idle", daemon=True
            )
            self._closing.start()


@dataclass(slots=True)
class AssociationLeases:
    """Asks for this worker's shares, as long as they are used, in a thread of its own."""

    shares: AssociationShares
    holder: str
    _shared: dict[str, _Shared] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _wanted: threading.Event = field(default_factory=threading.Event)
    _ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def share(self, destination: SharesAssociations, is_over: Callable[[], bool]) -> None:
        """Let a destination open as many associations as are granted, and none before that.

        Who waits for one waits no longer when it `is_over`.
        """
        destination.slots.lease(self._wanted.set, is_over)
        with self._lock:
            self._shared[destination.name] = _Shared(destination)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="association-leases", daemon=True
                )
                self._thread.start()

    def close(self) -> None:
        """Ask for nothing more; what was granted runs out by itself."""
        self._ended.set()
        self._wanted.set()
        if self._thread is not None:
            self._thread.join(_EACH_S)

    def _run(self) -> None:
        while not self._ended.is_set():
            self._wanted.wait(_EACH_S)
            self._wanted.clear()
            with self._lock:
                shared = dict(self._shared)
            for one in shared.values():
                try:
                    self._look(one)
                except StateError:
                    if time.monotonic() > one.granted_s + SHARES_LEASE_S - _MARGIN_S:
                        one.destination.slots.grant(0)
                # Outermost frame of the thread: without it nobody would get any association.
                except Exception:  # noqa: BLE001
                    _log.exception("a share of associations could not be asked for")

    def _look(self, one: _Shared) -> None:
        destination = one.destination
        slots = destination.slots
        one.idle_looks = 0 if slots.is_wanted else one.idle_looks + 1
        if not slots.is_wanted and not one.has_share:
            return
        if one.idle_looks >= _PATIENT_LOOKS:
            slots.grant(0)
            # What nobody uses still is open at the peer.
            one.close_idle()
            # Somebody may have taken one in this very moment.
            if not slots.is_wanted and not slots.in_use:
                self.shares.give_back(self.holder, destination.name)
                one.has_share = False
                return
        asked_s = time.monotonic()
        with slots.settled() as in_use:
            granted = self.shares.claim(destination.name, self.holder, in_use, slots.most)
        one.has_share, one.granted_s = True, asked_s
        slots.grant(granted)
        if slots.in_use > granted:
            one.close_idle()
