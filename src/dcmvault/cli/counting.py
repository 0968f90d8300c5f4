"""How far a command came that cannot foretell its end: a line on stderr every few seconds."""

from __future__ import annotations

import time
from collections.abc import Callable

from dcmvault.cli.output import tell
from dcmvault.i18n import format_number, ngettext

_EVERY_S = 5.0


def tell_count() -> Callable[[int], None]:
    """Return what is told how many instances were looked at; short work needs no lines."""
    next_at = time.monotonic() + _EVERY_S

    def told(instances: int) -> None:
        nonlocal next_at
        if (now := time.monotonic()) < next_at:
            return
        next_at = now + _EVERY_S
        text = ngettext("%s instance looked at", "%s instances looked at", instances)
        tell(text % format_number(instances))

    return told
