"""Plans: what a run was asked to do, and what is due."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import VersionId
from dcmvault.model.instance import InstanceEntry, InstanceIdentity, InstanceKind
from dcmvault.model.job import Priority
from dcmvault.model.routing import MIRROR, Routing
from dcmvault.model.selection import EVERYTHING, Selection


class Strategy(StrEnum):
    """Which instances a run considers, per destination."""

    FULL = "full"
    INCREMENTAL = "incremental"
    DIFFERENTIAL = "differential"
    #: As INCREMENTAL, what matters most first.
    SMART = "smart"

    @property
    def considers_held(self) -> bool:
        """Whether what is held at the asked level may be due, too."""
        return self in (Strategy.FULL, Strategy.DIFFERENTIAL)


class RunKind(StrEnum):
    """What a run is for."""

    BACKUP = "backup"
    #: Raises or refutes evidence about what the destination should hold; sends nothing.
    VERIFY = "verify"
    #: Brings copies back: what is selected is delivered, and what is there is looked at again.
    RESTORE = "restore"

    @property
    def delivers(self) -> bool:
        """Whether such a run sends what is due."""
        return self is not RunKind.VERIFY


@dataclass(frozen=True, slots=True)
class Sample:
    """Which studies a verification looks at: those whose evidence is oldest, each as a whole.

    Without a share and a number all of them; with both, the fewer.
    """

    share: float = 0.0  #: of all studies, above 0 and at most 1
    studies: int = 0
    #: Only those without evidence that is younger than so many seconds.
    older_than_s: int = 0


@dataclass(frozen=True, slots=True)
class DestinationRequest:
    """One destination of a run and the level asked of it (the destination's default if None)."""

    address: str
    level: Level | None = None
    #: A verification looks at these studies only; None: at all.
    sample: Sample | None = None


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What a user asked for; two equal requests are the same work."""

    kind: RunKind
    source: str  #: address or configured name, made absolute
    destinations: tuple[DestinationRequest, ...]
    strategy: Strategy = Strategy.INCREMENTAL
    priority: Priority = Priority.NORMAL
    include_other_files: bool = False
    #: The part of the source that it is about.
    selection: Selection = EVERYTHING
    #: Which destinations get which study.
    routing: Routing = MIRROR
    #: Studies that go to each destination in this run, at most; 0: all that are due.
    max_studies: int = 0
    #: The source is taken as it is, however much of it changed or went at once.
    accept_changes: bool = False


#: Reason of an item whose copy was found damaged: only reading it back refutes that.
DAMAGED = "damaged"


@dataclass(frozen=True, slots=True)
class PlanItem:
    """One instance version that is due at one destination, and why.

    `held` means that it needs verification first, and no delivery unless that refutes the copy.
    `earlier_version_there` means that the destination holds older content under the same UID.
    """

    version_id: VersionId
    entry: InstanceEntry
    identity: InstanceIdentity
    kind: InstanceKind
    reason: str  #: new | changed | not_held | damaged | level | full | differential
    held: bool = False
    conflict: bool = False
    earlier_version_there: bool = False
    #: Non-empty for a file that claims to be DICOM and does not parse.
    opaque_reason: str = ""
    file_sha256: bytes = b""
    object_key: str = ""


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """Items of one series (slice) that travel together."""

    study_instance_uid: str
    series_instance_uid: str
    items: tuple[PlanItem, ...]
    priority: Priority = Priority.NORMAL
