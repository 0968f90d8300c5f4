"""Seconds by stage at each destination of a run.

Frozen: what this revision does never changes again, whatever `tables.py` becomes.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column(
        "run_destinations",
        sa.Column("stages", sa.Text(), server_default="{}", nullable=False),
    )
