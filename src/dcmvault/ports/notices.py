"""The outbox: notices that were not told yet, kept until they are."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from dcmvault.model.identifiers import RunId
from dcmvault.model.notice import Notice


class DeliveryState(StrEnum):
    """Where the telling of a notice on one channel stands."""

    WAITING = "waiting"
    SENT = "sent"
    #: It was tried for so long that nobody would thank for it any more.
    GIVEN_UP = "given_up"
    #: A newer one says more than this one.
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One notice for one channel."""

    delivery_id: int
    channel: str
    notice: Notice
    state: DeliveryState
    #: Attempts that were made.
    attempts: int
    next_at: datetime | None
    #: Why the last attempt failed: a code, and a sentence in English.
    code: str = ""
    message: str = ""
    sent_at: datetime | None = None
    #: Of the channel's recipients those who are still to be told; empty: all.
    recipients_left: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ChannelState:
    """What a channel was told, and what it still is to be told."""

    channel: str
    waiting: int
    sent: int
    given_up: int
    last_sent_at: datetime | None
    last_given_up_at: datetime | None
    #: Of the newest delivery that failed and was not sent since.
    code: str = ""
    message: str = ""


class NoticeBook(Protocol):
    """Keeps notices, and how far each channel was told. Every write is durable on return."""

    def post(self, notice: Notice, channels: Sequence[str]) -> bool:
        """Keep a notice for these channels; False if one of this id is kept already."""
        ...

    def take_due(
        self, now: datetime, until: datetime, *, but: Collection[str] = (), limit: int = 100
    ) -> list[Delivery]:
        """Return waiting deliveries whose time has come, oldest first, and lease them `until` then.

        Nobody else is given them before: a sender that dies leaves them to the next one. Those
        of the channels in `but` are left alone.
        """
        ...

    def settle(
        self,
        delivery_id: int,
        state: DeliveryState,
        now: datetime,
        *,
        next_at: datetime | None = None,
        code: str = "",
        message: str = "",
        attempted: bool = True,
        recipients_left: tuple[str, ...] = (),
    ) -> None:
        """Write down how an attempt ended: sent, given up, or waiting until `next_at`.

        With `recipients_left` only these wait, from then on; without, whoever waited before does.
        What is sent with a `code` was not sent to everybody.
        """
        ...

    def next_due(self, *, but: Collection[str] = ()) -> datetime | None:
        """Return when the next delivery is to be tried; None if none waits.

        Those of the channels in `but` do not count.
        """
        ...

    def channel_states(self) -> list[ChannelState]:
        """Sum up every channel that ever had a notice, by name."""
        ...

    def mark(self, name: str, at: datetime) -> None:
        """Remember a moment under a name, in the place of an earlier one."""
        ...

    def marks(self) -> Mapping[str, datetime]:
        """Return all moments by their names."""
        ...

    def unmark(self, name: str) -> None:
        """Forget a moment."""
        ...


@dataclass(frozen=True, slots=True)
class Protection:
    """How many studies are at sources, and how many of them have no verified copy anywhere."""

    studies: int
    unprotected: int
    #: When the one was first seen that is without a copy for the longest time; None for none.
    oldest_unprotected: datetime | None


class NewsCatalogue(Protocol):
    """What is asked of the catalogue to have something to tell."""

    def forget_notices(self, before: datetime) -> None:
        """Forget notices from before then, some at a time, of which no channel is to be told."""
        ...

    def untold_runs(self, since: datetime, limit: int = 100) -> list[RunId]:
        """List runs that ended since then, and of which no end is kept."""
        ...

    def latest_end(
        self, source: str, destinations: Sequence[str], *, good: bool = False
    ) -> tuple[RunId, datetime] | None:
        """Return the newest backup from there to at least these that ended; None for none.

        With `good` the newest with which all that the source could give reached its level.
        """
        ...

    def ended_since(self, since: datetime) -> list[Notice]:
        """Return the notices of ends of runs since then, oldest first."""
        ...

    def protection(self) -> Protection:
        """Count the studies that are at sources now, each once, and those without a copy."""
        ...
