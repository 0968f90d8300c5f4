"""Where it is written down who accessed what."""

from __future__ import annotations

from typing import Protocol

from dcmvault.model.access import Access


class AccessJournal(Protocol):
    """Takes note of every access. Safe for several threads."""

    def record(self, access: Access) -> None:
        """Write one access down. Never raises: an archive serves in a disaster, on a full disk too.

        What could not be written is said in the log.
        """
        ...
