"""The duty of tidying: memory that the work needed for a while does not stay with the daemon."""

from __future__ import annotations

from datetime import datetime, timedelta

from dcmvault.vault.freed_memory import give_back

_EACH = timedelta(minutes=1)


def tidy(now: datetime) -> datetime:
    """Give back what was freed; say when again.

    Many threads that allocate now and then leave holes: in days these come to tens of megabytes.
    """
    give_back()
    return now + _EACH
