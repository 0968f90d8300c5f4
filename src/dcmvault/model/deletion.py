"""May an original be deleted: what is known of a study and its copies, what is asked, the answer.

dcmvault never deletes at a source. It says what the person who does can rely on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType

from dcmvault.model.evidence import Level


@dataclass(frozen=True, slots=True)
class DeletionPolicy:
    """What is asked of a study's copies before its original may be deleted.

    A copy counts if its destination holds every instance at its level, on evidence that is not
    too old, of copies that are old enough.
    """

    #: Destinations whose copies count.
    copies: int = 2
    level: Level = Level.PROVEN
    #: By canonical address, where another level is asked there.
    levels: Mapping[str, Level] = field(default_factory=lambda: MappingProxyType({}))
    #: How many of these copies nobody can remove now (Object Lock).
    immutable: int = 0
    evidence_max_age: timedelta = timedelta(days=90)
    min_age: timedelta = timedelta(days=7)
    #: A source whose listing does not show what changed in place is not believed.
    require_unchanged: bool = True

    def level_at(self, destination: str) -> Level:
        """Return the level that is asked of a destination."""
        return self.levels.get(destination, self.level)


@dataclass(frozen=True, slots=True)
class HeldPart:
    """Instances of a study that one destination holds at exactly one level."""

    level: Level
    instances: int
    oldest_evidence_at: datetime | None = None
    newest_copy_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class CopyFacts:
    """What is known of a study at one destination; the parts make up all of its instances."""

    destination: str  #: canonical address
    parts: tuple[HeldPart, ...] = ()
    #: Until when nobody can remove it; None where it can be removed, or that is not known.
    immutable_until: datetime | None = None
    #: What two addresses of one place have in common; empty: the address.
    place: str = ""
    #: A vault that lists fewer instances of it now than evidence was given of.
    is_listed_no_more: bool = False

    @property
    def instances(self) -> int:
        """Instances that should be there."""
        return sum(part.instances for part in self.parts)

    def held(self, level: Level) -> list[HeldPart]:
        """Return the parts that are held at a level or above."""
        return [part for part in self.parts if part.level >= level]


@dataclass(frozen=True, slots=True)
class StudyFacts:
    """What is known of a study at its source, just now, and of its copies."""

    study_instance_uid: str
    study_date: str = ""
    modalities: str = ""
    #: Different contents that the source has of it.
    instances: int = 0
    bytes: int = 0
    #: Instances that are other than what was backed up of them, and not backed up since.
    changed: int = 0
    #: Files of it that could not be read.
    unreadable: int = 0
    #: SOP Instance UIDs under which the source has different contents.
    conflicts: int = 0
    copies: tuple[CopyFacts, ...] = ()


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What is true of a source as a whole, and so of each of its studies."""

    source: str
    #: Whether looking at a listing tells that an instance was replaced by another of its UID.
    shows_changes: bool = True
    lists_all: bool = True
    #: Files whose study nobody knows: it may be any. They could not be read, or are no valid DICOM
    #: and held nowhere.
    unplaced: int = 0
    #: By Study Instance UID: destinations at which it is under legal hold.
    holds: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    #: Vaults that could not be asked for legal holds and locks.
    unasked: tuple[str, ...] = ()
    #: Vaults that lost snapshots: evidence from before may be of what is there no more.
    set_back: tuple[str, ...] = ()
    #: Destinations that are the source itself, inside it or around it, or may be.
    at_source: tuple[str, ...] = ()


class NotYet(StrEnum):
    """Why an original should not be deleted yet."""

    ABSENT = "absent"
    UNREADABLE = "unreadable"
    UNPLACED = "unplaced"
    LISTING_INCOMPLETE = "listing_incomplete"
    CONFLICT = "conflict"
    CHANGED = "changed"
    CHANGES_UNSEEN = "changes_unseen"
    LEGAL_HOLD = "legal_hold"
    VAULT_UNASKED = "vault_unasked"
    TOO_FEW_COPIES = "too_few_copies"
    NOT_HELD = "not_held"
    AT_SOURCE = "at_source"
    SET_BACK = "set_back"
    LISTED_NO_MORE = "listed_no_more"
    EVIDENCE_TOO_OLD = "evidence_too_old"
    BACKED_UP_TOO_LATELY = "backed_up_too_lately"
    NOT_IMMUTABLE = "not_immutable"


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason, with its figures: `count` of `wanted`, at a destination where it is about one."""

    kind: NotYet
    destination: str = ""
    count: int = 0
    wanted: int = 0
    level: Level = Level.NONE


@dataclass(frozen=True, slots=True)
class DeletionVerdict:
    """The answer about one study: every reason why not yet, and the copies that count."""

    facts: StudyFacts
    reasons: tuple[Reason, ...]
    counting: tuple[str, ...]

    @property
    def is_safe(self) -> bool:
        """Whether the policy is fulfilled."""
        return not self.reasons


@dataclass(frozen=True, slots=True)
class SourceVerdicts:
    """The answers about one source, looked at when `looked_at` says."""

    facts: SourceFacts
    looked_at: datetime
    verdicts: tuple[DeletionVerdict, ...] = ()
    #: Why it could not be looked at: (code, message, hint). Then there are no answers.
    error: tuple[str, str, str] | None = None

    @property
    def safe(self) -> int:
        """Studies whose originals may be deleted."""
        return sum(verdict.is_safe for verdict in self.verdicts)

    def by_reason(self) -> Mapping[NotYet, int]:
        """Count the studies that each kind of reason is about, most first."""
        counts = Counter(
            kind
            for verdict in self.verdicts
            for kind in NotYet
            if any(reason.kind is kind for reason in verdict.reasons)
        )
        ordered = sorted(NotYet, key=lambda kind: -counts[kind])
        return {kind: counts[kind] for kind in ordered if counts[kind]}


@dataclass(frozen=True, slots=True)
class DeletionReport:
    """What was asked, and the answers for each source."""

    policy: DeletionPolicy
    sources: tuple[SourceVerdicts, ...]
    #: Studies that were asked about by name.
    named: tuple[str, ...] = ()

    @property
    def exit_status(self) -> int:
        """3 if a source could not be looked at, or a named study is not safe; else 0.

        That some studies are not yet safe is an answer, not a failure.
        """
        failed = any(one.error is not None for one in self.sources)
        refused = bool(self.named) and any(
            not verdict.is_safe for one in self.sources for verdict in one.verdicts
        )
        return 3 if failed or refused else 0
