"""What is asked of the matrix, as SQL: filters, orders, places, and the lines of a page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from dcmvault.catalogue.bulk import among
from dcmvault.catalogue.excluded import is_excluded
from dcmvault.catalogue.matrix_tables import (
    study_changes,
    study_copies,
    study_holds,
    study_lines,
    study_sources,
)
from dcmvault.catalogue.study_counting import LEVEL_COLUMNS, folded
from dcmvault.catalogue.tables import destinations, sources, studies
from dcmvault.model.evidence import Level
from dcmvault.model.study_matrix import (
    CopyCounts,
    Coverage,
    StudyLine,
    StudyOrder,
    StudyPlace,
    StudyQuery,
)

#: Words of a text that are looked for.
_MOST_WORDS = 8

_ORDERS: dict[StudyOrder, sa.Column[Any]] = {
    StudyOrder.DATE: study_lines.c.study_date,
    StudyOrder.NAME: study_lines.c.search,
    StudyOrder.STATE: study_lines.c.state,
    StudyOrder.SIZE: study_lines.c.bytes,
}
#: Numbers that change often, and say nothing of a patient: a place has them with it.
_CARRIED = (StudyOrder.STATE, StudyOrder.SIZE)


def state_column(query: StudyQuery) -> sa.Column[Any]:
    """Return what a query calls a study's state: that at its destination, if it names one."""
    return study_copies.c.state if query.destination else study_lines.c.state


def selected(
    query: StudyQuery, question: sa.Select[Any], *, ignore_states: bool = False
) -> sa.Select[Any]:
    """Restrict a question about `study_lines` to what a query means."""
    conditions = [*_of_studies(query), *_at_places(query)]
    if query.states and not ignore_states:
        conditions.append(state_column(query).in_([state.value for state in query.states]))
    level = study_copies.c.level if query.destination else study_lines.c.level
    if query.level_at_least is not None:
        conditions.append(level >= query.level_at_least.value)
    if query.level_below is not None:
        conditions.append(level < query.level_below.value)
    if query.destination:
        question = question.join_from(
            study_lines, study_copies, study_copies.c.study_id == study_lines.c.study_id
        )
        conditions.append(study_copies.c.destination_id == _key_of(destinations, query.destination))
    else:
        question = question.select_from(study_lines)
    return question.where(*conditions)


def _of_studies(query: StudyQuery) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = [
        study_lines.c.search.contains(word, autoescape=True)
        for word in folded(query.text).split()[:_MOST_WORDS]
    ]
    if query.studies:
        named = sa.select(studies.c.id).where(studies.c.study_instance_uid.in_(query.studies))
        conditions.append(study_lines.c.study_id.in_(named))
    if query.modalities:
        conditions.append(
            sa.or_(
                *(
                    study_lines.c.modalities.contains(f"/{word}/", autoescape=True)
                    for word in query.modalities
                )
            )
        )
    if query.first_date:
        conditions.append(study_lines.c.study_date >= query.first_date)
    if query.last_date:
        conditions.append(
            sa.and_(study_lines.c.study_date != "", study_lines.c.study_date <= query.last_date)
        )
    return conditions


def _at_places(query: StudyQuery) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = []
    if query.sources:
        conditions.append(
            sa.exists()
            .where(
                study_sources.c.study_id == study_lines.c.study_id,
                study_sources.c.source_id.in_(
                    sa.select(sources.c.id).where(sources.c.name.in_(query.sources))
                ),
            )
            .correlate(study_lines)
        )
    if query.held is not None:
        # There are few: they are listed once, not looked up for each study.
        held = study_lines.c.study_id.in_(
            sa.select(studies.c.id).where(
                studies.c.study_instance_uid.in_(sa.select(study_holds.c.study_instance_uid))
            )
        )
        conditions.append(held if query.held else ~held)
    return conditions


def _key_of(table: sa.Table, name: str) -> sa.ScalarSelect[int]:
    return sa.select(table.c.id).where(table.c.name == name).scalar_subquery()


def ordered(
    connection: sa.Connection,
    question: sa.Select[Any],
    query: StudyQuery,
    order: StudyOrder,
    descending: bool,
    place: StudyPlace | None,
    *,
    is_sparse: bool = False,
) -> sa.Select[Any]:
    """Put a question in order, from a place on: backwards where the place is said to come after.

    Where few match (`is_sparse`), all that match are found first and then sorted: by the order's
    index nearly every study would be looked at, one by one.
    """
    column: Any = state_column(query) if order is StudyOrder.STATE else _ORDERS[order]
    if is_sparse:
        column = sa.func.coalesce(column, column)
    key = study_lines.c.study_id
    falls = descending
    if place is not None:
        falls = descending != place.before
        value = place.value
        if order not in _CARRIED:
            value = connection.scalar(sa.select(column).where(key == place.study_key))
        if value is not None:
            here = sa.tuple_(sa.literal(value, column.type), sa.literal(place.study_key))
            there = sa.tuple_(column, key)
            question = question.where(there < here if falls else there > here)
    if falls:
        return question.order_by(column.desc(), key.desc())
    return question.order_by(column, key)


def place_of(line: StudyLine, query: StudyQuery, order: StudyOrder, *, before: bool) -> StudyPlace:
    """Return the place before or behind a line."""
    value = None
    if order is StudyOrder.SIZE:
        value = line.bytes
    elif order is StudyOrder.STATE:
        copy = line.copies.get(query.destination)
        value = int(line.state if copy is None else copy.state)
    return StudyPlace(line.study_key, value, before)


def lines_of(connection: sa.Connection, keys: Sequence[int]) -> list[StudyLine]:
    """Return the lines of studies, in this order."""
    if not keys:
        return []
    copies = _copies(connection, keys)
    where = _names(connection, keys)
    held = _holds(connection, keys)
    changing = set(
        connection.scalars(
            sa.select(study_changes.c.study_id)
            .distinct()
            .where(among(connection, study_changes.c.study_id, keys))
        )
    )
    excluded = set(
        connection.scalars(
            sa.select(studies.c.id).where(
                among(connection, studies.c.id, keys), is_excluded(studies.c.id)
            )
        )
    )
    query = (
        sa.select(study_lines, studies)
        .join(studies, studies.c.id == study_lines.c.study_id)
        .where(among(connection, study_lines.c.study_id, keys))
    )
    found = {}
    for row in connection.execute(query):
        found[row.study_id] = StudyLine(
            study_key=row.study_id,
            study_instance_uid=row.study_instance_uid,
            patient_name=row.patient_name,
            patient_id=row.patient_id,
            accession_number=row.accession_number,
            study_description=row.study_description,
            study_date=row.study_date,
            modalities=tuple(word for word in row.modalities.split("/") if word),
            sources=tuple(where[row.study_id]),
            state=Coverage(row.state),
            level=Level(row.level),
            series=row.series,
            instances=row.instances,
            bytes=row.bytes,
            unreadable=row.unreadable,
            held_in=tuple(held[row.study_id]),
            copies={one.destination: one for one in copies[row.study_id]},
            counted_at=row.counted_at,
            is_changing=row.study_id in changing,
            is_excluded=row.study_id in excluded,
        )
    return [found[key] for key in keys if key in found]


def _copies(connection: sa.Connection, keys: Sequence[int]) -> dict[int, list[CopyCounts]]:
    query = (
        sa.select(study_copies, destinations.c.name)
        .join(destinations, destinations.c.id == study_copies.c.destination_id)
        .where(among(connection, study_copies.c.study_id, keys))
        .order_by(study_copies.c.destination_id)
    )
    found: dict[int, list[CopyCounts]] = defaultdict(list)
    for row in connection.execute(query):
        by_level = {level: getattr(row, column) for level, column in LEVEL_COLUMNS.items()}
        found[row.study_id].append(
            CopyCounts(
                destination=row.name,
                state=Coverage(row.state),
                level=Level(row.level),
                expected=row.expected,
                held=sum(n for level, n in by_level.items() if level > Level.SENT),
                unverified=by_level[Level.SENT],
                missing=row.missing,
                damaged=row.damaged,
                coerced=row.coerced,
                by_level={level: n for level, n in by_level.items() if n},
                oldest_evidence_at=row.oldest_at,
            )
        )
    return found


def _names(connection: sa.Connection, keys: Sequence[int]) -> dict[int, list[str]]:
    query = (
        sa.select(study_sources.c.study_id, sources.c.name)
        .join(sources, sources.c.id == study_sources.c.source_id)
        .where(among(connection, study_sources.c.study_id, keys))
        .order_by(study_sources.c.source_id)
    )
    found: dict[int, list[str]] = defaultdict(list)
    for row in connection.execute(query):
        found[row.study_id].append(row.name)
    return found


def _holds(connection: sa.Connection, keys: Sequence[int]) -> dict[int, list[str]]:
    query = (
        sa.select(studies.c.id, destinations.c.name)
        .join(study_holds, study_holds.c.study_instance_uid == studies.c.study_instance_uid)
        .join(destinations, destinations.c.id == study_holds.c.destination_id)
        .where(among(connection, studies.c.id, keys))
        .order_by(destinations.c.id)
    )
    found: dict[int, list[str]] = defaultdict(list)
    for row in connection.execute(query):
        found[row.id].append(row.name)
    return found
