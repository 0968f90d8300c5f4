"""Notices: what is worth telling somebody who is not looking, and the message made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class Event(StrEnum):
    """What happened. Words of the configuration and of webhooks; stable."""

    RUN_STARTED = "run_started"
    #: A run ended, and everything reached its level.
    RUN_OK = "run_ok"
    #: A run ended, and something did not reach its level.
    RUN_INCOMPLETE = "run_incomplete"
    #: A run ended by an error, or was cancelled.
    RUN_FAILED = "run_failed"
    ALERT = "alert"
    ALERT_CLEARED = "alert_cleared"
    #: A plan had no success for longer than it may.
    OVERDUE = "overdue"
    OVERDUE_CLEARED = "overdue_cleared"
    DIGEST = "digest"
    WEEKLY = "weekly"
    TEST = "test"

    @property
    def subscription(self) -> Event:
        """Return the event that a channel asks for to get this one: the end goes with its begin."""
        return _ENDS.get(self, self)

    @property
    def is_about_a_run(self) -> bool:
        """Whether a run is told of."""
        return self.value.startswith("run_")


_ENDS = {Event.ALERT_CLEARED: Event.ALERT, Event.OVERDUE_CLEARED: Event.OVERDUE}


class Severity(StrEnum):
    """How much it matters, least first."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """Its place, from 0."""
        return list(Severity).index(self)


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that happened, as it is kept until every channel was told.

    `facts` are figures, codes and configured names, ready for JSON: never patient data, and
    never what may contain it, such as paths.
    """

    #: Names the happening, not the attempt to tell of it: who gets it twice knows it by that.
    notice_id: str
    event: Event
    severity: Severity
    at: datetime
    plan: str = ""
    run_id: str = ""
    facts: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that goes with a message."""

    name: str
    media_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Message:
    """A notice in the words of one channel's language, with what its privacy allows."""

    notice: Notice
    subject: str
    text: str
    #: A whole page; empty where the text says it all.
    html: str = ""
    #: The same for programs, ready for JSON.
    body: Mapping[str, object] = field(default_factory=dict)
    attachments: tuple[Attachment, ...] = ()
    #: Of a channel's recipients those who have not got it yet; empty: all.
    only_for: tuple[str, ...] = ()
