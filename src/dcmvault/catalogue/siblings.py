"""Versions of one instance beside each other: which differ, and which stand for another.

Contents whose data sets are equal though their bytes are not (a PACS wrote one of them anew) are
one instance: the version that is at the destination, else the one seen first, stands for the other.
It does so only as long as some source still lists it: what took the place of a file that is gone
is backed up byte for byte.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from dcmvault.catalogue.database import chunks
from dcmvault.catalogue.tables import EntryState, entries, holdings, versions
from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import DestinationId, SourceId


@dataclass(frozen=True, slots=True)
class Sibling:
    """Another version of an instance."""

    version_id: int
    file_sha256: bytes  #: empty until read once
    data_set_digest: bytes  #: empty unless two contents were compared
    present: bool  #: in any source
    present_here: bool  #: in the source that is asked about
    level: int  #: of what is held or sent at the destination

    @property
    def there(self) -> bool:
        """Whether it is held or sent at the destination."""
        return self.level >= Level.SENT


def siblings(
    connection: sa.Connection,
    source_id: SourceId,
    destination_id: DestinationId,
    of_instances: Collection[int],
) -> dict[int | None, list[Sibling]]:
    """Return the versions of instances, as they stand at a destination."""
    found: dict[int | None, list[Sibling]] = defaultdict(list)
    present = sa.exists().where(
        entries.c.version_id == versions.c.id, entries.c.state == EntryState.PRESENT
    )
    query = sa.select(
        versions.c.id,
        versions.c.instance_id,
        versions.c.file_sha256,
        versions.c.data_set_digest,
        present.label("present"),
        present.where(entries.c.source_id == source_id).label("present_here"),
        sa.func.coalesce(
            sa.select(holdings.c.level)
            .where(
                holdings.c.version_id == versions.c.id,
                holdings.c.destination_id == destination_id,
            )
            .scalar_subquery(),
            0,
        ).label("level"),
    )
    for some in chunks(sorted(of_instances)):
        for row in connection.execute(query.where(versions.c.instance_id.in_(some))):
            found[row.instance_id].append(
                Sibling(
                    row.id,
                    row.file_sha256 or b"",
                    row.data_set_digest or b"",
                    bool(row.present),
                    bool(row.present_here),
                    row.level,
                )
            )
    return found


def stand_in(row: Any, others: Sequence[Sibling], level: int) -> int | None:
    """Return the version that stands for the one of `row`: equal in its data set, and present.

    One that is held at `level` or above comes first; else one that the same source has, and was
    seen before. None where the version stands for itself, also because it is there already.
    """
    if not row.data_set_digest or row.level >= Level.SENT:
        return None
    equal = [one for one in others if one.present and one.data_set_digest == row.data_set_digest]
    held = [one.version_id for one in equal if one.level >= level]
    first = [
        one.version_id for one in equal if one.present_here and one.version_id < row.version_id
    ]
    return min(held or first, default=None)


def is_conflict(row: Any, others: Sequence[Sibling]) -> bool:
    """Say whether other content has, or comes first for, the one place under this identity.

    In the source itself the version seen first comes first; contents that nobody read yet count
    as different. Another source's content counts only where it is at the destination already,
    and is known to be different: a source that goes elsewhere takes nobody's place.
    """
    digest = row.file_sha256
    if any(
        one.present and one.there and digest and one.file_sha256 and _differs(row, one)
        for one in others
    ):
        return True
    before = [one for one in others if one.present_here and one.version_id < row.version_id]
    if not before:
        return False
    return _differs(row, min(before, key=lambda one: one.version_id))


def _differs(row: Any, other: Sibling) -> bool:
    """Say whether contents differ; those that nobody read count as different."""
    if row.data_set_digest and row.data_set_digest == other.data_set_digest:
        return False
    return not row.file_sha256 or bool(row.file_sha256 != other.file_sha256)


def version_there(destination_id: int) -> sa.ColumnElement[int]:
    """Return the version of an entry (joined with its version), or the one that stands for it.

    That is one that is held or sent at the destination; see `stand_in`.
    """
    other, other_entries = versions.alias("equal"), entries.alias("equal_entries")
    equal = (
        sa.select(sa.func.min(other.c.id))
        .join(holdings, holdings.c.version_id == other.c.id)
        .where(
            other.c.instance_id == versions.c.instance_id,
            other.c.data_set_digest == versions.c.data_set_digest,
            holdings.c.destination_id == destination_id,
            holdings.c.level >= Level.SENT,
            sa.exists().where(
                other_entries.c.version_id == other.c.id,
                other_entries.c.state == EntryState.PRESENT,
            ),
        )
        .correlate(versions)
        .scalar_subquery()
    )
    return sa.case(
        (versions.c.data_set_digest.is_(None), versions.c.id),
        (_is_there(destination_id), versions.c.id),
        else_=sa.func.coalesce(equal, versions.c.id),
    )


def _is_there(destination_id: int) -> sa.ColumnElement[bool]:
    own = holdings.alias("own")
    return sa.exists().where(
        own.c.version_id == versions.c.id,
        own.c.destination_id == destination_id,
        own.c.level >= Level.SENT,
    )
