"""Limits to how fast bytes may be sent, as those see them who send."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from dcmvault.model.job import Priority


class Pacer(Protocol):
    """Says when bytes may pass. Safe for several threads, which share what it allows."""

    @property
    def piece(self) -> int:
        """The bytes to send at once, an even number, so that they flow evenly."""
        ...

    def take(self, size: int) -> None:
        """Return when `size` more bytes may pass, however many they are.

        Every single wait is short, but all together last as long as the limit wants. The limit
        holds while work is being ended, too: what is on its way is not hurried then.
        Raises StateError when others share the limit and cannot be asked.
        """
        ...


class Pacing(Protocol):
    """The limits of one destination."""

    def pacer(self, priority: Priority) -> Pacer:
        """Return what paces work of this priority; all share the destination's limits."""
        ...

    def joint_pacer(self) -> Pacer:
        """Return what paces bytes that belong to several deliveries (a pack's).

        They are as urgent as the most urgent delivery at work, and NORMAL when there is none.
        """
        ...

    def at_work(self, priority: Priority) -> AbstractContextManager[None]:
        """Say that a delivery of this priority is at work, until the context is left."""
        ...


@dataclass(frozen=True, slots=True)
class Claim:
    """What a worker has of a limit: one of `holders` equal parts.

    `is_new` when it had none before.
    """

    holders: int
    is_new: bool


class BandwidthShares(Protocol):
    """Where workers that share a limit say that they use it."""

    def claim(self, limit: str, holder: str, lease_s: float) -> Claim:
        """Use a limit from now on, or longer, until `lease_s` seconds from now.

        Who claims too late has lost its part before somebody else is given it. Raises StateError.
        """
        ...

    def give_back(self, holder: str) -> None:
        """Use no limit any more, at once. Raises StateError."""
        ...
