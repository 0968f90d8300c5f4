"""What destinations are known by evidence to hold, for whoever wants to let go of a copy."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import Protocol

from dcmvault.model.evidence import Finding, Level
from dcmvault.model.identifiers import DestinationId, SourceId
from dcmvault.model.instance import InstanceEntry


class HoldingCatalogue(Protocol):
    """Questions about holdings; claims do not count, and neither does evidence below a level.

    And what somebody other than a run found out about them.
    """

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

    def refute_copies(
        self,
        destination_id: DestinationId,
        found: Mapping[str, Collection[str]],
        finding: Finding,
        at: datetime,
        *,
        files: Mapping[str, Collection[bytes]],
    ) -> int:
        """Believe no longer in copies that were found missing or damaged; return how many.

        `found` has SOP Instance UIDs by Study Instance UID; none of a study means all of it, and
        the study "" means all files that are no instances. Of a study that `files` has, only
        versions with one of these SHA-256 are meant, and those whose own is not known.
        Only evidence makes holdings of them again.
        """
        ...
