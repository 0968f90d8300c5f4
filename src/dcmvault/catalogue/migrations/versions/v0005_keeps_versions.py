"""Whether a destination keeps several contents under one identity, as its plans found.

Frozen: what this revision does never changes again, whatever `tables.py` becomes.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column(
        "destinations",
        sa.Column("keeps_versions", sa.Boolean(), server_default=sa.true(), nullable=False),
    )
