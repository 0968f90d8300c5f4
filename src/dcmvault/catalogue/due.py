"""Which present versions are due at a destination: one page at a time, no cursor kept open."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from dcmvault.catalogue.bulk import among
from dcmvault.catalogue.database import Database, chunks
from dcmvault.catalogue.due_studies import (
    DueQuestion,
    due_study_keys,
    is_selected,
    what_is_due,
)
from dcmvault.catalogue.rows import plan_item_of
from dcmvault.catalogue.siblings import (
    Sibling,
    differs,
    is_conflict,
    siblings,
    stand_in,
    was_replaced,
)
from dcmvault.catalogue.tables import (
    EntryState,
    HoldingState,
    entries,
    holdings,
    instances,
    items,
    jobs,
    kinds,
    run_destinations,
    series,
    studies,
    versions,
)
from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import DestinationId
from dcmvault.model.plan import DAMAGED, PlanItem

#: Entries read in one transaction.
_PAGE = 5_000
#: Studies looked at to fill a page.
_STUDIES = 200
#: Sorts after every Instance Number.
_NO_NUMBER = 1 << 62


def pages(database: Database, question: DueQuestion) -> Iterator[list[PlanItem]]:
    """List plan items by study, then opaque files; each page is one transaction."""
    if not database.is_sqlite and question.study_keys is None and _is_brief(question):
        # One pass over all costs PostgreSQL less than looking each entry up; on SQLite it would
        # keep a transaction open, behind which nothing that others write can be tidied up.
        with database.read() as connection:
            question = replace(question, study_keys=tuple(due_study_keys(connection, question)))
    last_study = 0
    while True:
        page: list[PlanItem] = []
        with database.read() as connection:
            some, listed = _next_studies(connection, question, last_study)
            looked_at = _seeming_due(connection, question, some)
            if looked_at and listed <= _PAGE:
                page = _page_of_studies(connection, question, looked_at)
        if not some:
            break
        if page:
            yield page
        elif looked_at and listed > _PAGE:
            yield from _pages_of_study(database, question, looked_at[0])
        last_study = some[-1]
    last_entry = 0
    while question.study_keys is None or 0 in question.study_keys:
        with database.read() as connection:
            rows = connection.execute(
                _query(question)
                .where(entries.c.study_id.is_(None), entries.c.id > last_entry)
                .order_by(entries.c.id)
                .limit(_PAGE)
            ).all()
            page = _plan_items(connection, question, rows)
        if not rows:
            return
        yield page
        last_entry = rows[-1].entry_id


def _is_brief(question: DueQuestion) -> bool:
    """Say whether little of a source is due most nights."""
    return not (question.everything or question.held_reason)


def _next_studies(
    connection: sa.Connection, question: DueQuestion, after: int
) -> tuple[list[int], int]:
    """Return the next studies that fill a page, at least one if there is any, and their entries."""
    query = (
        sa.select(entries.c.study_id, sa.func.count().label("entries"))
        .where(entries.c.source_id == question.source_id, entries.c.study_id > after)
        .group_by(entries.c.study_id)
        .order_by(entries.c.study_id)
        .limit(_STUDIES)
    )
    if question.study_keys is None:
        found = connection.execute(query).all()
    else:
        found = _of_these(connection, query, question.study_keys, after)
    some: list[int] = []
    total = 0
    for row in found:
        if some and total + row.entries > _PAGE:
            break
        total += row.entries
        some.append(row.study_id)
    return some, total


def _seeming_due(
    connection: sa.Connection, question: DueQuestion, some: Sequence[int]
) -> Sequence[int]:
    """Leave out the studies of which all is held: nearly all of them, most nights.

    What is asked of each is little, so that a study is joined with all that is known of it only
    where something is to be told.
    """
    if not some or not _is_brief(question):
        return some
    # A look-up for each entry: joined, PostgreSQL may read all that a destination holds, page by
    # page anew.
    level = (
        sa.select(_level(question))
        .where(
            holdings.c.version_id == entries.c.version_id,
            holdings.c.destination_id == question.destination_id,
        )
        .correlate(entries)
        .scalar_subquery()
    )
    query = (
        sa.select(entries.c.study_id)
        .distinct()
        .where(
            entries.c.source_id == question.source_id,
            entries.c.study_id.in_(some),
            entries.c.state == EntryState.PRESENT,
            sa.func.coalesce(level, 0) < question.level,
        )
    )
    return sorted(connection.scalars(query))


def _level(question: DueQuestion) -> sa.ColumnElement[int]:
    """Return at which level a version is held; 0 where other content took its place."""
    level: sa.ColumnElement[int] = sa.func.coalesce(holdings.c.level, 0)
    if question.keeps_versions:
        return level
    return sa.case((was_replaced(question.destination_id), Level.NONE.value), else_=level)


def _of_these(
    connection: sa.Connection, query: sa.Select[Any], keys: Sequence[int], after: int
) -> Sequence[Any]:
    """Return the next of the studies that are meant; many may be of other sources only."""
    first = bisect_right(keys, after)
    for start in range(first, len(keys), _STUDIES):
        some = keys[start : start + _STUDIES]
        if found := connection.execute(query.where(entries.c.study_id.in_(some))).all():
            return found
    return ()


def _page_of_studies(
    connection: sa.Connection, question: DueQuestion, some: Sequence[int]
) -> list[PlanItem]:
    rows = connection.execute(_query(question).where(entries.c.study_id.in_(some))).all()
    first_by_version: dict[int, Any] = {}
    for row in sorted(rows, key=lambda row: row.entry_id):
        first_by_version.setdefault(row.version_id, row)
    return _plan_items(connection, question, sorted(first_by_version.values(), key=_order))


def _pages_of_study(
    database: Database, question: DueQuestion, study_key: int
) -> Iterator[list[PlanItem]]:
    """List the plan items of a study that is larger than a page, part by part.

    Only its keys are known all at once.
    """
    query = (
        _query(question)
        .with_only_columns(entries.c.id, versions.c.id)
        .where(entries.c.study_id == study_key)
        .order_by(
            instances.c.series_id,
            sa.func.coalesce(versions.c.instance_number, _NO_NUMBER),
            versions.c.id,
            entries.c.id,
        )
    )
    keys, of_versions = array("q"), array("q")
    with database.read() as connection:
        for entry_id, version_id in connection.execute(query):
            if not of_versions or of_versions[-1] != version_id:
                keys.append(entry_id)
                of_versions.append(version_id)
    listed = frozenset(of_versions) if question.everything else frozenset()
    for some in chunks(keys, _PAGE):
        with database.read() as connection:
            rows = connection.execute(
                _query(question).where(among(connection, entries.c.id, list(some)))
            ).all()
            part = _plan_items(connection, question, sorted(rows, key=_order), listed)
        yield part


def _order(row: Any) -> tuple[int, int, int, int]:
    number = _NO_NUMBER if row.instance_number is None else row.instance_number
    return row.study_id, row.series_id, number, row.version_id


def _query(question: DueQuestion, *, of_source: bool = True) -> sa.Select[Any]:
    level = _level(question)
    query = (
        sa.select(
            entries.c.id.label("entry_id"),
            entries.c.locator,
            entries.c.size,
            entries.c.mtime_ns,
            entries.c.inode,
            entries.c.claim,
            entries.c.study_id,
            versions.c.id.label("version_id"),
            versions.c.instance_id,
            versions.c.instance_number,
            versions.c.opaque_reason,
            versions.c.file_sha256,
            versions.c.data_set_digest,
            instances.c.series_id,
            instances.c.sop_instance_uid,
            series.c.series_instance_uid,
            studies.c.study_instance_uid,
            kinds.c.sop_class_uid,
            kinds.c.transfer_syntax_uid,
            level.label("level"),
            holdings.c.state.label("holding"),
            holdings.c.object_key,
            _has_siblings().label("has_siblings"),
            _was_planned(question.destination_id).label("was_planned"),
        )
        .select_from(entries)
        .join(versions, versions.c.id == entries.c.version_id)
        .outerjoin(instances, instances.c.id == versions.c.instance_id)
        .outerjoin(series, series.c.id == instances.c.series_id)
        .outerjoin(studies, studies.c.id == series.c.study_id)
        .outerjoin(kinds, kinds.c.id == versions.c.kind_id)
        .outerjoin(
            holdings,
            sa.and_(
                holdings.c.version_id == versions.c.id,
                holdings.c.destination_id == question.destination_id,
            ),
        )
    )
    if of_source:
        query = query.where(
            entries.c.state == EntryState.PRESENT, entries.c.source_id == question.source_id
        )
        if not question.selection.is_whole:
            query = query.where(is_selected(question.selection))
    return what_is_due(question, query, level, versions.c.id)


def _has_siblings() -> sa.Exists:
    other = versions.alias("other")
    return sa.exists().where(
        other.c.instance_id == versions.c.instance_id, other.c.id != versions.c.id
    )


def _was_planned(destination_id: DestinationId) -> sa.Exists:
    """Say whether some run had the version as an item at the destination."""
    planned = items.alias("planned")
    job_of = jobs.alias("job_of_planned")
    part_of = run_destinations.alias("part_of_planned")
    return sa.exists().where(
        planned.c.version_id == versions.c.id,
        job_of.c.id == planned.c.job_id,
        part_of.c.id == job_of.c.run_destination_id,
        part_of.c.destination_id == destination_id,
    )


def _plan_items(
    connection: sa.Connection,
    question: DueQuestion,
    rows: Sequence[Any],
    listed: Set[int] = frozenset(),
) -> list[PlanItem]:
    """Make plan items of rows; `listed` are versions of which other rows tell."""
    beside = siblings(
        connection,
        question.source_id,
        question.destination_id,
        {row.instance_id for row in rows if row.has_siblings},
        keeps_versions=question.keeps_versions,
    )
    others_of = {
        one.version_id: (one, [other for other in of_instance if other is not one])
        for of_instance in beside.values()
        for one in of_instance
    }
    if others_of:
        rows = _with_stand_ins(connection, question, rows, others_of, listed)
    found = []
    for row in rows:
        held = row.level >= Level.SENT or _is_looked_at_first(question, row)
        if row.version_id not in others_of:
            found.append(plan_item_of(row, _reason(question, row, changed=False), held=held))
            continue
        own, others = others_of[row.version_id]
        changed = any(one.version_id < row.version_id for one in others)
        found.append(
            plan_item_of(
                row,
                _reason(question, row, changed=changed),
                held=held,
                conflict=is_conflict(own, others),
                earlier_version_there=any(
                    one.there and not one.present and differs(own, one) for one in others
                ),
            )
        )
    return found


def _with_stand_ins(
    connection: sa.Connection,
    question: DueQuestion,
    rows: Sequence[Any],
    others_of: Mapping[int, tuple[Sibling, Sequence[Sibling]]],
    listed: Set[int],
) -> list[Any]:
    """Leave out what an equal content stands for; where all is looked for, look for that one."""
    level = Level.SENT if question.everything else question.level
    left, standing = [], set()
    for row in rows:
        beside = others_of.get(row.version_id)
        other = stand_in(*beside, level) if beside is not None else None
        if other is None:
            left.append(row)
        else:
            standing.add(other)
    if not question.everything:
        return left
    for some in chunks(sorted(standing - {row.version_id for row in left} - listed)):
        # Whichever entry it came from, though it is gone; the last one that counts is present.
        query = (
            _query(question, of_source=False)
            .where(versions.c.id.in_(some))
            .order_by(sa.case((entries.c.state == EntryState.PRESENT, 1), else_=0))
        )
        of_version = {row.version_id: row for row in connection.execute(query)}
        left += of_version.values()
    return left


def _is_looked_at_first(question: DueQuestion, row: Any) -> bool:
    """Say whether a copy that was found missing or damaged may be there nevertheless.

    A damaged one may have been mended; where versions are kept, so may a missing one, and what
    looks for it learns what has to be stored anew. Where all is looked for, so is this.
    """
    if row.holding is None or question.level <= Level.SENT:
        return False
    is_damaged = row.holding is HoldingState.DAMAGED
    return is_damaged or question.everything or question.keeps_versions


def _reason(question: DueQuestion, row: Any, *, changed: bool) -> str:
    if row.level >= Level.SENT:
        held = row.level >= question.level
        return question.held_reason if held and question.held_reason else "level"
    if row.holding is HoldingState.DAMAGED:
        return DAMAGED
    if row.holding is not None or row.was_planned:
        return "not_held"
    return "changed" if changed else "new"
