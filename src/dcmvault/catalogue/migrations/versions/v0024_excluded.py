"""Studies that are left out of backups.

Frozen: what this revision does never changes again, whatever the tables become.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "study_exclusions",
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("excluded_by", sa.Text(), nullable=False),
        sa.Column("excluded_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("study_instance_uid", name="pk_study_exclusions"),
        sqlite_with_rowid=False,
    )
