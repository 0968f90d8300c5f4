"""How all is, in short: what the top of every page says."""

from __future__ import annotations

from dataclasses import dataclass

from dcmvault.app.status import recent_runs
from dcmvault.app.top import open_alerts
from dcmvault.app.wiring.workplace import Workplace
from dcmvault.model.alert import AlertSeverity
from dcmvault.model.report import RunState

#: Runs that are looked at: those that go on are among the newest.
_RUNS = 50
_GOING_ON = frozenset({RunState.PENDING, RunState.PLANNING, RunState.RUNNING})


@dataclass(frozen=True, slots=True)
class Glance:
    """How much needs somebody, and how much goes on."""

    critical: int
    warnings: int
    running: int

    @property
    def alerts(self) -> int:
        """Everything that needs somebody."""
        return self.critical + self.warnings


def glance(workplace: Workplace) -> Glance:
    """Look at what is raised and what goes on; quick, however much there is."""
    alerts = open_alerts(workplace)
    critical = sum(one.severity is AlertSeverity.CRITICAL for one in alerts)
    running = sum(one.state in _GOING_ON for one in recent_runs(workplace, _RUNS))
    return Glance(critical, len(alerts) - critical, running)
