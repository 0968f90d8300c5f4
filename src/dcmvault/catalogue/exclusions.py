"""Studies that are left out of backups, in the catalogue."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from dcmvault.catalogue.bulk import among
from dcmvault.catalogue.database import Database, insert_new
from dcmvault.catalogue.due_studies import is_selected
from dcmvault.catalogue.excluded import is_excluded
from dcmvault.catalogue.matrix_tables import study_exclusions
from dcmvault.catalogue.study_changes import note_selected
from dcmvault.catalogue.tables import EntryState, entries, series, storable, studies
from dcmvault.model.exclusion import Exclusion
from dcmvault.model.identifiers import SourceId
from dcmvault.model.selection import EVERYTHING, Selection

_named = study_exclusions.c.study_instance_uid


@dataclass(frozen=True, slots=True)
class ExclusionsInDatabase:
    """Implements `ports.exclusions.ExclusionBook`."""

    database: Database

    def exclude(self, exclusions: Sequence[Exclusion]) -> int:
        """Leave studies out from now on; return how many were not left out before."""
        uids = [storable(one.study_instance_uid) for one in exclusions]
        with self.database.write() as connection:
            known = set(
                connection.scalars(sa.select(_named).where(among(connection, _named, uids)))
            )
            rows = [
                {
                    "study_instance_uid": uid,
                    "reason": storable(one.reason),
                    "excluded_by": storable(one.excluded_by),
                    "excluded_at": one.excluded_at,
                }
                for uid, one in zip(uids, exclusions, strict=True)
                if uid not in known
            ]
            insert_new(connection, study_exclusions, rows)
            _note(connection, [str(row["study_instance_uid"]) for row in rows])
        return len(rows)

    def include(self, study_uids: Collection[str]) -> int:
        """Take studies in again; return how many were left out."""
        with self.database.write() as connection:
            taken = connection.scalars(
                sa.delete(study_exclusions)
                .where(among(connection, _named, list(study_uids)))
                .returning(_named)
            ).all()
            _note(connection, taken)
        return len(taken)

    def exclusions(self, *, after: str = "", limit: int = 1000) -> Sequence[Exclusion]:
        """List some, by UID, behind one of them."""
        query = sa.select(study_exclusions).where(_named > after).order_by(_named).limit(limit)
        with self.database.read() as connection:
            return [Exclusion(*row) for row in connection.execute(query)]

    def exclusion(self, study_instance_uid: str) -> Exclusion | None:
        """Return why a study is left out; None where it is not."""
        query = sa.select(study_exclusions).where(_named == study_instance_uid)
        with self.database.read() as connection:
            row = connection.execute(query).one_or_none()
            return None if row is None else Exclusion(*row)

    def excluded_among(self, study_uids: Collection[str]) -> int:
        """Count those of these studies that are left out."""
        with self.database.read() as connection:
            query = sa.select(sa.func.count()).select_from(study_exclusions)
            found = connection.scalar(query.where(among(connection, _named, list(study_uids))))
            return int(found or 0)

    def left_out(self, source_id: SourceId, selection: Selection = EVERYTHING) -> int:
        """Count the studies that a source has now, and that are meant but left out."""
        there = (
            sa.exists()
            .where(
                entries.c.source_id == source_id,
                entries.c.study_id == studies.c.id,
                entries.c.state == EntryState.PRESENT,
            )
            .correlate(studies)
        )
        query = (
            sa.select(sa.func.count(studies.c.id.distinct()))
            .select_from(studies)
            .where(is_excluded(studies.c.id), there)
        )
        if not selection.is_whole:
            query = query.join(series, series.c.study_id == studies.c.id).where(
                is_selected(selection)
            )
        with self.database.read() as connection:
            return int(connection.scalar(query) or 0)


def _note(connection: sa.Connection, study_uids: Sequence[str]) -> None:
    if study_uids:
        note_selected(
            connection,
            sa.select(studies.c.id).where(
                among(connection, studies.c.study_instance_uid, study_uids)
            ),
        )
