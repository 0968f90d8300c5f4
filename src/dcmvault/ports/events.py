"""What happens while a daemon runs, told to whoever listens."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol


class Topic(StrEnum):
    """What an event is about."""

    #: A run began, went on or ended.
    RUN = "run"
    #: Queues: what waits, what runs, what is paused.
    QUEUE = "queue"
    #: What goes on at destinations: rates, what is left, until when; at most once a second.
    LANE = "lane"
    #: Something needs somebody's attention, or no longer does.
    ALERT = "alert"
    #: The daemon itself: it works, it read its configuration anew.
    STATUS = "status"


class Announcements(Protocol):
    """Takes events. Safe for threads; never waits and never fails, whoever listens."""

    def announce(self, topic: Topic, data: Mapping[str, object]) -> None:
        """Tell all listeners; `data` is JSON-able, small, and holds no patient data."""
        ...
