"""Lengths of time on the command line: 30m, 24h, 30d, 8w, 2y."""

from __future__ import annotations

import re
from datetime import timedelta

from dcmvault.errors import UsageError
from dcmvault.i18n import gettext as _

_DURATION = re.compile(r"(\d{1,5})\s*(m|h|d|w|y)?\Z", re.IGNORECASE)
_UNITS = {
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
    "y": timedelta(days=365.25),
}


def read_duration(text: str) -> timedelta:
    """Read a number and a unit (0 needs none); UsageError for anything else."""
    found = _DURATION.match(text.strip())
    if found is None or (not found[2] and int(found[1])):
        raise UsageError(
            _("“%s” is no length of time.") % text,
            hint=_("Write for example 30m, 24h, 30d, 8w or 2y."),
        )
    return int(found[1]) * _UNITS[(found[2] or "d").lower()]
