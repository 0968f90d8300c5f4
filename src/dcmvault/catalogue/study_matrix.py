"""The matrix of studies and destinations: counts that follow changes, asked by pages."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from dcmvault.catalogue.bulk import among
from dcmvault.catalogue.database import Database, insert_new
from dcmvault.catalogue.matrix_tables import (
    expected_routes,
    study_changes,
    study_copies,
    study_holds,
    study_lines,
    study_sources,
)
from dcmvault.catalogue.study_changes import note_selected
from dcmvault.catalogue.study_counting import Route, count_studies, routes_now
from dcmvault.catalogue.study_questions import (
    lines_of,
    ordered,
    place_of,
    selected,
    state_column,
)
from dcmvault.catalogue.tables import destinations, entries, sources, studies
from dcmvault.model.identifiers import DestinationId
from dcmvault.model.study_matrix import (
    Coverage,
    MatchedStudies,
    StudyLine,
    StudyOrder,
    StudyPage,
    StudyPlace,
    StudyQuery,
)

#: Any number, as long as nobody else takes the same advisory lock in our database.
_LOCK = 0x6D61747269780001
#: Studies counted in one transaction, at most.
_STUDIES_AT_ONCE = 400
#: How large a study is taken to be that was never counted.
_UNKNOWN_INSTANCES = 100
#: How long a study stays as counted: this, and so much for each of its instances. While 100,000
#: are delivered, counting them then costs a hundredth of the time.
_REST = timedelta(seconds=1)
_REST_PER_INSTANCE = timedelta(microseconds=500)
#: How many uncounted studies are told apart.
_MOST_UNCOUNTED = 10_000
#: So few are found and sorted sooner than by an index of the order.
_FEW = 500
_UIDS_AT_ONCE = 500
_LINES_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class StudyMatrixInDatabase:
    """Implements `ports.study_matrix.StudyMatrix`."""

    database: Database

    def page(
        self,
        query: StudyQuery,
        *,
        order: StudyOrder = StudyOrder.DATE,
        descending: bool = True,
        place: StudyPlace | None = None,
        limit: int = 50,
    ) -> StudyPage:
        """Return some studies. A place stays where it is, whatever is added or removed."""
        is_backward = place is not None and place.before
        with self.database.read() as connection:
            by_state = _by_state(connection, query)
            asked = query.states or tuple(Coverage)
            total = sum(by_state.get(state, 0) for state in asked)
            question = selected(query, sa.select(study_lines.c.study_id))
            question = ordered(
                connection, question, query, order, descending, place, is_sparse=total <= _FEW
            )
            keys = list(connection.scalars(question.limit(limit + 1)))
            more = len(keys) > limit
            keys = keys[:limit]
            if is_backward:
                keys.reverse()
            lines = lines_of(connection, keys)
            uncounted = _uncounted(connection)
        first = lines[0] if lines and (more if is_backward else place is not None) else None
        last = lines[-1] if lines and (is_backward or more) else None
        return StudyPage(
            tuple(lines),
            by_state,
            total,
            uncounted,
            None if first is None else place_of(first, query, order, before=True),
            None if last is None else place_of(last, query, order, before=False),
        )

    def matched(self, query: StudyQuery) -> MatchedStudies:
        """Count what a query means."""
        keys = selected(query, sa.select(study_lines.c.study_id)).subquery()
        totals = selected(
            query,
            sa.select(
                sa.func.count(),
                sa.func.coalesce(sa.func.sum(study_lines.c.instances), 0),
                sa.func.coalesce(sa.func.sum(study_lines.c.bytes), 0),
            ),
        )
        of_keys = keys.c.study_id
        at_sources = (
            sa.select(sources.c.name, sa.func.count())
            .join(study_sources, study_sources.c.source_id == sources.c.id)
            .join(keys, of_keys == study_sources.c.study_id)
            .group_by(sources.c.name)
            .order_by(sources.c.name)
        )
        at_destinations = (
            sa.select(destinations.c.name, sa.func.count())
            .join(study_copies, study_copies.c.destination_id == destinations.c.id)
            .join(keys, of_keys == study_copies.c.study_id)
            .where(_has_copies())
            .group_by(destinations.c.name)
            .order_by(destinations.c.name)
        )
        with self.database.read() as connection:
            count, instances, size = connection.execute(totals).one()
            return MatchedStudies(
                count,
                int(instances),
                int(size),
                {row[0]: row[1] for row in connection.execute(at_sources)},
                {row[0]: row[1] for row in connection.execute(at_destinations)},
            )

    def named(self, query: StudyQuery, source: str = "", at: str = "") -> Iterator[Sequence[str]]:
        """Yield the Study Instance UIDs of what matches, some hundred at a time, in order."""
        question = selected(
            query, sa.select(studies.c.study_instance_uid, study_lines.c.study_id)
        ).join_from(study_lines, studies, studies.c.id == study_lines.c.study_id)
        if source:
            question = question.where(
                sa.exists()
                .where(
                    study_sources.c.study_id == study_lines.c.study_id,
                    study_sources.c.source_id == sources.c.id,
                    sources.c.name == source,
                )
                .correlate(study_lines)
            )
        if at:
            question = question.where(
                sa.exists()
                .where(
                    study_copies.c.study_id == study_lines.c.study_id,
                    study_copies.c.destination_id == destinations.c.id,
                    destinations.c.name == at,
                    _has_copies(),
                )
                .correlate(study_lines)
            )
        last = 0
        while True:
            after = question.where(study_lines.c.study_id > last)
            with self.database.read() as connection:
                page = connection.execute(
                    after.order_by(study_lines.c.study_id).limit(_UIDS_AT_ONCE)
                ).all()
            if not page:
                return
            yield [row.study_instance_uid for row in page]
            last = page[-1].study_id

    def lines(
        self, query: StudyQuery, *, order: StudyOrder = StudyOrder.DATE, descending: bool = True
    ) -> Iterator[StudyLine]:
        """Yield all studies that match, in order; what changes meanwhile may be in it or not."""
        place: StudyPlace | None = None
        while True:
            question = selected(query, sa.select(study_lines.c.study_id))
            with self.database.read() as connection:
                question = ordered(connection, question, query, order, descending, place)
                keys = connection.scalars(question.limit(_LINES_AT_ONCE)).all()
                found = lines_of(connection, keys)
            yield from found
            if not found:
                return
            place = place_of(found[-1], query, order, before=False)

    def modalities(self) -> Sequence[str]:
        """List the modalities that there are."""
        column = study_lines.c.modalities
        # From one to the next in the index: there are few, and each stands at many studies.
        one = sa.select(sa.func.min(column).label("text")).cte("one", recursive=True)
        following = sa.select(sa.func.min(column)).where(column > one.c.text).scalar_subquery()
        every = one.union_all(sa.select(following).where(one.c.text.is_not(None)))
        with self.database.read() as connection:
            found = connection.scalars(sa.select(every.c.text)).all()
        return sorted({word for text in found for word in (text or "").split("/") if word})

    def recount(self, now: datetime, *, instances: int = 20_000) -> int:
        """Count studies that changed anew, about so many instances; return how many wait still."""
        with self.database.read() as connection:
            routes = routes_now(connection)
            known = {Route(*row) for row in connection.execute(sa.select(expected_routes))}
        if routes != known:
            self._follow_routes(routes, known)
        with self.database.read() as connection:
            keys = _to_count(connection, now, instances)
            if not keys:
                return _uncounted(connection)
            changes = _changes_of(connection, keys)
            counted = count_studies(connection, keys, routes)
        with self.database.write() as connection:
            self.database.lock_until_commit(connection, _LOCK)
            _write(connection, keys, changes, counted, now)
        with self.database.read() as connection:
            return _uncounted(connection)

    def know_holds(self, destination_id: DestinationId, study_uids: Collection[str]) -> None:
        """Write down which studies a vault keeps under legal hold: these, and no others."""
        with self.database.write() as connection:
            connection.execute(
                sa.delete(study_holds).where(study_holds.c.destination_id == destination_id)
            )
            insert_new(
                connection,
                study_holds,
                [
                    {"destination_id": destination_id, "study_instance_uid": uid}
                    for uid in sorted(set(study_uids))
                ],
            )

    def _follow_routes(self, routes: Collection[Route], known: Collection[Route]) -> None:
        """Note that studies should be elsewhere now: those of the sources whose routes changed."""
        changed = {one.source_id for one in set(routes) ^ set(known)}
        with self.database.write() as connection:
            self.database.lock_until_commit(connection, _LOCK)
            for source_id in sorted(changed):
                note_selected(
                    connection,
                    sa.select(entries.c.study_id)
                    .distinct()
                    .where(entries.c.source_id == source_id, entries.c.study_id.is_not(None)),
                )
            connection.execute(sa.delete(expected_routes))
            insert_new(
                connection,
                expected_routes,
                [
                    {
                        "source_id": one.source_id,
                        "destination_id": one.destination_id,
                        "keeps_versions": one.keeps_versions,
                    }
                    for one in sorted(routes, key=lambda one: (one.source_id, one.destination_id))
                ],
            )


def _has_copies() -> sa.ColumnElement[bool]:
    there = (study_copies.c[word] for word in ("sent", "present", "complete", "committed"))
    return sum(there, study_copies.c.proven + sa.literal_column("0")) > 0


def _by_state(connection: sa.Connection, query: StudyQuery) -> Mapping[Coverage, int]:
    column = state_column(query)
    question = selected(query, sa.select(column, sa.func.count()), ignore_states=True)
    found = connection.execute(question.group_by(column))
    return {Coverage(state): count for state, count in found}


def _uncounted(connection: sa.Connection) -> int:
    waiting = sa.select(study_changes.c.study_id).distinct().limit(_MOST_UNCOUNTED).subquery()
    return int(connection.scalar(sa.select(sa.func.count()).select_from(waiting)) or 0)


def _to_count(connection: sa.Connection, now: datetime, instances: int) -> list[int]:
    """Choose studies that changed, but for those that were counted a moment ago."""
    chosen: list[int] = []
    last = 0
    while True:
        # In the order of the index: however much waits, no more of it is looked at.
        keys = connection.scalars(
            sa.select(study_changes.c.study_id)
            .distinct()
            .where(study_changes.c.study_id > last)
            .order_by(study_changes.c.study_id)
            .limit(_STUDIES_AT_ONCE)
        ).all()
        if not keys:
            return chosen
        last = keys[-1]
        query = sa.select(
            study_lines.c.study_id, study_lines.c.instances, study_lines.c.counted_at
        ).where(among(connection, study_lines.c.study_id, keys))
        known = {row.study_id: row for row in connection.execute(query)}
        for key in keys:
            row = known.get(key)
            if row is not None and _rests(row, now):
                continue
            size = _UNKNOWN_INSTANCES if row is None else row.instances
            if chosen and (size > instances or len(chosen) == _STUDIES_AT_ONCE):
                return chosen
            chosen.append(key)
            instances -= size


def _rests(row: Any, now: datetime) -> bool:
    """Say whether a study was counted a moment ago; a clock that was set back makes nobody wait."""
    ready_at = row.counted_at + _REST + row.instances * _REST_PER_INSTANCE
    return bool(row.counted_at <= now < ready_at)


def _changes_of(connection: sa.Connection, study_ids: Sequence[int]) -> dict[int, int]:
    """Return the noted changes of these studies, each with its study."""
    if not study_ids:
        return {}
    query = sa.select(study_changes.c.id, study_changes.c.study_id).where(
        among(connection, study_changes.c.study_id, study_ids)
    )
    return {row.id: row.study_id for row in connection.execute(query)}


def _write(
    connection: sa.Connection,
    keys: Collection[int],
    changes: Mapping[int, int],
    counted: Any,
    now: datetime,
) -> None:
    """Write what was counted, and take the changes that it has in it.

    A study one of whose changes somebody else took meanwhile may have been counted later there:
    it is left, to be counted once more.
    """
    taken = set(
        connection.scalars(
            sa.delete(study_changes)
            .where(among(connection, study_changes.c.id, list(changes)))
            .returning(study_changes.c.id)
        )
    )
    again = {study_id for change, study_id in changes.items() if change not in taken}
    if again:
        connection.execute(
            sa.insert(study_changes), [{"study_id": study_id} for study_id in sorted(again)]
        )
    ours = set(keys) - again
    if not ours:
        return
    rows_of: dict[sa.Table, list[dict[str, Any]]] = defaultdict(list)
    rows_of[study_lines] = [one | {"counted_at": now} for one in counted.lines]
    rows_of[study_copies] = counted.copies
    rows_of[study_sources] = counted.sources
    for table, rows in rows_of.items():
        connection.execute(sa.delete(table).where(among(connection, table.c.study_id, list(ours))))
        kept = [row for row in rows if row["study_id"] in ours]
        if kept:
            connection.execute(sa.insert(table), kept)
