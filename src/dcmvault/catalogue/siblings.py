"""Versions of one instance beside each other: which differ, and which stand for another.

Where a destination keeps versions, every content is kept byte for byte: nothing stands for another.
At a PACS, which has one place for each identity, contents whose data sets are equal though their
bytes are not (a PACS wrote one of them anew) are one instance, and one of them is delivered: a
second would be refused or change nothing. One stands for the other while it is there, or as long as
it is due itself and no delivery of it failed since one of the other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from dcmvault.catalogue.database import chunks
from dcmvault.catalogue.facts import Newest
from dcmvault.catalogue.tables import (
    EntryState,
    destinations,
    entries,
    holdings,
    items,
    jobs,
    run_destinations,
    versions,
)
from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import DestinationId, SourceId
from dcmvault.model.job import ItemState

_NOT_DELIVERED = (ItemState.FAILED, ItemState.UNREADABLE)


@dataclass(frozen=True, slots=True)
class Sibling:
    """One of the versions of an instance."""

    version_id: int
    file_sha256: bytes  #: empty until read once
    #: Empty unless two contents were compared, and where the destination keeps versions.
    data_set_digest: bytes
    listed: bool  #: by any source, now or before
    present: bool  #: in any source
    present_here: bool  #: in the source that is asked about
    level: int  #: of what is held or sent at the destination
    failed: int  #: the newest item at the destination that was not delivered; 0 for none

    @property
    def there(self) -> bool:
        """Whether it is held or sent at the destination."""
        return self.level >= Level.SENT

    def is_equal(self, other: Sibling) -> bool:
        """Say whether two contents are known to be one instance to the destination."""
        return bool(self.data_set_digest) and self.data_set_digest == other.data_set_digest


def siblings(
    connection: sa.Connection,
    source_id: SourceId,
    destination_id: DestinationId,
    of_instances: Collection[int],
    *,
    keeps_versions: bool,
) -> dict[int | None, list[Sibling]]:
    """Return the versions of instances, as they stand at a destination."""
    found: dict[int | None, list[Sibling]] = defaultdict(list)
    listed = sa.exists().where(entries.c.version_id == versions.c.id)
    present = listed.where(entries.c.state == EntryState.PRESENT)
    held: sa.ColumnElement[int] = holdings.c.level
    if not keeps_versions:
        held = sa.case((was_replaced(destination_id), Level.NONE.value), else_=held)
    level = (
        sa.select(held)
        .where(holdings.c.version_id == versions.c.id, holdings.c.destination_id == destination_id)
        .scalar_subquery()
    )
    query = sa.select(
        versions.c.id,
        versions.c.instance_id,
        versions.c.file_sha256,
        versions.c.data_set_digest,
        listed.label("listed"),
        present.label("present"),
        present.where(entries.c.source_id == source_id).label("present_here"),
        sa.func.coalesce(level, 0).label("level"),
        sa.func.coalesce(_newest_failure(destination_id), 0).label("failed"),
    )
    for some in chunks(sorted(of_instances)):
        for row in connection.execute(query.where(versions.c.instance_id.in_(some))):
            found[row.instance_id].append(
                Sibling(
                    row.id,
                    row.file_sha256 or b"",
                    b"" if keeps_versions else row.data_set_digest or b"",
                    bool(row.listed),
                    bool(row.present),
                    bool(row.present_here),
                    row.level,
                    row.failed,
                )
            )
    return found


def _newest_failure(destination_id: DestinationId) -> sa.ScalarSelect[int]:
    return (
        sa.select(sa.func.max(items.c.id))
        .join(jobs, jobs.c.id == items.c.job_id)
        .join(run_destinations, run_destinations.c.id == jobs.c.run_destination_id)
        .where(
            items.c.version_id == versions.c.id,
            items.c.state.in_(_NOT_DELIVERED),
            run_destinations.c.destination_id == destination_id,
        )
        .correlate(versions)
        .scalar_subquery()
    )


def stand_in(own: Sibling, others: Iterable[Sibling], level: int) -> int | None:
    """Return the version that stands for this one: equal in its data set.

    One that is there comes first, though no source lists it any more if it is held at `level` or
    above; else one that is due in the same source. Of these it is the one that did not fail, or
    failed longest ago: what cannot be delivered keeps nobody out. None where the version stands
    for itself, also because it is there already.
    """
    if own.there:
        return None
    equal = [one for one in others if one.is_equal(own) and one.listed]
    there = [one for one in equal if one.level >= level or (one.there and one.present)]
    if there:
        return max(there, key=lambda one: (one.level, -one.version_id)).version_id
    first = min((one for one in (own, *equal) if one.present_here), key=_turn, default=own)
    return first.version_id if _turn(first) < _turn(own) else None


def _turn(one: Sibling) -> tuple[int, int]:
    return one.failed, one.version_id


def is_conflict(own: Sibling, others: Sequence[Sibling]) -> bool:
    """Say whether other content has, or comes first for, the one place under this identity.

    In the source itself the version seen first comes first; contents that nobody read yet count
    as different. Another source's content counts only where it is at the destination already,
    and is known to be different: a source that goes elsewhere takes nobody's place.
    """
    if any(
        one.present and one.there and own.file_sha256 and one.file_sha256 and differs(own, one)
        for one in others
    ):
        return True
    before = [one for one in others if one.present_here and one.version_id < own.version_id]
    if not before:
        return False
    return differs(own, min(before, key=lambda one: one.version_id))


def differs(own: Sibling, other: Sibling) -> bool:
    """Say whether contents differ; those that nobody read count as different."""
    if own.is_equal(other):
        return False
    return not own.file_sha256 or own.file_sha256 != other.file_sha256


def version_there(destination_id: int) -> sa.ColumnElement[int]:
    """Return the version of an entry (joined with its version), or the one that stands for it.

    That is one that is held or sent at the destination; see `stand_in`.
    """
    return sa.case(
        (versions.c.data_set_digest.is_(None), versions.c.id),
        (_keeps_versions(destination_id), versions.c.id),
        (is_there(destination_id), versions.c.id),
        else_=sa.func.coalesce(equal_there(destination_id), versions.c.id),
    )


def equal_there(destination_id: int) -> sa.ScalarSelect[int]:
    """Return the best version that is there whose data set equals that of a version."""
    other, other_holdings = versions.alias("equal"), holdings.alias("equal_holdings")
    return (
        sa.select(other.c.id)
        .join(other_holdings, other_holdings.c.version_id == other.c.id)
        .where(
            other.c.instance_id == versions.c.instance_id,
            other.c.data_set_digest == versions.c.data_set_digest,
            # Not by the key of holdings: SQLite would walk all of the destination for each.
            other_holdings.c.destination_id + 0 == destination_id,
            other_holdings.c.level >= Level.SENT,
            sa.exists().where(entries.c.version_id == other.c.id).correlate(other),
        )
        .order_by(other_holdings.c.level.desc(), other.c.id)
        .limit(1)
        .correlate(versions)
        .scalar_subquery()
    )


def was_replaced(destination_id: int) -> sa.ColumnElement[bool]:
    """Say of a holding whether other content came to its place since.

    Where there is one place for each identity, a source whose file changes and changes back leaves
    two holdings, and one content: the one that came last, or was read back last. A name in a list
    does not tell which it is.
    """
    own, other, others = versions.alias(), versions.alias(), holdings.alias()
    return (
        sa.exists()
        .where(
            ~_keeps_versions(destination_id),
            own.c.id == holdings.c.version_id,
            other.c.instance_id == own.c.instance_id,
            other.c.id != own.c.id,
            _differ(own, other),
            others.c.version_id == other.c.id,
            # Not by the key of holdings: SQLite would walk all of the destination for each.
            others.c.destination_id + 0 == destination_id,
            others.c.level >= Level.SENT,
            _last_there(others) > _last_there(holdings),
        )
        .correlate(holdings)
    )


def replaced_versions(destination_id: int) -> sa.Select[tuple[int]]:
    """List the versions of which `was_replaced` is true: all of a destination's in one go.

    Of most instances there is one version: those of several are found first, by an index alone.
    """
    own, other = versions.alias("replaced"), versions.alias("replacing")
    own_holdings, others = holdings.alias("replaced_holdings"), holdings.alias("others")
    several = (
        sa.select(versions.c.instance_id)
        .where(versions.c.instance_id.is_not(None))
        .group_by(versions.c.instance_id)
        .having(sa.func.count() > 1)
        .cte("several")
    )
    return (
        sa.select(own.c.id)
        .distinct()
        .select_from(several)
        .join(own, own.c.instance_id == several.c.instance_id)
        .join(
            own_holdings,
            sa.and_(
                own_holdings.c.version_id == own.c.id,
                own_holdings.c.destination_id == destination_id,
            ),
        )
        .join(other, sa.and_(other.c.instance_id == own.c.instance_id, other.c.id != own.c.id))
        .join(
            others,
            sa.and_(
                others.c.version_id == other.c.id,
                others.c.destination_id == destination_id,
                others.c.level >= Level.SENT,
            ),
        )
        .where(
            ~_keeps_versions(destination_id),
            _differ(own, other),
            _last_there(others) > _last_there(own_holdings),
        )
    )


def _differ(one: Any, other: Any) -> sa.ColumnElement[bool]:
    return sa.or_(
        one.c.data_set_digest.is_(None),
        other.c.data_set_digest.is_(None),
        one.c.data_set_digest != other.c.data_set_digest,
    )


def _last_there(of: Any) -> sa.ColumnElement[int]:
    """Return when a content itself came or was read back last (microseconds); 0 for never."""
    moments = (
        sa.type_coerce(column, sa.BigInteger) for column in (of.c.received_at, of.c.proven_at)
    )
    return Newest(*(sa.func.coalesce(one, sa.literal_column("0")) for one in moments))


def _keeps_versions(destination_id: int) -> sa.ScalarSelect[bool]:
    return (
        sa.select(destinations.c.keeps_versions)
        .where(destinations.c.id == destination_id)
        .scalar_subquery()
    )


def is_there(destination_id: int) -> sa.ColumnElement[bool]:
    """Say of a version whether it is held or sent at the destination itself."""
    own = holdings.alias("own")
    return sa.exists().where(
        own.c.version_id == versions.c.id,
        own.c.destination_id == destination_id,
        own.c.level >= Level.SENT,
    )
