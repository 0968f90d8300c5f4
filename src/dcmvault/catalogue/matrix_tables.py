"""Tables of the matrix of studies and destinations; part of the one metadata.

But for saved views and for the studies that are left out of backups, they say nothing that other
tables do not say: they are counted from these. `study_changes` names
the studies whose counts no longer hold; who changes a study's entries or copies adds a row in the
same transaction. Nothing is ever waited for there: rows are only added, and taken by their keys.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from dcmvault.catalogue.tables import FreeText, Key, Moment, metadata


def _reference(name: str, target: str) -> sa.Column[Any]:
    return sa.Column(
        name, Key, sa.ForeignKey(f"{target}.id"), primary_key=True, autoincrement=False
    )


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default="0")


study_lines = sa.Table(
    "study_lines",
    metadata,
    _reference("study_id", "studies"),
    # The folded name comes first, so that this also sorts by it. Patient data.
    sa.Column("search", FreeText, nullable=False),
    sa.Column("study_date", sa.Text, nullable=False),
    # Each between slashes.
    sa.Column("modalities", sa.Text, nullable=False),
    sa.Column("state", sa.SmallInteger, nullable=False),
    sa.Column("level", sa.SmallInteger, nullable=False),
    _count("series"),
    _count("instances"),
    _count("bytes"),
    _count("unreadable"),
    sa.Column("counted_at", Moment, nullable=False),
    sa.Index(None, "study_date", "study_id"),
    sa.Index(None, "search", "study_id"),
    sa.Index(None, "state", "study_id"),
    sa.Index(None, "bytes", "study_id"),
    # Which modalities there are, and how many studies of a modality are in which state.
    sa.Index(None, "modalities", "state"),
)

study_copies = sa.Table(
    "study_copies",
    metadata,
    _reference("destination_id", "destinations"),
    _reference("study_id", "studies"),
    sa.Column("state", sa.SmallInteger, nullable=False),
    sa.Column("level", sa.SmallInteger, nullable=False),
    _count("expected"),
    *(_count(word) for word in ("sent", "present", "complete", "committed", "proven")),
    *(_count(word) for word in ("missing", "damaged", "coerced")),
    sa.Column("oldest_at", Moment),
    sa.Index(None, "study_id"),
    # How many studies are in which state at a destination, without their counts being read.
    sa.Index(None, "destination_id", "state", "study_id"),
    sqlite_with_rowid=False,
)

study_sources = sa.Table(
    "study_sources",
    metadata,
    _reference("source_id", "sources"),
    _reference("study_id", "studies"),
    _count("instances"),
    sa.Index(None, "study_id"),
    sqlite_with_rowid=False,
)

study_changes = sa.Table(
    "study_changes",
    metadata,
    sa.Column("id", Key, primary_key=True),
    sa.Column("study_id", Key, nullable=False, index=True),
    # A key that was taken must not come back while somebody still counts by it.
    sqlite_autoincrement=True,
)

#: Which source's studies should be at which destination, as the counts were made.
expected_routes = sa.Table(
    "expected_routes",
    metadata,
    _reference("source_id", "sources"),
    _reference("destination_id", "destinations"),
    sa.Column("keeps_versions", sa.Boolean, nullable=False),
    sqlite_with_rowid=False,
)

#: What vaults say of legal holds, as was last known.
study_holds = sa.Table(
    "study_holds",
    metadata,
    _reference("destination_id", "destinations"),
    # Not a key of `studies`: a vault may hold studies that this catalogue never saw.
    sa.Column("study_instance_uid", FreeText, primary_key=True, index=True),
    sqlite_with_rowid=False,
)

#: Studies that somebody said are not to be backed up.
study_exclusions = sa.Table(
    "study_exclusions",
    metadata,
    # Not a key of `studies`: a study may be left out before it was ever seen.
    sa.Column("study_instance_uid", FreeText, primary_key=True),
    sa.Column("reason", FreeText, nullable=False),
    sa.Column("excluded_by", FreeText, nullable=False),
    sa.Column("excluded_at", Moment, nullable=False),
    sqlite_with_rowid=False,
)

saved_views = sa.Table(
    "saved_views",
    metadata,
    sa.Column("account", FreeText, primary_key=True),
    sa.Column("name", FreeText, primary_key=True),
    sa.Column("query", FreeText, nullable=False),
    sa.Column("columns", FreeText, nullable=False, server_default=""),
    sqlite_with_rowid=False,
)

#: What was counted over all instances, with its time; one row at most.
kept_counts = sa.Table(
    "kept_counts",
    metadata,
    sa.Column("id", Key, primary_key=True, autoincrement=False),
    sa.Column("counted_at", Moment, nullable=False),
    sa.Column("mark", sa.Text, nullable=False),
    sa.Column("again_at", Moment),
    sa.Column("counts", FreeText, nullable=False),
)
