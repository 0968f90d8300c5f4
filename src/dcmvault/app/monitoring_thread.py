"""Monitoring beside the work: one look each second, in a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from dcmvault.app.at_destinations import Probed
from dcmvault.app.monitoring import AtWork, MonitoredCatalogue, Monitoring, Others, WorkProbes
from dcmvault.app.names import Names
from dcmvault.config.settings import Settings
from dcmvault.ports.clock import Clock
from dcmvault.telemetry.meter import ByteMeter

_log = logging.getLogger(__name__)

#: Seconds that the end waits for the last look, at most.
_GRACE_S = 2.0
_SHORTEST_WAIT_S, _LONGEST_WAIT_S = 0.05, 10.0


class MonitoringThread(threading.Thread):
    """Looks each second while this process works. A daemon thread: the work never waits for it.

    It begins anew when the settings are others: that changes nothing about what is raised.
    """

    def __init__(
        self,
        home: Path,
        settings: Callable[[], Settings],
        catalogue: MonitoredCatalogue,
        meter: ByteMeter,
        at_work: AtWork,
        probed: Probed,
        clock: Clock,
        others: Others | None = None,
    ) -> None:
        super().__init__(name="dcmvault-monitoring", daemon=True)
        self._home = home
        self._settings = settings
        self._catalogue = catalogue
        self._meter = meter
        self._at_work = at_work
        self._probed = probed
        self._clock = clock
        self._others = others
        self._began = clock.now()
        self._stopping = threading.Event()

    def run(self) -> None:
        """Look until the stop; then write what is left."""
        while True:
            try:
                self._watch()
            # Outermost frame of the thread: a defect in measuring must not end the work.
            except Exception:  # noqa: BLE001
                _log.exception("monitoring failed by a defect, and begins anew")
                self._stopping.wait(_LONGEST_WAIT_S)
            if self._stopping.is_set():
                return

    def monitoring(self, settings: Settings) -> Monitoring:
        """Make what looks, by these settings."""
        names = Names(settings, self._catalogue.status.destinations)
        probes = WorkProbes(
            self._home,
            settings,
            self._catalogue.work,
            names,
            self._meter,
            self._at_work,
            self._clock,
            self._others,
        )
        return Monitoring(
            self._home,
            settings,
            self._catalogue,
            names,
            probes,
            self._at_work,
            self._probed,
            self._began,
            self._others,
        )

    def _watch(self) -> None:
        """Look as long as the settings are the same, and once more at the end."""
        settings = self._settings()
        monitoring = self.monitoring(settings)
        while self._settings() is settings:
            is_last = self._stopping.is_set()
            due = monitoring.look(self._clock.now())
            if is_last:
                break
            left_s = (due - self._clock.now()).total_seconds()
            self._stopping.wait(min(max(left_s, _SHORTEST_WAIT_S), _LONGEST_WAIT_S))
        monitoring.end(self._clock.now())

    def stop(self) -> None:
        """End with a last look."""
        self._stopping.set()
        if self.ident is not None:
            self.join(_GRACE_S)
