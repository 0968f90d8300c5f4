"""Drills: which studies were restored to scratch, and what came of it.

Frozen: what this revision does never changes again, whatever `tables.py` becomes.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "drills",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("drilled_at", sa.BigInteger(), nullable=False),
        sa.Column("whole_studies", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("whole_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("opening_s", sa.Double(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_drills"),
    )
    op.create_index("ix_drills_place", "drills", ["place"])
    op.create_table(
        "drilled_studies",
        sa.Column("drill_id", _KEY, autoincrement=False, nullable=False),
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("files", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("seconds", sa.Double(), server_default="0", nullable=False),
        sa.Column("problem", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["drill_id"], ["drills.id"], name="fk_drilled_studies_drill_id"),
        sa.PrimaryKeyConstraint("drill_id", "study_instance_uid", name="pk_drilled_studies"),
    )
    op.create_index(
        "ix_drilled_studies_study_instance_uid", "drilled_studies", ["study_instance_uid"]
    )
