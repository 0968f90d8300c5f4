"""Where it is written down who did what, and who accessed what."""

from __future__ import annotations

from typing import Protocol

from dcmvault.model.access import Access
from dcmvault.model.audit import AuditEvent


class AccessJournal(Protocol):
    """Takes note of every access. Safe for several threads."""

    def record(self, access: Access) -> None:
        """Write one access down. Never raises: an archive serves in a disaster, on a full disk too.

        What could not be written is said in the log.
        """
        ...


class AuditJournal(Protocol):
    """Takes note of what people, peers and services do. Safe for several threads and processes."""

    def record(self, event: AuditEvent) -> bool:
        """Write one event down, durably; False (and a word in the log) where that failed.

        Never raises: work that protects studies goes on without a journal.
        """
        ...
