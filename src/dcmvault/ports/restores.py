"""What the catalogue knows of restores: what a run brought back, and what drills proved."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from dcmvault.model.drill import Drill
from dcmvault.model.identifiers import RunId, VersionId
from dcmvault.model.instance import InstanceEntry, InstanceIdentity


class HeldFile(NamedTuple):
    """One instance that reached its level in a run."""

    study_instance_uid: str
    sop_instance_uid: str
    size: int
    file_sha256: bytes  #: empty where nobody read it whole


class KnownStudy(NamedTuple):
    """A study of which a place is believed to hold something."""

    study_instance_uid: str
    instances: int
    bytes: int
    patient_id: str
    accession_number: str
    study_date: str


class KnownCopy(NamedTuple):
    """An instance version that a place is believed to hold."""

    version_id: VersionId
    identity: InstanceIdentity
    size: int
    file_sha256: bytes  #: empty where nobody read it whole
    locator: str  #: the place's own name of it; empty where it has none


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

    def known_studies(self, place: str) -> list[KnownStudy]:
        """List the studies of which evidence says that a place holds something, by UID.

        `place` is the address of a destination, or else of a source: of that what it had when it
        was listed last.
        """
        ...

    def known_copies(self, place: str, study_instance_uid: str) -> list[KnownCopy]:
        """List what a place is believed to hold of a study."""
        ...

    def originals(self, copy: KnownCopy, place: str) -> list[tuple[str, InstanceEntry]]:
        """Return where else a version lies: addresses of sources that have it, and its entries."""
        ...
