"""Alerts: what needs somebody's attention, raised once and cleared once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class AlertCode(StrEnum):
    """What is wrong. Words of the API, of metrics and of notifications; stable."""

    #: Work runs, and for a set time no byte moved and nothing was settled.
    STALLED = "stalled"
    #: A disk has less free space than it should.
    DISK_LOW = "disk_low"
    #: At its present pace a disk will be full soon.
    DISK_FULL_FORECAST = "disk_full_forecast"
    #: The machine's processors are busy for a set time.
    CPU_HIGH = "cpu_high"
    #: A destination cannot be reached.
    DESTINATION_DOWN = "destination_down"
    #: A certificate ends soon, or has ended.
    CERTIFICATE_EXPIRING = "certificate_expiring"
    #: A plan had no success for longer than it may.
    RUN_OVERDUE = "run_overdue"
    #: Copies have no evidence that is young enough.
    VERIFICATION_DEBT = "verification_debt"
    #: Much of a source changed, or is gone, at once: its backups are held.
    SOURCE_HELD = "source_held"


class AlertSeverity(StrEnum):
    """How much it matters, least first."""

    WARNING = "warning"
    CRITICAL = "critical"


class SubjectKind(StrEnum):
    """What kind of thing an alert, or a sample, is about."""

    MACHINE = "machine"
    #: A file system; by the part that it plays: `state`, `spool`, or a destination's name.
    DISK = "disk"
    DESTINATION = "destination"
    SOURCE = "source"
    PLAN = "plan"
    RUN = "run"
    #: By the section of the configuration that names it: `listener`, `destinations.pacs`.
    CERTIFICATE = "certificate"


@dataclass(frozen=True, slots=True, order=True)
class Subject:
    """Whom or what it is about.

    `name` is a configured name where there is one, else `#` and the catalogue's number; never an
    address, because a path may name a patient.
    """

    kind: SubjectKind
    name: str = ""


@dataclass(frozen=True, slots=True)
class Alert:
    """Something that is wrong, since when, and until when.

    `figures` are numbers and codes, ready for JSON; never patient data.
    """

    alert_id: int
    code: AlertCode
    subject: Subject
    severity: AlertSeverity
    raised_at: datetime
    cleared_at: datetime | None = None
    figures: Mapping[str, float | int | str] = field(default_factory=dict)


class AlertChange(StrEnum):
    """What became of an alert."""

    RAISED = "raised"
    CLEARED = "cleared"


@dataclass(frozen=True, slots=True)
class AlertEvent:
    """An alert was raised or cleared; `number` grows from event to event.

    `figures` are those of that moment.
    """

    number: int
    change: AlertChange
    at: datetime
    alert: Alert
    figures: Mapping[str, float | int | str] = field(default_factory=dict)
