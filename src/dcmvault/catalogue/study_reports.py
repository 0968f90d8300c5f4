"""How studies stand at a destination when a run ends."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from dcmvault.catalogue.database import chunks
from dcmvault.catalogue.facts import FACTS
from dcmvault.catalogue.restores import drilled_among
from dcmvault.catalogue.siblings import version_there
from dcmvault.catalogue.tables import (
    EntryState,
    Moment,
    entries,
    evidence,
    holdings,
    instances,
    series,
    studies,
    versions,
)
from dcmvault.model.evidence import Level
from dcmvault.model.report import AttributeCoercion, StudyReport


def study_reports(
    connection: sa.Connection, run: Any, parts: Sequence[Any], touched: Mapping[int, Sequence[str]]
) -> Iterator[StudyReport]:
    """Report the studies that a run touched, by its parts at destinations.

    `instances` are the versions that the run's source has now. A claim counts as held only
    where nothing but claims was asked for.
    """
    for part in parts:
        for uids in chunks(touched.get(part.id, [])):
            yield from _reports_of(connection, run, part, uids)


def _reports_of(
    connection: sa.Connection, run: Any, part: Any, uids: Sequence[str]
) -> Iterator[StudyReport]:
    rows = connection.execute(
        sa.select(studies).where(studies.c.study_instance_uid.in_(uids))
    ).all()
    by_uid = {row.study_instance_uid: row for row in rows}
    keys = [row.id for row in rows]
    sums = _evidence(connection, run, part, keys)
    modalities = _modalities(connection, keys)
    drilled = drilled_among(connection, part.name, uids)
    for uid in uids:
        study = by_uid.get(uid)
        found = None if study is None else sums.get(study.id)
        if study is None or found is None:
            continue
        coercions, left_out = (
            coercions_of(connection, study.id, part.destination_id) if found.coerced else ((), 0)
        )
        yield StudyReport(
            study_instance_uid=uid,
            destination=part.name,
            modalities=", ".join(modalities[study.id]),
            study_date=study.study_date,
            instances=found.instances,
            held=found.held,
            level=Level(found.level) if found.held == found.instances else Level.NONE,
            verified_at=found.verified_at,
            patient_name=study.patient_name,
            patient_id=study.patient_id,
            study_description=study.study_description,
            coercions=coercions,
            coercions_left_out=left_out,
            drilled_at=drilled.get(uid),
            facts=_facts(found),
        )


def _evidence(
    connection: sa.Connection, run: Any, part: Any, study_keys: Sequence[int]
) -> Mapping[int, Any]:
    """Sum up, by study, what is held of its present versions; at `sent`, receipts too."""
    version = version_there(part.destination_id).label("version_id")
    present = (
        sa.select(entries.c.study_id, version)
        .join(versions, versions.c.id == entries.c.version_id)
        .where(entries.c.state == EntryState.PRESENT, entries.c.study_id.in_(study_keys))
    )
    if run.source_id is not None:
        present = present.where(entries.c.source_id == run.source_id)
    shown = present.distinct().subquery()
    level = sa.func.coalesce(holdings.c.level, 0)
    is_held = level >= (Level.SENT if part.level <= Level.SENT else Level.PRESENT)
    is_coerced = sa.and_(level == Level.PROVEN, holdings.c.coerced)
    there = sa.and_(
        holdings.c.version_id == shown.c.version_id,
        holdings.c.destination_id == part.destination_id,
    )
    query = (
        sa.select(
            shown.c.study_id,
            sa.func.count().label("instances"),
            sa.func.count(sa.case((is_held, 1))).label("held"),
            sa.func.min(level).label("level"),
            sa.func.min(sa.case((is_held, holdings.c.verified_at))).label("verified_at"),
            sa.func.count(sa.case((is_coerced, 1))).label("coerced"),
            *(sa.func.count(fact).label(f"n_{fact.name}") for fact in FACTS.values()),
            *(sa.func.min(fact, type_=Moment).label(fact.name) for fact in FACTS.values()),
        )
        .select_from(shown.outerjoin(holdings, there))
        .group_by(shown.c.study_id)
    )
    return {row.study_id: row for row in connection.execute(query)}


def coercions_of(
    connection: sa.Connection, study_id: int, destination_id: int
) -> tuple[tuple[AttributeCoercion, ...], int]:
    """Return what the proofs list on which a study's copies stand, and how many they leave out."""
    stands_on = (
        sa.select(holdings.c.evidence_id)
        .join(versions, versions.c.id == holdings.c.version_id)
        .join(instances, instances.c.id == versions.c.instance_id)
        .join(series, series.c.id == instances.c.series_id)
        .where(
            series.c.study_id == study_id,
            holdings.c.destination_id == destination_id,
            holdings.c.level == Level.PROVEN.value,
            holdings.c.coerced,
        )
    )
    proofs = sa.select(evidence.c.proof).where(evidence.c.id.in_(stands_on)).order_by(evidence.c.id)
    found: Counter[tuple[str, str | None, str | None]] = Counter()
    left_out = 0
    for text in connection.scalars(proofs):
        proof = json.loads(text)
        left_out += proof.get("coercions_left_out", 0)
        for one in proof.get("coercions", []):
            found[one["attribute"], one["old"], one["new"]] += one["instances"]
    return tuple(AttributeCoercion(*what, count) for what, count in found.items()), left_out


def _facts(found: Any) -> Mapping[Level, datetime]:
    """Return the levels of which all instances have evidence, with the oldest time of each."""
    return {
        level: getattr(found, fact.name)
        for level, fact in FACTS.items()
        if getattr(found, f"n_{fact.name}") == found.instances
    }


def _modalities(connection: sa.Connection, study_ids: Sequence[int]) -> Mapping[int, list[str]]:
    found: dict[int, list[str]] = defaultdict(list)
    query = (
        sa.select(series.c.study_id, series.c.modality)
        .distinct()
        .where(series.c.study_id.in_(study_ids), series.c.modality != "")
        .order_by(series.c.study_id, series.c.modality)
    )
    for row in connection.execute(query):
        found[row.study_id].append(row.modality)
    return found
