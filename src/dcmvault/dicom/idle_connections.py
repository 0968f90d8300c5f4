"""HTTP connections that stay open between deliveries: making one costs several round trips."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from dcmvault.dicom.http_connection import HttpConnection, HttpPeer
from dcmvault.ports.clock import Clock

#: Longer than between two batches; a service that waits less long ends them itself.
_IDLE_S = 5.0


@dataclass(slots=True)
class IdleConnections:
    """Idle connections to one service. Safe for threads."""

    clock: Clock
    _idle: list[tuple[HttpConnection, float]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _reaper: threading.Timer | None = None

    def standing(self) -> int:
        """Count them."""
        with self._lock:
            return len(self._idle)

    def take(self, peer: HttpPeer) -> HttpConnection:
        """Return the connection that waited least, or one that is not made yet."""
        with self._lock:
            return self._idle.pop()[0] if self._idle else HttpConnection(peer)

    def keep(self, connection: HttpConnection) -> None:
        """Keep a connection on which nothing is in flight, for a few seconds."""
        if not connection.stands:
            return
        with self._lock:
            self._idle.append((connection, self.clock.monotonic()))
            self._watch()

    def close(self) -> None:
        """Close them all."""
        with self._lock:
            idle, self._idle = self._idle, []
            reaper, self._reaper = self._reaper, None
        if reaper is not None:
            # Else its thread would wait for nothing.
            reaper.cancel()
        for connection, _since in idle:
            connection.close()

    def _watch(self) -> None:
        if self._reaper is None:
            self._reaper = threading.Timer(_IDLE_S, self._reap)
            self._reaper.daemon = True
            self._reaper.start()

    def _reap(self) -> None:
        with self._lock:
            if threading.current_thread() is not self._reaper:
                return
            self._reaper = None
            before = self.clock.monotonic() - _IDLE_S
            old = [connection for connection, since in self._idle if since <= before]
            self._idle = [one for one in self._idle if one[1] > before]
            if self._idle:
                self._watch()
        for connection in old:
            connection.close()
