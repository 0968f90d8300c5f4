"""Where alerts are kept, and how others hear of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from dcmvault.model.alert import Alert, AlertCode, AlertEvent, AlertSeverity, Subject


class AlertNews(Protocol):
    """Hears of alerts: for who tells people."""

    def open_alerts(self) -> list[Alert]:
        """List what is raised now, critical ones first, then the oldest."""
        ...

    def alert_events(self, after: int, limit: int = 100) -> list[AlertEvent]:
        """List what was raised and cleared, each once, in order, from the one after that number.

        Who remembers the last number it was given misses none and is told none twice.
        """
        ...

    def last_alert_event(self) -> int:
        """Return the number of the newest event; 0 for none."""
        ...


class AlertBook(AlertNews, Protocol):
    """Keeps alerts. Every write is durable on return."""

    def raise_alert(
        self,
        code: AlertCode,
        subject: Subject,
        severity: AlertSeverity,
        at: datetime,
        figures: Mapping[str, float | int | str],
    ) -> Alert:
        """Write down that something is wrong; what is raised already stays as it is."""
        ...

    def clear_alert(
        self,
        code: AlertCode,
        subject: Subject,
        at: datetime,
        figures: Mapping[str, float | int | str],
    ) -> None:
        """Write down that it is over; harmless where it is not raised."""
        ...

    def alert_history(self, limit: int = 100) -> list[Alert]:
        """List alerts, newest first, also those that are over."""
        ...

    def forget_alerts(self, before: datetime) -> None:
        """Forget what was cleared before that time, with its events."""
        ...
