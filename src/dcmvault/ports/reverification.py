"""What is known about the age of evidence: for whoever looks again, and for who must know."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import DestinationId, SourceId
from dcmvault.model.plan import PlanItem


class StudyAge(NamedTuple):
    """When the copies of one study were last looked at; a key of 0 means all opaque files.

    `looked_at` is the oldest time over its copies, None where one was never looked at: evidence of
    the level asked about or a higher one, or its refutation.
    """

    study_key: int
    looked_at: datetime | None


@dataclass(frozen=True, slots=True)
class VerificationDebt:
    """What a destination is said to hold without evidence of the asked level that is fresh."""

    studies: int
    instances: int
    bytes: int


@dataclass(frozen=True, slots=True)
class FactSummary:
    """Copies with a fact of one level, and when the oldest and newest of them was found."""

    instances: int
    oldest_at: datetime
    newest_at: datetime


class ReverificationCatalogue(Protocol):
    """Ages of evidence about what a source has and a destination took; counted by the database.

    What was never sent is no debt of verification: backup owes it.
    """

    def study_ages(
        self, source_id: SourceId, destination_id: DestinationId, level: Level
    ) -> Iterator[StudyAge]:
        """List the studies of which the destination took something, by key."""
        ...

    def expected_of(
        self, source_id: SourceId, destination_id: DestinationId, study_keys: Collection[int]
    ) -> Iterator[PlanItem]:
        """List every present version of these studies, as `PlanCatalogue.expected` does."""
        ...

    def debt(
        self,
        source_id: SourceId,
        destination_id: DestinationId,
        level: Level,
        fresh_since: datetime | None,
        now: datetime,
    ) -> VerificationDebt:
        """Count what lacks evidence of `level`, or has none since `fresh_since`.

        Evidence later than now is that of a wrong clock, and is none.
        """
        ...

    def facts(
        self, source_id: SourceId, destination_id: DestinationId
    ) -> Mapping[Level, FactSummary]:
        """Sum up which facts are known, by level; levels without any are left out."""
        ...
