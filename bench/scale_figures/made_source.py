"""A source that lists as many files as are wanted, without having one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dcmvault.model.instance import (
    Fingerprint,
    InstanceEntry,
    InstanceFile,
    StudyRef,
    UnreadableEntry,
)

PER_STUDY, PER_SERIES = 100, 25
SIZE, MTIME_NS = 526_000, 1_700_000_000_000_000_000


@dataclass(frozen=True, slots=True)
class MadeSource:
    """Implements `ports.source.Source`; what it lists cannot be read."""

    instances: int
    name: str = "/made"

    def studies(self) -> Iterator[StudyRef]:
        """List the folders."""
        for number in range((self.instances + PER_STUDY - 1) // PER_STUDY):
            yield StudyRef(f"study-{number:09}")

    def entries(self, study: StudyRef) -> Iterator[InstanceEntry]:
        """List the files of one folder, as a walk through it would."""
        first = int(study.locator[-9:]) * PER_STUDY
        for number in range(first, min(first + PER_STUDY, self.instances)):
            fingerprint = Fingerprint(SIZE, MTIME_NS, number)
            yield InstanceEntry(f"{study.locator}/{number:09}.dcm", fingerprint)

    def read(
        self, entries: Iterable[InstanceEntry], *, kept: int = 1
    ) -> Iterator[InstanceFile | UnreadableEntry]:
        """Say of each that it is not there."""
        del kept
        for entry in entries:
            yield UnreadableEntry(entry, "vanished", "no such file was ever made")
