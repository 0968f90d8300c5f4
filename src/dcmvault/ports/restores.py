"""What the catalogue knows of restores: what a run brought back, and what drills proved."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from dcmvault.model.drill import Drill
from dcmvault.model.identifiers import RunId


class HeldFile(NamedTuple):
    """One instance that reached its level in a run."""

    study_instance_uid: str
    sop_instance_uid: str
    size: int
    file_sha256: bytes  #: empty where nobody read it whole


class RestoreBook(Protocol):
    """Restores, written down. Every method is one transaction, but for what it yields."""

    def held_files(self, run_id: RunId) -> Iterator[HeldFile]:
        """Yield what reached its level in a run, by study; KeyError for an unknown run."""
        ...

    def record_drill(self, drill: Drill) -> None:
        """Write a drill down."""
        ...

    def recent_drills(self, most: int) -> list[Drill]:
        """Return the newest drills of all places, newest first."""
        ...

    def latest_drills(self) -> list[Drill]:
        """Return the newest drill of each place, by place."""
        ...
