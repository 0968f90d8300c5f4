"""What is known of studies: by which they are put in order, and routed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from dcmvault.catalogue.bulk import among
from dcmvault.catalogue.database import Database, chunks
from dcmvault.catalogue.due_questions import due_question
from dcmvault.catalogue.due_studies import due_study_keys, is_selected
from dcmvault.catalogue.tables import (
    EntryState,
    HoldingState,
    entries,
    holdings,
    instances,
    series,
    studies,
    versions,
)
from dcmvault.model.classification import StudyFacts
from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import DestinationId, RunId, SourceId
from dcmvault.model.plan import Strategy
from dcmvault.model.selection import EVERYTHING, Selection

_TAKEN = (HoldingState.SENT, HoldingState.HELD)


@dataclass(frozen=True, slots=True)
class StudyFactsInDatabase:
    """Implements `ports.strategy.StudyFactsCatalogue`."""

    database: Database

    def due_studies(
        self,
        source_id: SourceId,
        destination_id: DestinationId,
        *,
        strategy: Strategy,
        level: Level,
        run_id: RunId | None,
        selection: Selection = EVERYTHING,
    ) -> Sequence[int]:
        """List the keys of the studies that may be due, ascending."""
        with self.database.read() as connection:
            question = due_question(
                connection,
                source_id,
                destination_id,
                strategy=strategy,
                level=level,
                run_id=run_id,
                selection=selection,
            )
            return due_study_keys(connection, question)

    def study_facts(
        self, study_keys: Sequence[int], source_id: SourceId | None = None
    ) -> Mapping[int, StudyFacts]:
        """Look up studies by key."""
        found: dict[int, StudyFacts] = {}
        for some in chunks(list(study_keys)):
            with self.database.read() as connection:
                found |= _facts(connection, some, source_id)
        return found

    def study_key(self, study_instance_uid: str) -> int | None:
        """Return the key of a study; None for an unknown one."""
        query = sa.select(studies.c.id).where(studies.c.study_instance_uid == study_instance_uid)
        with self.database.read() as connection:
            found: int | None = connection.scalar(query)
        return found

    def selected_studies(self, selection: Selection) -> Sequence[int]:
        """List the keys of the studies that are meant, or of whose series one is, ascending."""
        query = (
            sa.select(studies.c.id)
            .distinct()
            .outerjoin(series, series.c.study_id == studies.c.id)
            .where(is_selected(selection))
            .order_by(studies.c.id)
        )
        with self.database.read() as connection:
            return connection.scalars(query).all()

    def newest_studies(self, limit: int) -> Sequence[int]:
        """List the keys of the studies that were seen first most recently."""
        query = sa.select(studies.c.id).order_by(studies.c.id.desc()).limit(limit)
        with self.database.read() as connection:
            return connection.scalars(query).all()


def _facts(
    connection: sa.Connection, keys: Sequence[int], source_id: SourceId | None
) -> dict[int, StudyFacts]:
    of_series: dict[int, list[Any]] = defaultdict(list)
    for row in connection.execute(
        sa.select(series).where(among(connection, series.c.study_id, keys)).order_by(series.c.id)
    ):
        of_series[row.study_id].append(row)
    sizes = _sizes(connection, keys, source_id)
    taken = _taken_by(connection, keys)
    found = {0: StudyFacts("", instances=sizes[0][0], bytes=sizes[0][1])} if 0 in sizes else {}
    for row in connection.execute(sa.select(studies).where(among(connection, studies.c.id, keys))):
        own = of_series[row.id]
        count, size = sizes.get(row.id, (0, 0))
        found[row.id] = StudyFacts(
            study_instance_uid=row.study_instance_uid,
            modalities=_values(one.modality for one in own),
            descriptions=tuple(
                text
                for text in dict.fromkeys(
                    [row.study_description, *(one.series_description for one in own)]
                )
                if text
            ),
            body_parts=_values(one.body_part_examined for one in own),
            ae_titles=_values(one.source_ae_title for one in own),
            stations=_values(one.station_name for one in own),
            institution=row.institution_name,
            study_date=row.study_date,
            study_time=row.study_time,
            instances=count,
            bytes=size,
            taken_by=frozenset(taken.get(row.id, ())),
        )
    return found


def _values(texts: Any) -> frozenset[str]:
    return frozenset(text for text in texts if text)


def _sizes(
    connection: sa.Connection, keys: Sequence[int], source_id: SourceId | None
) -> dict[int, tuple[int, int]]:
    """Count entries and bytes at a source (or all), by study; 0 stands for opaque files."""
    counted = [sa.func.count(), sa.func.sum(entries.c.size)]
    present = [entries.c.state == EntryState.PRESENT]
    if source_id is not None:
        present.append(entries.c.source_id == source_id)
    of_studies = (
        sa.select(entries.c.study_id, *counted)
        .where(among(connection, entries.c.study_id, keys), *present)
        .group_by(entries.c.study_id)
    )
    found = {key: (int(n), int(size)) for key, n, size in connection.execute(of_studies)}
    if 0 in keys:
        opaque = sa.select(*counted).where(
            entries.c.study_id.is_(None), entries.c.version_id.is_not(None), *present
        )
        count, size = connection.execute(opaque).one()
        if count:
            found[0] = (int(count), int(size))
    return found


def _taken_by(connection: sa.Connection, keys: Sequence[int]) -> dict[int, set[DestinationId]]:
    """Say which destinations took anything of each study."""
    some = sa.select(holdings.c.version_id).where(holdings.c.state.in_(_TAKEN)).limit(1)
    if connection.scalar(some) is None:
        return {}
    query = (
        sa.select(series.c.study_id, holdings.c.destination_id)
        .distinct()
        .select_from(series)
        .join(instances, instances.c.series_id == series.c.id)
        .join(versions, versions.c.instance_id == instances.c.id)
        .join(holdings, holdings.c.version_id == versions.c.id)
        .where(among(connection, series.c.study_id, keys), holdings.c.state.in_(_TAKEN))
    )
    found: dict[int, set[DestinationId]] = defaultdict(set)
    for study_id, destination_id in connection.execute(query):
        found[study_id].add(DestinationId(destination_id))
    return found
