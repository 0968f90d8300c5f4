"""Schedules, the runs that they asked for, and queues that closed hours hold.

Frozen: what this revision does never changes again, whatever `schedule_tables.py` becomes.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0015"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "schedules",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("definition", sa.Text(), nullable=False),
        sa.Column("next_at", sa.BigInteger()),
        sa.Column("last_due_at", sa.BigInteger()),
        sa.Column("waiting_since", sa.BigInteger()),
        sa.Column("enabled", sa.Boolean()),
        sa.PrimaryKeyConstraint("name", name="pk_schedules"),
    )
    op.create_table(
        "scheduled_runs",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("schedule", sa.Text(), nullable=False),
        sa.Column("plan", sa.Text(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("settled", sa.Boolean(), nullable=False),
        sa.Column("problem", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_scheduled_runs"),
        sa.UniqueConstraint(
            "schedule", "due_at", "position", name="uq_scheduled_runs_schedule_due_at_position"
        ),
    )
    op.create_index("ix_scheduled_runs_run_id", "scheduled_runs", ["run_id"])
    op.create_index(
        "ix_scheduled_runs_open",
        "scheduled_runs",
        ["id"],
        sqlite_where=sa.text("NOT settled"),
        postgresql_where=sa.text("NOT settled"),
    )
    op.create_table(
        "queue_holds",
        sa.Column("destination_id", _KEY, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["destination_id"], ["destinations.id"], name="fk_queue_holds_destination_id"
        ),
        sa.PrimaryKeyConstraint("destination_id", name="pk_queue_holds"),
    )
