"""Snapshots that destinations were seen to have, and why a run could take none.

Frozen: what this revision does never changes again, whatever `tables.py` becomes.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

#: SQLite gives keys by itself only to a column of type INTEGER.
KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Add the table, and columns to the runs' parts at destinations."""
    op.create_table(
        "snapshots",
        sa.Column("destination_id", KEY, autoincrement=False, nullable=False),
        sa.Column("snapshot_id", sa.Text(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("run_id", KEY, nullable=True),
        sa.ForeignKeyConstraint(
            ["destination_id"], ["destinations.id"], name=op.f("fk_snapshots_destination_id")
        ),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_snapshots_run_id")),
        sa.PrimaryKeyConstraint("destination_id", "snapshot_id", name=op.f("pk_snapshots")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_snapshots_run_id"), "snapshots", ["run_id"], unique=False)
    for name in ("snapshot_failure_code", "snapshot_failure", "snapshot_failure_hint"):
        op.add_column(
            "run_destinations", sa.Column(name, sa.Text(), server_default="", nullable=False)
        )
