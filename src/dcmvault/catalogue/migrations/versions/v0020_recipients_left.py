"""Whom of a channel's recipients a notice is still to be told.

Frozen: what this revision does never changes again, whatever the tables become.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column(
        "notice_deliveries",
        sa.Column("recipients_left", sa.Text(), server_default="", nullable=False),
    )
