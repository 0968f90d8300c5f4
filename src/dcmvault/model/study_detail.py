"""A study looked at closely: its series, every instance's copies, and what happened to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from dcmvault.model.evidence import Level
from dcmvault.model.instance import InstanceEntry
from dcmvault.model.report import AttributeCoercion
from dcmvault.model.study_matrix import StudyLine


@dataclass(frozen=True, slots=True)
class SeriesLine:
    """One series; instances and bytes are of all versions that were ever seen."""

    series_instance_uid: str
    modality: str
    series_number: str
    series_description: str
    body_part_examined: str
    instances: int
    bytes: int


@dataclass(frozen=True, slots=True)
class SnapshotLine:
    """A snapshot of a vault, taken by a run that brought something of the study there."""

    destination: str
    snapshot_id: str
    generation: int
    created_at: datetime
    run_id: str


@dataclass(frozen=True, slots=True)
class StudyDetail:
    """A study with its series, newest snapshots first. It has patient data."""

    line: StudyLine
    patient_birth_date: str
    patient_sex: str
    study_time: str
    institution_name: str
    series: tuple[SeriesLine, ...]
    snapshots: tuple[SnapshotLine, ...]
    #: What destinations wrote themselves in proven copies, by the destination's address.
    coercions: Mapping[str, tuple[AttributeCoercion, ...]]
    #: How many more there were than the proofs list, by the same address.
    coercions_left_out: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class CopyLine:
    """What is known of one version at one destination.

    `state` is sent, held, missing or damaged; empty where it never came to a receipt. `status` is
    the peer's raw one, of the receipt or of the last attempt; `code`, `message` and `hint` say
    what was worth a word at the last attempt.
    """

    destination: str
    state: str
    level: Level
    coerced: bool = False
    status: str = ""
    warning: str = ""
    code: str = ""
    message: str = ""
    hint: str = ""
    received_at: datetime | None = None
    verified_at: datetime | None = None
    run_id: str = ""


@dataclass(frozen=True, slots=True)
class LedgerLine:
    """One version of one instance, and its copies."""

    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    instance_number: int | None
    size: int
    file_sha256: str  #: hexadecimal; empty until it was read once
    #: Whether a source has it now.
    is_present: bool
    copies: tuple[CopyLine, ...]


@dataclass(frozen=True, slots=True)
class LedgerPlace:
    """Behind which instance a page of the ledger begins; keys of the catalogue."""

    series_key: int
    instance_key: int


@dataclass(frozen=True, slots=True)
class LedgerPage:
    """Some instances of a study, by series and by when they were seen first."""

    lines: tuple[LedgerLine, ...]
    next: LedgerPlace | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """The instance that stands for a series, and where its bytes are."""

    sop_instance_uid: str
    file_sha256: bytes  #: empty until it was read once
    size: int
    #: Addresses of sources that have it now, with the entry there.
    originals: tuple[tuple[str, InstanceEntry], ...]
    #: Addresses of destinations that hold it, or were sent it.
    copies: tuple[str, ...]


class TimelineKind(StrEnum):
    """What happened to a study."""

    SEEN = "seen"
    DELIVERED = "delivered"
    RESTORED = "restored"
    VERIFIED = "verified"
    #: Copies were found damaged or missing.
    REFUTED = "refuted"
    DRILLED = "drilled"


@dataclass(frozen=True, slots=True)
class TimelineEvent:
    """One thing that happened, as far as the catalogue still knows; `instances` of them so."""

    at: datetime
    kind: TimelineKind
    destination: str = ""
    run_id: str = ""
    level: Level = Level.NONE
    instances: int = 0
    not_held: int = 0
    problem: str = ""
