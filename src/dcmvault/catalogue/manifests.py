"""Digests of what destinations hold of the studies that a run was about."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from dcmvault.catalogue.database import Database, chunks, insert_new
from dcmvault.catalogue.tables import (
    destinations,
    holdings,
    instances,
    jobs,
    kinds,
    manifest_links,
    run_destinations,
    runs,
    series,
    studies,
    versions,
)
from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import RunId
from dcmvault.model.instance import InstanceIdentity
from dcmvault.model.manifest import ListedInstance
from dcmvault.ports.manifests import NewestLink

#: Studies read in one transaction.
_STUDIES_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class ManifestsInDatabase:
    """Implements `ports.manifests.ManifestCatalogue`."""

    database: Database

    def held_after(self, run_id: RunId) -> Iterator[tuple[str, Sequence[ListedInstance]]]:
        """Yield what each destination of a run holds now of the studies that the run was about."""
        with self.database.read() as connection:
            parts = connection.execute(
                sa.select(
                    run_destinations.c.id,
                    run_destinations.c.level,
                    run_destinations.c.destination_id,
                    destinations.c.name,
                )
                .join(runs, runs.c.id == run_destinations.c.run_id)
                .join(destinations, destinations.c.id == run_destinations.c.destination_id)
                .where(runs.c.run_id == run_id)
                .order_by(run_destinations.c.id)
            ).all()
        for part in parts:
            with self.database.read() as connection:
                uids = connection.scalars(
                    sa.select(jobs.c.study_instance_uid)
                    .distinct()
                    .where(jobs.c.run_destination_id == part.id, jobs.c.study_instance_uid != "")
                    .order_by(jobs.c.study_instance_uid)
                ).all()
            for some in chunks(uids, _STUDIES_AT_ONCE):
                with self.database.read() as connection:
                    found = _held(connection, part, some)
                if found:
                    yield part.name, found

    def newest_link(self, chain: str) -> NewestLink | None:
        """Return the newest link of a chain, named by its key's fingerprint; None if unknown."""
        query = sa.select(manifest_links).where(manifest_links.c.chain == chain)
        with self.database.read() as connection:
            row = connection.execute(query).first()
        return None if row is None else NewestLink(row.sequence, row.sha256)

    def remember_link(self, chain: str, link: NewestLink) -> None:
        """Remember a link as the newest of its chain; one that is older is left out."""
        row = {"chain": chain, "sequence": link.sequence, "sha256": link.sha256}
        with self.database.write() as connection:
            insert_new(connection, manifest_links, [row])
            connection.execute(
                sa.update(manifest_links)
                .where(manifest_links.c.chain == chain, manifest_links.c.sequence < link.sequence)
                .values(sequence=link.sequence, sha256=link.sha256)
            )


def _held(connection: sa.Connection, part: Any, uids: Sequence[str]) -> list[ListedInstance]:
    least = Level.SENT if part.level <= Level.SENT else Level.PRESENT
    query = (
        sa.select(
            studies.c.study_instance_uid,
            series.c.series_instance_uid,
            instances.c.sop_instance_uid,
            versions.c.file_sha256,
            versions.c.size,
            kinds.c.sop_class_uid,
            kinds.c.transfer_syntax_uid,
        )
        .select_from(studies)
        .join(series, series.c.study_id == studies.c.id)
        .join(instances, instances.c.series_id == series.c.id)
        .join(versions, versions.c.instance_id == instances.c.id)
        .join(
            holdings,
            sa.and_(
                holdings.c.version_id == versions.c.id,
                holdings.c.destination_id == part.destination_id,
            ),
        )
        .outerjoin(kinds, kinds.c.id == versions.c.kind_id)
        .where(
            studies.c.study_instance_uid.in_(uids),
            holdings.c.level >= least,
            versions.c.file_sha256.is_not(None),
        )
    )
    return [
        ListedInstance(
            InstanceIdentity(row.study_instance_uid, row.series_instance_uid, row.sop_instance_uid),
            row.file_sha256,
            row.size,
            row.sop_class_uid or "",
            row.transfer_syntax_uid or "",
        )
        for row in connection.execute(query)
    ]
