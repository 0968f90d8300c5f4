"""What destinations hold by evidence: by entry of a source, and by SOP Instance UID."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from dcmvault.catalogue.database import Database, chunks
from dcmvault.catalogue.facts import NO_FACTS
from dcmvault.catalogue.rows import entry_of
from dcmvault.catalogue.siblings import version_there, was_replaced
from dcmvault.catalogue.study_changes import note_study
from dcmvault.catalogue.tables import (
    REFUTED,
    EntryState,
    entries,
    holdings,
    instances,
    kinds,
    series,
    studies,
    versions,
)
from dcmvault.model.evidence import Finding, Level
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
                        ~was_replaced(destination_id),
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

    def refute_copies(
        self,
        destination_id: DestinationId,
        found: Mapping[str, Collection[str]],
        finding: Finding,
        at: datetime,
        *,
        files: Mapping[str, Collection[bytes]],
    ) -> int:
        """Believe no longer in copies that were found missing or damaged; return how many."""
        refuted = 0
        with self.database.write() as connection:
            for study_instance_uid, sop_instance_uids in sorted(found.items()):
                note_study(connection, study_instance_uid)
                meant = files.get(study_instance_uid, ())
                for of_study in _versions_of(study_instance_uid, sop_instance_uids):
                    keys = [
                        row.id
                        for row in connection.execute(of_study)
                        if not meant or row.file_sha256 is None or row.file_sha256 in meant
                    ]
                    for some in chunks(keys):
                        doubted = _refutation(destination_id, some, finding, at)
                        refuted += connection.execute(doubted).rowcount
        return refuted


def _refutation(
    destination_id: DestinationId, version_ids: Collection[int], finding: Finding, at: datetime
) -> sa.Update:
    return (
        sa.update(holdings)
        .where(
            holdings.c.destination_id == destination_id,
            holdings.c.version_id.in_(version_ids),
            holdings.c.level > Level.NONE.value,
        )
        .values(
            state=REFUTED[finding],
            level=Level.NONE.value,
            verified_at=at,
            evidence_id=None,
            **NO_FACTS,
        )
    )


def _versions_of(
    study_instance_uid: str, sop_instance_uids: Collection[str]
) -> Iterator[sa.Select[tuple[int, bytes | None]]]:
    """Yield queries of the versions of these instances, or of all of a study."""
    if not study_instance_uid:
        yield sa.select(versions.c.id, versions.c.file_sha256).where(
            versions.c.instance_id.is_(None)
        )
        return
    query = (
        sa.select(versions.c.id, versions.c.file_sha256)
        .join(instances, instances.c.id == versions.c.instance_id)
        .join(series, series.c.id == instances.c.series_id)
        .join(studies, studies.c.id == series.c.study_id)
        .where(studies.c.study_instance_uid == study_instance_uid)
    )
    if not sop_instance_uids:
        yield query
    for some in chunks(sorted(sop_instance_uids)):
        yield query.where(instances.c.sop_instance_uid.in_(some))
