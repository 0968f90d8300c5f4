"""The duty of tidying: memory that the work needed for a while does not stay with the daemon."""

from __future__ import annotations

import gc
from datetime import datetime, timedelta

from dcmvault.vault.freed_memory import give_back

_EACH = timedelta(minutes=1)


def tidy(now: datetime) -> datetime:
    """Free what nobody uses, and give back what is free; say when again.

    Statements of the database are rings of objects. Left to itself the collector waits until tens
    of megabytes of them lie about, and many threads that allocate now and then leave holes.
    """
    gc.collect()
    give_back()
    return now + _EACH
