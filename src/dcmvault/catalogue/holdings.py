"""What destinations hold by evidence: by entry of a source, and by SOP Instance UID."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from dcmvault.catalogue.database import Database, chunks
from dcmvault.catalogue.rows import entry_of
from dcmvault.catalogue.siblings import version_there
from dcmvault.catalogue.tables import (
    EntryState,
    entries,
    holdings,
    instances,
    kinds,
    versions,
)
from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import DestinationId, SourceId
from dcmvault.model.instance import InstanceEntry

#: Entries read in one transaction.
_PAGE = 5_000


@dataclass(frozen=True, slots=True)
class HoldingsInDatabase:
    """Implements `ports.holdings.HoldingCatalogue`."""

    database: Database

    def held_entries(
        self, source_id: SourceId, destination_id: DestinationId, level: Level
    ) -> Iterator[InstanceEntry]:
        """List the present entries of a source that a destination holds at a level.

        It holds their versions, or what stands for these there.
        """
        last = 0
        while True:
            with self.database.read() as connection:
                page = connection.execute(
                    sa.select(entries)
                    .join(versions, versions.c.id == entries.c.version_id)
                    .join(
                        holdings,
                        sa.and_(
                            holdings.c.version_id == version_there(destination_id),
                            holdings.c.destination_id == destination_id,
                        ),
                    )
                    .where(
                        entries.c.source_id == source_id,
                        entries.c.state == EntryState.PRESENT,
                        holdings.c.level >= level,
                        entries.c.id > last,
                    )
                    .order_by(entries.c.id)
                    .limit(_PAGE)
                ).all()
            if not page:
                return
            yield from map(entry_of, page)
            last = page[-1].id

    def held_sop_classes(
        self, sop_instance_uids: Collection[str], level: Level
    ) -> Mapping[str, set[str]]:
        """Return the SOP classes of the instances under these UIDs that any destination holds."""
        found: dict[str, set[str]] = {}
        with self.database.read() as connection:
            for some in chunks(sorted(sop_instance_uids)):
                query = (
                    sa.select(instances.c.sop_instance_uid, kinds.c.sop_class_uid)
                    .join(versions, versions.c.instance_id == instances.c.id)
                    .join(kinds, kinds.c.id == versions.c.kind_id)
                    .join(holdings, holdings.c.version_id == versions.c.id)
                    .where(instances.c.sop_instance_uid.in_(some), holdings.c.level >= level)
                )
                for row in connection.execute(query):
                    found.setdefault(row.sop_instance_uid, set()).add(row.sop_class_uid)
        return found
