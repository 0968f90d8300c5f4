"""Run reports: what a run did, counted by destination, with every failure named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from dcmvault.errors import VaultSetBackError
from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import RunId
from dcmvault.model.plan import RunRequest
from dcmvault.model.routing import Diversion


class Privacy(StrEnum):
    """How much patient data a report shows."""

    OFF = "off"
    #: Patient IDs, no names.
    IDS = "ids"
    FULL = "full"


class RunState(StrEnum):
    """The life of a run."""

    PENDING = "pending"
    PLANNING = "planning"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Counts:
    """Instances by what became of them (at one destination, or summed over several)."""

    selected: int = 0
    already_held: int = 0
    stored: int = 0
    failed: int = 0
    unreadable: int = 0
    conflicts: int = 0

    @property
    def short(self) -> int:
        """Instances that are known not to have reached their level."""
        return self.failed + self.unreadable + self.conflicts

    @property
    def total(self) -> int:
        """Instances in all: due and held already, and what planning could not read (never due)."""
        return max(self.selected, self.stored + self.short) + self.already_held

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.selected + other.selected,
            self.already_held + other.already_held,
            self.stored + other.stored,
            self.failed + other.failed,
            self.unreadable + other.unreadable,
            self.conflicts + other.conflicts,
        )


@dataclass(frozen=True, slots=True)
class Failure:
    """One instance that did not reach the asked level, and what to do about it.

    `locator` may contain patient data: it is shown on the operator's own screen only.
    """

    sop_instance_uid: str
    study_instance_uid: str
    destination: str
    code: str
    status: str
    message: str
    hint: str = ""
    locator: str = ""


@dataclass(frozen=True, slots=True)
class DestinationReport:
    """One destination's part of a run."""

    name: str
    address: str
    level: Level
    counts: Counts
    source_bytes: int
    transferred_bytes: int
    #: The snapshot that the run took here; None where none was taken, or it was forgotten since.
    snapshot: str | None = None
    #: Why no snapshot could be taken: (code, message, hint).
    snapshot_failure: tuple[str, str, str] | None = None
    #: Seconds by stage at this destination; empty of runs from before they were written down.
    stages: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_set_back(self) -> bool:
        """Whether it lost snapshots: what it held from before may be gone, too."""
        code = VaultSetBackError.code
        return self.snapshot_failure is not None and self.snapshot_failure[0] == code


@dataclass(frozen=True, slots=True)
class AttributeCoercion:
    """An attribute, as (gggg,eeee), that a destination wrote itself in copies of a study.

    Values are patient data; None is no attribute.
    """

    attribute: str
    old: str | None
    new: str | None
    instances: int


@dataclass(frozen=True, slots=True)
class StudyReport:
    """One study at one destination, as evidence stands when the report is assembled."""

    study_instance_uid: str
    destination: str
    modalities: str
    study_date: str
    instances: int
    held: int
    level: Level
    verified_at: datetime | None
    #: Patient data; renderers drop it unless asked.
    patient_name: str = ""
    patient_id: str = ""
    study_description: str = ""
    #: What the proof lists; renderers drop values unless asked.
    coercions: tuple[AttributeCoercion, ...] = ()
    #: How many more there are, which no proof lists: a proof's list is limited.
    coercions_left_out: int = 0
    #: When it was last restored from there to scratch, and proven.
    drilled_at: datetime | None = None
    #: Levels of which every instance has evidence, each with the oldest of its times: facts are
    #: independent, and a weaker one may be newer.
    facts: Mapping[Level, datetime] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunReport:
    """Everything a summary or a report shows about one run."""

    run_id: RunId
    request: RunRequest
    state: RunState
    started_at: datetime
    finished_at: datetime | None
    destinations: tuple[DestinationReport, ...]
    studies: int
    not_dicom: int
    exit_status: int
    #: Instances that the source had before and has no more; their copies are kept.
    gone: int = 0
    stages: Mapping[str, float] = field(default_factory=dict)  #: seconds by stage
    failures: tuple[Failure, ...] = ()
    #: Sentences about the run as a whole.
    warnings: tuple[str, ...] = ()
    #: Instances that reached their level although something about them is worth a word: a file
    #: that does not parse, truncated pixel data, a status with a warning.
    warned: tuple[Failure, ...] = ()
    study_reports: tuple[StudyReport, ...] = ()
    #: Studies that went elsewhere, because their destination could not be reached.
    diversions: tuple[Diversion, ...] = ()
    #: When `study_reports` were asked for: they say how evidence stands, not how it stood.
    assembled_at: datetime | None = None
    #: Set when the run ended by an error of its own: (code, message, hint).
    error: tuple[str, str, str] | None = None

    @property
    def counts(self) -> Counts:
        """Counts summed over destinations: one instance for two destinations counts twice."""
        total = Counts()
        for destination in self.destinations:
            total = total + destination.counts
        return total
