"""Alerts are news: each is told when it is raised, and when it is over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from dcmvault.model.alert import Alert, AlertChange, AlertCode, AlertEvent
from dcmvault.model.notice import Event, Notice, Severity
from dcmvault.ports.alerts import AlertNews

#: Told of by the plan itself, also where nobody monitors.
_TOLD_OTHERWISE = frozenset({AlertCode.RUN_OVERDUE})
_AT_ONCE = 100


@dataclass(slots=True)
class AlertReporter:
    """Posts what became of alerts, each change once: `post` keeps a notice of each name once."""

    news: AlertNews
    post: Callable[[Notice], None]
    #: The number of the last event that was looked at; a new process looks at all once more.
    _seen: int = 0

    def announce(self, since: datetime) -> None:
        """Post what happened since then, in order."""
        while events := self.news.alert_events(self._seen, _AT_ONCE):
            for event in events:
                if event.at >= since and event.alert.code not in _TOLD_OTHERWISE:
                    self.post(_notice(event))
            self._seen = events[-1].number

    def open_alerts(self) -> list[dict[str, object]]:
        """Return what is raised now, for digests, ready for JSON."""
        return [_facts(one) for one in self.news.open_alerts() if one.code not in _TOLD_OTHERWISE]


def _notice(event: AlertEvent) -> Notice:
    is_raised = event.change is AlertChange.RAISED
    alert = event.alert
    return Notice(
        f"alert_{event.change.value}:{alert.alert_id}",
        Event.ALERT if is_raised else Event.ALERT_CLEARED,
        Severity(alert.severity.value) if is_raised else Severity.INFO,
        event.at,
        facts={
            **_facts(alert),
            # The end of something critical is told to whom its begin was told.
            "severity": alert.severity.value,
            "figures": dict(event.figures),
        },
    )


def _facts(alert: Alert) -> dict[str, object]:
    return {
        "code": alert.code.value,
        "subject_kind": alert.subject.kind.value,
        "subject": alert.subject.name,
        "since": alert.raised_at.isoformat(),
    }
