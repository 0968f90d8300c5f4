"""Restores: what runs brought back, and what drills proved."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from dcmvault.catalogue.bulk import new_keys
from dcmvault.catalogue.database import Database
from dcmvault.catalogue.known_copies import known_copies, known_studies, originals
from dcmvault.catalogue.tables import (
    Moment,
    drilled_studies,
    drills,
    instances,
    items,
    jobs,
    run_destinations,
    runs,
    versions,
)
from dcmvault.model.drill import Drill, DrilledStudy
from dcmvault.model.identifiers import RunId
from dcmvault.model.instance import InstanceEntry
from dcmvault.model.job import ItemState
from dcmvault.ports.restores import HeldFile, KnownCopy, KnownStudy

#: Items read in one transaction.
_PAGE = 5_000


@dataclass(frozen=True, slots=True)
class RestoresInDatabase:
    """Implements `ports.restores.RestoreBook`."""

    database: Database

    def held_files(self, run_id: RunId) -> Iterator[HeldFile]:
        """Yield what reached its level in a run, by study; KeyError for an unknown run."""
        with self.database.read() as connection:
            key = connection.scalar(sa.select(runs.c.id).where(runs.c.run_id == run_id))
        if key is None:
            raise KeyError(run_id)
        last: tuple[str, int] = ("", 0)
        while True:
            position = sa.tuple_(jobs.c.study_instance_uid, items.c.id)
            query = (
                sa.select(
                    items.c.id,
                    jobs.c.study_instance_uid,
                    instances.c.sop_instance_uid,
                    versions.c.size,
                    versions.c.file_sha256,
                )
                .select_from(run_destinations)
                .join(jobs, jobs.c.run_destination_id == run_destinations.c.id)
                .join(items, items.c.job_id == jobs.c.id)
                .join(versions, versions.c.id == items.c.version_id)
                .outerjoin(instances, instances.c.id == versions.c.instance_id)
                .where(
                    run_destinations.c.run_id == key,
                    items.c.state == ItemState.HELD,
                    position > last,
                )
                .order_by(jobs.c.study_instance_uid, items.c.id)
                .limit(_PAGE)
            )
            with self.database.read() as connection:
                page = connection.execute(query).all()
            if not page:
                return
            for row in page:
                yield HeldFile(
                    row.study_instance_uid,
                    row.sop_instance_uid or "",
                    row.size,
                    row.file_sha256 or b"",
                )
            last = page[-1].study_instance_uid, page[-1].id

    def record_drill(self, drill: Drill) -> None:
        """Write a drill down."""
        with self.database.write() as connection:
            (key,) = new_keys(connection, drills, 1)
            connection.execute(
                sa.insert(drills).values(
                    id=key,
                    place=drill.place,
                    drilled_at=drill.drilled_at,
                    whole_studies=drill.whole_studies,
                    whole_bytes=drill.whole_bytes,
                    opening_s=drill.opening_s,
                )
            )
            if drill.studies:
                connection.execute(
                    sa.insert(drilled_studies),
                    [
                        {
                            "drill_id": key,
                            "study_instance_uid": one.study_instance_uid,
                            "files": one.files,
                            "bytes": one.bytes,
                            "seconds": one.seconds,
                            "problem": one.problem,
                        }
                        for one in drill.studies
                    ],
                )

    def recent_drills(self, most: int) -> list[Drill]:
        """Return the newest drills of all places, newest first."""
        with self.database.read() as connection:
            rows = connection.execute(
                sa.select(drills).order_by(drills.c.id.desc()).limit(most)
            ).all()
            return [_drill(connection, row) for row in rows]

    def latest_drills(self) -> list[Drill]:
        """Return the newest drill of each place, by place."""
        newest = sa.select(sa.func.max(drills.c.id)).group_by(drills.c.place)
        with self.database.read() as connection:
            rows = connection.execute(
                sa.select(drills).where(drills.c.id.in_(newest)).order_by(drills.c.place)
            ).all()
            return [_drill(connection, row) for row in rows]

    def known_studies(self, place: str) -> list[KnownStudy]:
        """List the studies of which a place is believed to hold something, by UID."""
        with self.database.read() as connection:
            return known_studies(connection, place)

    def known_copies(self, place: str, study_instance_uid: str) -> list[KnownCopy]:
        """List what a place is believed to hold of a study."""
        with self.database.read() as connection:
            return known_copies(connection, place, study_instance_uid)

    def originals(self, copy: KnownCopy, place: str) -> list[tuple[str, InstanceEntry]]:
        """Return where else a version lies: addresses of sources that have it, and its entries."""
        with self.database.read() as connection:
            return originals(connection, copy.version_id, place)


def drilled_among(
    connection: sa.Connection, place: str, studies: Collection[str]
) -> dict[str, datetime]:
    """Return when each of a few studies was last restored from a place to scratch, and proven."""
    query = (
        sa.select(
            drilled_studies.c.study_instance_uid,
            sa.func.max(drills.c.drilled_at, type_=Moment).label("at"),
        )
        .join(drills, drills.c.id == drilled_studies.c.drill_id)
        .where(
            drills.c.place == place,
            drilled_studies.c.study_instance_uid.in_(studies),
            drilled_studies.c.problem == "",
        )
        .group_by(drilled_studies.c.study_instance_uid)
    )
    return {row.study_instance_uid: row.at for row in connection.execute(query)}


def _drill(connection: sa.Connection, row: Any) -> Drill:
    found = connection.execute(
        sa.select(drilled_studies)
        .where(drilled_studies.c.drill_id == row.id)
        .order_by(drilled_studies.c.study_instance_uid)
    )
    return Drill(
        place=row.place,
        drilled_at=row.drilled_at,
        studies=tuple(
            DrilledStudy(
                one.study_instance_uid, one.files, one.bytes, float(one.seconds), one.problem
            )
            for one in found
        ),
        whole_studies=row.whole_studies,
        whole_bytes=row.whole_bytes,
        opening_s=float(row.opening_s),
    )
