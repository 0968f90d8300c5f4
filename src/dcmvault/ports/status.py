"""What `status` is told: what is protected where, by what evidence, how old."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import DestinationId, SourceId
from dcmvault.model.report import DestinationReport


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """One source as last seen."""

    source_id: SourceId
    name: str
    studies: int
    instances: int
    bytes: int
    last_seen_at: datetime | None


@dataclass(frozen=True, slots=True)
class CoverageStatus:
    """One source at one destination: how much of it is held, at which least level, how old."""

    source_id: SourceId
    destination_id: DestinationId
    destination: str
    studies_protected: int  #: every present version held
    studies: int
    instances_held: int
    instances: int
    by_level: Mapping[Level, int]  #: held instances by level
    #: Of those that are proven, in how many the destination wrote declared attributes itself.
    coerced: int
    oldest_evidence_at: datetime | None
    last_run: DestinationReport | None


class StatusCatalogue(Protocol):
    """Answers for `status`: what is protected where."""

    def sources(self) -> list[SourceStatus]:
        """List sources that were ever seen, but for those that were restored from only."""
        ...

    def coverage(self, source_id: SourceId) -> list[CoverageStatus]:
        """List the destinations that a source was ever sent to."""
        ...

    def destinations(self) -> Mapping[DestinationId, str]:
        """Return the canonical addresses of all destinations that were ever used."""
        ...

    def counts(self) -> Mapping[str, int]:
        """Return row counts of the catalogue, for `doctor`."""
        ...
