"""The state of everything, in few words: what is protected, what is wrong, what comes next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from dcmvault.model.alert import Alert
from dcmvault.model.evidence import Level


@dataclass(frozen=True, slots=True)
class Protection:
    """What is at sources now, and how much of it is where it is asked to be.

    A study is protected where every instance of it is held at the asked level at all the
    destinations of its plan; where rules spread studies over these, at one of them.
    """

    studies: int = 0
    protected: int = 0
    bytes: int = 0
    protected_bytes: int = 0
    #: When a run first saw the one that is unprotected for the longest time; None for none.
    oldest_unprotected_at: datetime | None = None
    #: Studies by the number of destinations that hold them at the asked level.
    by_copies: Mapping[int, int] = field(default_factory=dict)
    #: Studies that are not to be backed up; they are in none of the other counts.
    excluded: int = 0

    @property
    def share(self) -> float | None:
        """The protected part of the studies, from 0 to 1; None where there are none."""
        return self.protected / self.studies if self.studies else None

    def __add__(self, other: Protection) -> Protection:
        oldest = [at for at in (self.oldest_unprotected_at, other.oldest_unprotected_at) if at]
        copies = dict(self.by_copies)
        for count, studies in other.by_copies.items():
            copies[count] = copies.get(count, 0) + studies
        return Protection(
            self.studies + other.studies,
            self.protected + other.protected,
            self.bytes + other.bytes,
            self.protected_bytes + other.protected_bytes,
            min(oldest, default=None),
            copies,
            self.excluded + other.excluded,
        )


@dataclass(frozen=True, slots=True)
class Debt:
    """What was sent and has no evidence of its level that is young enough."""

    studies: int = 0
    instances: int = 0
    bytes: int = 0


class Outcome(StrEnum):
    """How a run ended, or that it did not."""

    WHOLE = "whole"
    #: It ended, but not everything reached its level.
    INCOMPLETE = "incomplete"
    FAILED = "failed"
    CANCELLED = "cancelled"
    GOES_ON = "goes_on"


@dataclass(frozen=True, slots=True)
class RunBar:
    """One run as a bar of a strip."""

    run_id: str
    outcome: Outcome
    begun_at: datetime
    #: So far, of one that goes on.
    duration_s: float
    instances: int
    held: int
    bytes: int
    error_code: str = ""


@dataclass(frozen=True, slots=True)
class PlanCard:
    """A configured plan, its last runs (the oldest first), and when it is due."""

    name: str
    sources: tuple[str, ...]
    destinations: tuple[str, ...]
    runs: tuple[RunBar, ...]
    #: Of its enabled schedules; None where nothing starts it by itself.
    next_at: datetime | None
    #: By when it was to succeed, where it did not.
    overdue_since: datetime | None = None

    @property
    def last(self) -> RunBar | None:
        """The newest run."""
        return self.runs[-1] if self.runs else None


@dataclass(frozen=True, slots=True)
class Space:
    """The room of a disk in bytes, and in how many days it is full as it went lately."""

    free: int
    total: int
    full_in_days: float | None = None


class Place(StrEnum):
    """What kind of place keeps copies."""

    FOLDER = "folder"
    VAULT = "vault"
    CLOUD = "cloud"
    SFTP = "sftp"
    PACS = "pacs"
    DICOMWEB = "dicomweb"
    OTHER = "other"


class Pause(StrEnum):
    """Why a queue stands."""

    BY_HAND = "by_hand"
    WINDOW = "window"


@dataclass(frozen=True, slots=True)
class DestinationCard:
    """A destination: its room, its certificate, how it answers, and how old evidence is."""

    name: str
    place: Place
    #: None where nobody can tell: a PACS does not say.
    space: Space | None = None
    #: Bytes of sources that it holds by evidence; None where that was not counted yet.
    held_bytes: int | None = None
    #: Days until our certificate for it ends; None where it has none.
    certificate_days: float | None = None
    #: Seconds that the last look whether it answers took, and when that was.
    latency_s: float | None = None
    looked_at: datetime | None = None
    oldest_evidence_at: datetime | None = None
    down_since: datetime | None = None
    waiting: int = 0
    running: int = 0
    pause: Pause | None = None
    #: Copies that evidence says are missing or damaged.
    refuted: int = 0


class Verdict(StrEnum):
    """Whether a rule is kept."""

    KEPT = "kept"
    BROKEN = "broken"
    #: Nobody can say from what is known.
    UNKNOWN = "unknown"


class Basis(StrEnum):
    """What a verdict rests on."""

    EVIDENCE = "evidence"
    #: The configuration says so; nobody looked.
    CONFIGURATION = "configuration"
    NOTHING = "nothing"


class Rule(StrEnum):
    """The rules of 3-2-1-1-0."""

    COPIES = "copies"
    MEDIA = "media"
    OFF_SITE = "off_site"
    IMMUTABLE = "immutable"
    ERRORS = "errors"


@dataclass(frozen=True, slots=True)
class Ruling:
    """One rule: whether it is kept, by what it is known, and what was found.

    `found` counts copies, media, places or errors; `names` are of destinations.
    """

    rule: Rule
    verdict: Verdict
    basis: Basis
    found: int = 0
    names: tuple[str, ...] = ()


class NeedKind(StrEnum):
    """What needs somebody."""

    ALERT = "alert"
    RUN_FAILED = "run_failed"
    RUN_INCOMPLETE = "run_incomplete"
    REFUTED = "refuted"
    UNREADABLE = "unreadable"
    NO_DRILL = "no_drill"
    NEVER_RAN = "never_ran"
    UNTOLD = "untold"


class Verb(StrEnum):
    """The one thing to do about it."""

    LOOK_AT_RUN = "look_at_run"
    RUN_NOW = "run_now"
    TRY = "try"
    MAKE_ROOM = "make_room"
    VERIFY = "verify"
    LOOK_AT_SOURCE = "look_at_source"
    RENEW = "renew"
    LOOK_AT_WORK = "look_at_work"
    DRILL = "drill"
    TEST_CHANNEL = "test_channel"


@dataclass(frozen=True, slots=True)
class Need:
    """Something that needs somebody, and the one thing to do about it.

    `subject` is a configured name or a run's; `alert` is that of an alert. Never patient data.
    """

    kind: NeedKind
    verb: Verb
    subject: str
    #: Worse is higher.
    weight: int
    since: datetime | None = None
    count: int = 0
    critical: bool = False
    alert: Alert | None = None
    #: The run that it is about; empty for none.
    run_id: str = ""


class Standing(StrEnum):
    """The state of everything, in one word."""

    NOTHING_CONFIGURED = "nothing_configured"
    #: Somebody has to do something now.
    NEEDS_YOU = "needs_you"
    NEVER_RAN = "never_ran"
    WORKING = "working"
    #: All queues that have work stand.
    PAUSED = "paused"
    #: Nothing is wrong, and not everything is protected yet.
    BEHIND = "behind"
    #: Nothing is wrong; what is protected was not counted yet.
    COUNTING = "counting"
    ALL_WELL = "all_well"


@dataclass(frozen=True, slots=True)
class Proof:
    """The newest proof that studies come back: a drill or a restore, and whether it passed."""

    at: datetime
    place: str
    passed: bool
    is_drill: bool
    studies: int = 0


@dataclass(frozen=True, slots=True)
class Week:
    """Bytes that went to destinations in a week, by its Monday (UTC)."""

    begins_at: datetime
    bytes: int


@dataclass(frozen=True, slots=True)
class Occasion:
    """A run by its plan's name (empty for none) and its time."""

    plan: str
    at: datetime
    run_id: str = ""
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Overview:
    """Everything that the first page shows."""

    at: datetime
    standing: Standing
    #: None while it was never counted; then also `counted_at`.
    protection: Protection | None
    counted_at: datetime | None
    debt: Debt | None
    last: Occasion | None
    next: Occasion | None
    proof: Proof | None
    plans: tuple[PlanCard, ...]
    destinations: tuple[DestinationCard, ...]
    rulings: tuple[Ruling, ...]
    #: At most five, the worst first.
    needs: tuple[Need, ...]
    #: How many there are in all, and how many of them cannot wait.
    needs_in_all: int
    pressing: int
    critical: int
    #: Runs that go on.
    running: int
    weeks: tuple[Week, ...]
    #: Days until the first disk is full, and its name; None where none fills.
    full_in_days: tuple[str, float] | None = None
    #: Instances that are left of runs at work.
    instances_left: int = 0


@dataclass(frozen=True, slots=True)
class PlaceAsked:
    """A destination by its key (0: it was never sent to), and the level that is asked of it."""

    destination_id: int
    level: Level


@dataclass(frozen=True, slots=True)
class CopyCount:
    """What a destination is known to hold by evidence, and what evidence refuted."""

    held_bytes: int
    refuted: int


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run with its counters summed over destinations."""

    bar: RunBar
    kind: str
    source: str
    destinations: Sequence[str]
    finished_at: datetime | None
