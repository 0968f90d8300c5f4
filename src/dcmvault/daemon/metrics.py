"""The least that is measured: that the daemon works, since when, and what waits."""

from __future__ import annotations

from datetime import datetime

from dcmvault import __version__
from dcmvault.app.wiring.workplace import Workplace


class DaemonMetrics:
    """Implements `ports.metrics.Metrics` with what the daemon knows of itself."""

    def __init__(self, workplace: Workplace, started_at: datetime) -> None:
        self._workplace = workplace
        self._started_at = started_at

    def render(self) -> str:
        """Return the figures; destinations are numbered as in the catalogue, never named."""
        lines = [
            "# HELP dcmvault_info The version that runs.",
            "# TYPE dcmvault_info gauge",
            f'dcmvault_info{{version="{__version__}"}} 1',
            "# HELP dcmvault_start_time_seconds When the daemon started (Unix time).",
            "# TYPE dcmvault_start_time_seconds gauge",
            f"dcmvault_start_time_seconds {self._started_at.timestamp():.3f}",
            "# HELP dcmvault_working Whether this process does the work.",
            "# TYPE dcmvault_working gauge",
            f"dcmvault_working {int(self._workplace.working)}",
            "# HELP dcmvault_queue_items What waits or runs in a destination's queue.",
            "# TYPE dcmvault_queue_items gauge",
        ]
        for state in self._workplace.queue.queues():
            label = f'destination="{state.destination_id}"'
            lines.append(f'dcmvault_queue_items{{{label},state="waiting"}} {state.waiting}')
            lines.append(f'dcmvault_queue_items{{{label},state="running"}} {state.running}')
        return "\n".join(lines) + "\n"
