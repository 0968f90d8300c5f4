"""The matrix of studies and destinations: its counts, what changed since, and saved views.

Every study is noted as changed, and so counted when somebody looks.

Frozen: what this revision does never changes again, whatever the tables become.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0020"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Add the tables, and note every study."""
    _add_lines()
    _add_places()
    op.create_table(
        "study_changes",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("study_id", _KEY, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_study_changes"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_study_changes_study_id", "study_changes", ["study_id"])
    op.create_table(
        "saved_views",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("query", sa.Text(), nullable=False),
        sa.Column("columns", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("account", "name", name="pk_saved_views"),
        sqlite_with_rowid=False,
    )
    op.execute("INSERT INTO study_changes (study_id) SELECT id FROM studies")


def _key(name: str) -> sa.Column[int]:
    return sa.Column(name, _KEY, autoincrement=False, nullable=False)


def _refers(table: str, name: str, target: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([name], [f"{target}.id"], name=f"fk_{table}_{name}")


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), server_default="0", nullable=False)


def _add_lines() -> None:
    op.create_table(
        "study_lines",
        _key("study_id"),
        sa.Column("search", sa.Text(), nullable=False),
        sa.Column("study_date", sa.Text(), nullable=False),
        sa.Column("modalities", sa.Text(), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("level", sa.SmallInteger(), nullable=False),
        *(_count(name) for name in ("series", "instances", "bytes", "unreadable")),
        sa.Column("counted_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("study_id", name="pk_study_lines"),
        _refers("study_lines", "study_id", "studies"),
    )
    for name in ("study_date", "search", "state", "bytes"):
        op.create_index(f"ix_study_lines_{name}_study_id", "study_lines", [name, "study_id"])


def _add_places() -> None:
    op.create_table(
        "study_copies",
        _key("destination_id"),
        _key("study_id"),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("level", sa.SmallInteger(), nullable=False),
        _count("expected"),
        *(_count(name) for name in ("sent", "present", "complete", "committed", "proven")),
        *(_count(name) for name in ("missing", "damaged", "coerced")),
        sa.Column("oldest_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("destination_id", "study_id", name="pk_study_copies"),
        _refers("study_copies", "destination_id", "destinations"),
        _refers("study_copies", "study_id", "studies"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_study_copies_study_id", "study_copies", ["study_id"])
    op.create_table(
        "study_sources",
        _key("source_id"),
        _key("study_id"),
        _count("instances"),
        sa.PrimaryKeyConstraint("source_id", "study_id", name="pk_study_sources"),
        _refers("study_sources", "source_id", "sources"),
        _refers("study_sources", "study_id", "studies"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_study_sources_study_id", "study_sources", ["study_id"])
    op.create_table(
        "expected_routes",
        _key("source_id"),
        _key("destination_id"),
        sa.Column("keeps_versions", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("source_id", "destination_id", name="pk_expected_routes"),
        _refers("expected_routes", "source_id", "sources"),
        _refers("expected_routes", "destination_id", "destinations"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "study_holds",
        _key("destination_id"),
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("destination_id", "study_instance_uid", name="pk_study_holds"),
        _refers("study_holds", "destination_id", "destinations"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_study_holds_study_instance_uid", "study_holds", ["study_instance_uid"])
