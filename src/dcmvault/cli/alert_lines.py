"""Alerts as `status` and `top` show them."""

from __future__ import annotations

from datetime import datetime

from dcmvault.cli.output import format_age
from dcmvault.model.alert import Alert
from dcmvault.reports.alert_words import alert_sentence, severity_word
from dcmvault.reports.escaping import visible


def alert_line(alert: Alert, now: datetime | None = None) -> str:
    """Say what is wrong, how bad it is and since when."""
    sentence = visible(alert_sentence(alert))
    return f"{severity_word(alert.severity)}: {sentence}, {format_age(alert.raised_at, now)}"
