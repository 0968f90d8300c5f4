"""Ages of evidence: which studies to look at again, and how much verification is owed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from dcmvault.catalogue.database import Database
from dcmvault.catalogue.due import pages
from dcmvault.catalogue.due_questions import keeps_versions
from dcmvault.catalogue.due_studies import everything_of
from dcmvault.catalogue.facts import FACTS, newest_fact
from dcmvault.catalogue.siblings import version_there
from dcmvault.catalogue.tables import (
    EntryState,
    HoldingState,
    Moment,
    entries,
    holdings,
    versions,
)
from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import DestinationId, SourceId
from dcmvault.model.plan import PlanItem
from dcmvault.ports.reverification import FactSummary, StudyAge, VerificationDebt

#: Studies summed up in one transaction.
_PAGE = 1_000
#: The key that opaque files have together.
_OPAQUE = sa.literal_column("0", sa.BigInteger)
_REFUTED = (HoldingState.MISSING, HoldingState.DAMAGED)


@dataclass(frozen=True, slots=True)
class ReverificationInDatabase:
    """Implements `ports.reverification.ReverificationCatalogue`."""

    database: Database

    def study_ages(
        self, source_id: SourceId, destination_id: DestinationId, level: Level
    ) -> Iterator[StudyAge]:
        """List the studies of which the destination took something, by key."""
        looked_at = sa.case(
            (holdings.c.state.in_(_REFUTED), sa.type_coerce(holdings.c.verified_at, sa.BigInteger)),
            else_=newest_fact(level),
        )
        last: int | None = None
        while (upto := self._next_key(source_id, last)) is not None:
            copies = _copies(source_id, destination_id, _studies_between(last, upto))
            query = (
                sa.select(
                    copies.c.study_key, sa.func.min(looked_at, type_=sa.BigInteger).label("oldest")
                )
                .select_from(_with_holdings(copies, destination_id))
                .group_by(copies.c.study_key)
                .order_by(copies.c.study_key)
            )
            with self.database.read() as connection:
                page = connection.execute(query).all()
            for row in page:
                yield StudyAge(row.study_key, _moment(row.oldest))
            last = upto

    def _next_key(self, source_id: SourceId, after: int | None) -> int | None:
        """Return the last study's key of the next page; opaque files are a page of their own."""
        if after is None:
            return 0
        keys = (
            sa.select(entries.c.study_id)
            .distinct()
            .where(entries.c.source_id == source_id, entries.c.study_id > after)
            .order_by(entries.c.study_id)
            .limit(_PAGE)
            .subquery()
        )
        with self.database.read() as connection:
            found: int | None = connection.scalar(sa.select(sa.func.max(keys.c.study_id)))
        return found

    def expected_of(
        self, source_id: SourceId, destination_id: DestinationId, study_keys: Collection[int]
    ) -> Iterator[PlanItem]:
        """List every present version of these studies, as `PlanCatalogue.expected` does."""
        with self.database.read() as connection:
            keeps = keeps_versions(connection, destination_id)
        question = everything_of(
            source_id, destination_id, keeps_versions=keeps, study_keys=tuple(sorted(study_keys))
        )
        for page in pages(self.database, question):
            yield from page

    def debt(
        self,
        source_id: SourceId,
        destination_id: DestinationId,
        level: Level,
        fresh_since: datetime | None,
        now: datetime,
    ) -> VerificationDebt:
        """Count what lacks evidence of `level`, or has none since `fresh_since`.

        Evidence later than now is that of a wrong clock, and is none.
        """
        least = 1 if fresh_since is None else Moment().process_bind_param(fresh_since, _DIALECT)
        most = Moment().process_bind_param(now, _DIALECT)
        copies = _copies(source_id, destination_id)
        query = (
            sa.select(
                sa.func.count(copies.c.study_key.distinct()).label("studies"),
                sa.func.count().label("instances"),
                sa.func.coalesce(sa.func.sum(versions.c.size), 0).label("bytes"),
            )
            .select_from(
                _with_holdings(copies, destination_id).join(
                    versions, versions.c.id == copies.c.version_id
                )
            )
            .where(sa.or_(newest_fact(level) < least, newest_fact(level) > most))
        )
        with self.database.read() as connection:
            row = connection.execute(query).one()
        return VerificationDebt(row.studies, row.instances, int(row.bytes))

    def facts(
        self, source_id: SourceId, destination_id: DestinationId
    ) -> Mapping[Level, FactSummary]:
        """Sum up which facts are known, by level; levels without any are left out."""
        copies = _copies(source_id, destination_id)
        query = sa.select(
            *(
                column
                for level, fact in FACTS.items()
                for column in (
                    sa.func.count(fact).label(f"n{level.value}"),
                    sa.func.min(fact, type_=Moment).label(f"oldest{level.value}"),
                    sa.func.max(fact, type_=Moment).label(f"newest{level.value}"),
                )
            )
        ).select_from(_with_holdings(copies, destination_id))
        with self.database.read() as connection:
            row = connection.execute(query).mappings().one()
        return {
            level: FactSummary(
                row[f"n{level.value}"], row[f"oldest{level.value}"], row[f"newest{level.value}"]
            )
            for level in FACTS
            if row[f"n{level.value}"]
        }


def _studies_between(after: int | None, upto: int) -> sa.ColumnElement[bool]:
    if after is None:
        return entries.c.study_id.is_(None)
    return sa.and_(entries.c.study_id > after, entries.c.study_id <= upto)


def _copies(
    source_id: SourceId, destination_id: DestinationId, *conditions: sa.ColumnElement[bool]
) -> sa.Subquery:
    """Return the versions that a source has, or what stands for them, each once in its study."""
    key = sa.func.coalesce(entries.c.study_id, _OPAQUE)
    return (
        sa.select(key.label("study_key"), version_there(destination_id).label("version_id"))
        .join(versions, versions.c.id == entries.c.version_id)
        .distinct()
        .where(entries.c.source_id == source_id, entries.c.state == EntryState.PRESENT, *conditions)
        .subquery()
    )


def _with_holdings(copies: sa.Subquery, destination_id: DestinationId) -> sa.Join:
    return copies.join(
        holdings,
        sa.and_(
            holdings.c.version_id == copies.c.version_id,
            holdings.c.destination_id == destination_id,
        ),
    )


def _moment(microseconds: int | None) -> datetime | None:
    """Turn microseconds into a time; 0 means never."""
    return Moment().process_result_value(microseconds or None, _DIALECT)


_DIALECT = sa.engine.default.DefaultDialect()
