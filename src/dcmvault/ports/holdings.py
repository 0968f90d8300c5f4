"""What destinations are known by evidence to hold, for whoever wants to let go of a copy."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Protocol

from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import DestinationId, SourceId
from dcmvault.model.instance import InstanceEntry


class HoldingCatalogue(Protocol):
    """Questions about holdings; claims do not count, and neither does evidence below a level."""

    def held_entries(
        self, source_id: SourceId, destination_id: DestinationId, level: Level
    ) -> Iterator[InstanceEntry]:
        """List the present entries of a source that a destination holds at a level.

        It holds their versions, or what stands for these there.
        """
        ...

    def held_sop_classes(
        self, sop_instance_uids: Collection[str], level: Level
    ) -> Mapping[str, set[str]]:
        """Return the SOP classes of the instances under these UIDs that any destination holds."""
        ...
