"""The newest link of each chain of manifests: whoever cuts a chain at its end is found out.

Frozen: what this revision does never changes again, whatever `tables.py` becomes.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "manifest_links",
        sa.Column("chain", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("chain", name="pk_manifest_links"),
        sqlite_with_rowid=False,
    )
