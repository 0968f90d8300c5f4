"""The end of a backup run: every destination that can takes a snapshot of what arrived."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from dcmvault.errors import DestinationError, SourceError
from dcmvault.model.identifiers import DestinationId, RunId
from dcmvault.model.plan import RunRequest
from dcmvault.model.sidecar import SidecarFile, UnreadableSidecar
from dcmvault.model.snapshot import Origin
from dcmvault.ports.catalogue import PlanCatalogue, RunBook, SnapshotWitness
from dcmvault.ports.destination import Destination, Remembered, Snapshots
from dcmvault.ports.source import HasSidecar, Source

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Closing:
    """Takes the snapshots of one run, and writes down which were taken and why others were not.

    It may be repeated: a destination gives the snapshot again that the run took.
    """

    run_id: RunId
    request: RunRequest
    plans: PlanCatalogue
    runs: RunBook
    witness: SnapshotWitness
    open_source: Callable[[RunRequest], Source]
    _failures: dict[DestinationId, tuple[str, str, str]] = field(default_factory=dict)
    _warnings: list[str] = field(default_factory=list)

    def take_snapshots(self, destinations: list[Destination]) -> None:
        """Ask each destination; one that fails does not keep the others from theirs."""
        for destination in destinations:
            if isinstance(destination, Snapshots):
                destination_id = self.plans.destination(destination.name)
                try:
                    self._take(destination, destination_id)
                except DestinationError as error:
                    _log.warning("%s: no snapshot: %s", destination.name, error.code)
                    self._failures[destination_id] = (error.code, error.message, error.hint)
        self.runs.record_closing(
            self.run_id, snapshot_failures=self._failures, warnings=self._warnings
        )

    def accept_losses(self, destinations: list[Destination]) -> None:
        """Take destinations that lost snapshots as they are, now that they were verified.

        What this run did not look at there becomes a claim again, and backups may go on.
        """
        for destination in destinations:
            if isinstance(destination, Remembered):
                destination_id = self.plans.destination(destination.name)
                try:
                    self._accept(destination, destination_id)
                except DestinationError as error:
                    _log.warning("%s: not compared: %s", destination.name, error.code)
        if self._warnings:
            self.runs.record_closing(self.run_id, snapshot_failures={}, warnings=self._warnings)

    def _accept(self, destination: Remembered, destination_id: DestinationId) -> None:
        known = [ref.snapshot_id for ref in self.witness.known_snapshots(destination_id)]
        lost = destination.lost_snapshots(known)
        if lost:
            self.witness.doubt_copies(destination_id, lost, self.run_id)
            self._warnings.append(
                f"{len(lost)} snapshots that the destination had are gone. The next backup of each"
                " source looks for its copies there, and stores again what is missing."
            )

    def _take(self, destination: Snapshots, destination_id: DestinationId) -> None:
        origin = Origin(self.run_id, self.request.source)
        source = self.open_source(self.request)
        try:
            sidecar = self._readable(source) if isinstance(source, HasSidecar) else None
            ref = destination.take_snapshot(origin, sidecar)
        except SourceError as error:
            # What was stored of the sidecar before still counts.
            self._warnings.append(
                f"The source's own files are not in the snapshot: {error.message}"
            )
            ref = destination.take_snapshot(origin, None)
        if ref is not None:
            self.witness.record_snapshot(destination_id, ref, self.run_id)

    def _readable(self, source: HasSidecar) -> Iterator[SidecarFile]:
        """Hand out the files of the sidecar; what cannot be read is worth a word."""
        unreadable = 0
        for file in source.sidecar():
            if isinstance(file, UnreadableSidecar):
                unreadable += 1
            else:
                yield file
        if unreadable:
            self._warnings.append(
                f"{unreadable} of the source's own files could not be read, and are not in the"
                " snapshot."
            )
