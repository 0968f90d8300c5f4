"""Evidence: facts about copies, the levels that are policies over them, and open questions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Protocol

from dcmvault.model.identifiers import VersionId
from dcmvault.model.instance import InstanceFile, InstanceIdentity, UnreadableEntry


class Level(IntEnum):
    """Evidence levels in their order of trust; `NONE` means that nothing supports a holding."""

    NONE = 0
    SENT = 1
    PRESENT = 2
    COMPLETE = 3
    COMMITTED = 4
    PROVEN = 5

    @property
    def word(self) -> str:
        """The word used on the command line and in reports."""
        return self.name.lower()

    @classmethod
    def from_word(cls, word: str) -> Level:
        """Read the word of the command line; KeyError for another word."""
        return cls[word.upper()]


#: Code of an instance that is held although the destination wrote attributes of it itself.
COERCED = "coerced"


class Finding(StrEnum):
    """What verification found out about one instance at a destination."""

    HELD = "held"
    MISSING = "missing"
    DAMAGED = "damaged"
    #: The question could not be answered (time-out, no such query); never shown as held.
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ExpectedInstance:
    """One instance version that a destination should hold.

    `object_key` is what the destination's receipt called it (empty for a PACS);
    `file_sha256` is empty until the bytes were read once.
    """

    version_id: VersionId
    identity: InstanceIdentity
    size: int  #: bytes of the file at the source
    file_sha256: bytes = b""
    object_key: str = ""
    #: Empty where nobody read the file's header.
    sop_class_uid: str = ""


class Originals(Protocol):
    """The source's own files, for those who compare copies with them."""

    def files(
        self, instances: Sequence[ExpectedInstance]
    ) -> Iterator[tuple[ExpectedInstance, InstanceFile | UnreadableEntry]]:
        """Make files readable, one answer for each instance; a path is valid until the next.

        Nothing of the source is opened before the first is asked for.
        """
        ...


@dataclass(frozen=True, slots=True)
class ExpectedStudy:
    """All instances of one study (or all opaque files, with an empty UID) that should be held."""

    study_instance_uid: str
    instances: tuple[ExpectedInstance, ...]
    #: What they are copies of; None where nobody will compare.
    originals: Originals | None = None


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of looking at one study at one destination: evidence, with its raw proof.

    `findings` covers every expected instance. `extras` are SOP Instance UIDs that the
    destination holds beyond ours (reported, never a failure). `proof` is what the destination
    answered, JSON-able: counts, digests, statuses, how it was read. It has patient data only under
    `coercions`: old and new values of attributes that a PACS wrote itself.
    """

    level: Level
    study_instance_uid: str
    observed_at: datetime
    findings: Mapping[VersionId, Finding]
    proof: Mapping[str, object]
    extras: tuple[str, ...] = ()
    #: Explanations for instances that are not HELD.
    reasons: Mapping[VersionId, str] = field(default_factory=dict)
    #: HELD instances in which the destination wrote declared attributes itself: which, in words.
    coerced: Mapping[VersionId, str] = field(default_factory=dict)
