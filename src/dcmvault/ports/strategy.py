"""What smart planning and routing ask of the catalogue, and write there."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from dcmvault.model.classification import StudyFacts
from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import DestinationId, RunId, SourceId
from dcmvault.model.learning import LessonKind
from dcmvault.model.plan import Strategy
from dcmvault.model.selection import EVERYTHING, Selection


class StudyFactsCatalogue(Protocol):
    """What is known of studies, by their keys; 0 is the key of files that are no instances."""

    def due_studies(
        self,
        source_id: SourceId,
        destination_id: DestinationId,
        *,
        strategy: Strategy,
        level: Level,
        run_id: RunId | None,
        selection: Selection = EVERYTHING,
    ) -> Sequence[int]:
        """List the keys of the studies that may be due, ascending, as `PlanCatalogue.due` says.

        One question to the database. A study of which another content stands for everything that
        seems due may be among them.
        """
        ...

    def study_facts(
        self, study_keys: Sequence[int], source_id: SourceId | None = None
    ) -> Mapping[int, StudyFacts]:
        """Look up studies by key; sizes are those at the source, or at all of them.

        Unknown keys are left out; key 0 has no facts but its size.
        """
        ...

    def study_key(self, study_instance_uid: str) -> int | None:
        """Return the key of a study; None for an unknown one."""
        ...

    def selected_studies(self, selection: Selection) -> Sequence[int]:
        """List the keys of the studies that are meant, or of whose series one is, ascending.

        Files that are no instances are not among them.
        """
        ...

    def newest_studies(self, limit: int) -> Sequence[int]:
        """List the keys of the studies that were seen first most recently."""
        ...


class LessonBook(Protocol):
    """What people did to single studies."""

    def record_lesson(self, kind: LessonKind, studies: Collection[str], at: datetime) -> int:
        """Write down what was done to studies (UIDs); return how many of them are known.

        A study counts once for each kind, with the latest time.
        """
        ...

    def lessons(self) -> Mapping[int, Mapping[LessonKind, datetime]]:
        """Return what was done to studies, by their keys."""
        ...

    def forget_lessons(self) -> int:
        """Forget everything; return how many studies it was about."""
        ...


@dataclass(frozen=True, slots=True)
class RouteTaken:
    """A study that goes to a destination; `instead_of` another one, in a failover."""

    study_instance_uid: str
    destination_id: DestinationId
    instead_of: DestinationId | None = None
    why: str = ""


class RouteBook(Protocol):
    """Where studies went that had several places to go to."""

    def chosen(self, studies: Collection[str]) -> Mapping[str, Sequence[DestinationId]]:
        """Return the places that load balancing chose for studies, the latest choice first."""
        ...

    def record_routes(
        self, run_id: RunId, chosen: Sequence[RouteTaken], diverted: Sequence[RouteTaken]
    ) -> None:
        """Write choices and diversions down; those that a run wrote already are left out."""
        ...

    def down(self, run_id: RunId) -> Mapping[DestinationId, str]:
        """Return the destinations that could not be reached in a run, and why."""
        ...

    def record_down(self, run_id: RunId, down: Mapping[DestinationId, str]) -> None:
        """Write down which destinations cannot be reached; known ones are left as they are."""
        ...

    def failed_before(
        self,
        source_id: SourceId,
        destination_id: DestinationId,
        run_id: RunId | None,
        but_by: Collection[str],
    ) -> Collection[str]:
        """List the studies of which something failed in the backup before a run.

        Not by these codes. Without a run: in the latest one.
        """
        ...

    def undelivered(
        self, run_id: RunId, codes: Collection[str]
    ) -> Iterator[tuple[DestinationId, str, str]]:
        """List studies with items that failed by one of these codes.

        Each with its destination and what was said of one of these items.
        """
        ...

    def release_undelivered(
        self,
        run_id: RunId,
        destination_id: DestinationId,
        studies: Collection[str],
        codes: Collection[str],
        now: datetime,
    ) -> None:
        """Take items that failed by these codes out of a run: they are due elsewhere now.

        In the same transaction it is noted that the run plans once more before it ends, as when it
        is asked for again.
        """
        ...
