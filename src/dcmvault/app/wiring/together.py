"""What makes a process one of several workers on one database."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dcmvault import __version__
from dcmvault.app.other_workers import OtherWorkers
from dcmvault.app.reach import Reach
from dcmvault.pipeline.association_leases import AssociationLeases
from dcmvault.ports.destination import Destination
from dcmvault.ports.workers import Doing, SharesAssociations, WorkerIdentity
from dcmvault.telemetry.meter import ByteMeter

if TYPE_CHECKING:
    from dcmvault.app.at_destinations import AtDestinations
    from dcmvault.catalogue import Catalogue
    from dcmvault.engine.executor import Membership

#: What a process is that works for as long as a command lasts.
COMMAND = "command"


@dataclass(slots=True)
class Together:
    """This process among the workers of its database; alone on an embedded one."""

    catalogue: Catalogue
    meter: ByteMeter
    reach: Reach
    leases: AssociationLeases | None
    role: str = COMMAND

    def share(self, destination: Destination, is_over: Callable[[], bool]) -> None:
        """Have a destination's connections counted for all together, until it `is_over`."""
        if self.leases is not None and isinstance(destination, SharesAssociations):
            self.leases.share(destination, is_over)

    def membership(
        self, at_destinations: AtDestinations, running: Callable[[], int]
    ) -> Membership | None:
        """Return how a worker of this process tells of itself; None where there are no others."""
        from dcmvault.engine.executor import Membership  # noqa: PLC0415 - when needed

        book = self.catalogue.workers
        if book is None:
            return None
        identity = WorkerIdentity(
            self.reach.worker_id, self.reach.name, self.role, os.getpid(), __version__
        )
        return Membership(book, identity, lambda: self._doing(at_destinations, running()))

    def others(self) -> OtherWorkers | None:
        """Return what the others do; None where there are none."""
        book = self.catalogue.workers
        return None if book is None else OtherWorkers(book, self.reach.worker_id)

    def close(self) -> None:
        """Ask for no more shares."""
        if self.leases is not None:
            self.leases.close()

    def _doing(self, at_destinations: AtDestinations, running: int) -> Doing:
        addresses = self.catalogue.status.destinations()
        associations: Mapping[str, int] = {
            addresses[destination_id]: count
            for destination_id, count in at_destinations.busy_lanes().items()
            if destination_id in addresses
        }
        return Doing(running, self.meter.totals(), associations, self.reach.lacks())


def new_worker_id() -> str:
    """Name a worker as no other is, ever."""
    return uuid.uuid4().hex
