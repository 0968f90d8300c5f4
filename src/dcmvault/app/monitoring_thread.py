"""Monitoring beside the work: one look each second, in a thread of its own."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from dcmvault.app.at_destinations import Probed
from dcmvault.app.monitoring import EACH, AtWork, MonitoredCatalogue, Monitoring, WorkProbes
from dcmvault.app.names import Names
from dcmvault.config.settings import Settings
from dcmvault.ports.clock import Clock
from dcmvault.telemetry.meter import ByteMeter

_log = logging.getLogger(__name__)

#: Seconds that the end waits for the last look, at most.
_GRACE_S = 2.0


class MonitoringThread(threading.Thread):
    """Looks each second while this process works. A daemon thread: the work never waits for it."""

    def __init__(
        self,
        home: Path,
        settings: Settings,
        catalogue: MonitoredCatalogue,
        meter: ByteMeter,
        at_work: AtWork,
        probed: Probed,
        clock: Clock,
    ) -> None:
        super().__init__(name="dcmvault-monitoring", daemon=True)
        self._clock = clock
        self._stopping = threading.Event()
        names = Names(settings, catalogue.status.destinations)
        probes = WorkProbes(home, settings, catalogue.work, names, meter, at_work, clock)
        self._monitoring = Monitoring(
            home, settings, catalogue, names, probes, at_work, probed, clock.now()
        )

    def run(self) -> None:
        """Look until the stop; then write what is left."""
        while True:
            is_last = self._stopping.is_set()
            now = self._clock.now()
            try:
                due = self._monitoring.look(now)
                if is_last:
                    self._monitoring.end(now)
            # Outermost frame of the thread: a defect in measuring must not end the work.
            except Exception:  # noqa: BLE001
                _log.exception("a look failed by a defect")
                due = now + 10 * EACH
            if is_last:
                return
            left_s = (due - self._clock.now()).total_seconds()
            self._stopping.wait(min(max(left_s, 0.05), 10.0))

    def stop(self) -> None:
        """End with a last look."""
        self._stopping.set()
        if self.ident is not None:
            self.join(_GRACE_S)
