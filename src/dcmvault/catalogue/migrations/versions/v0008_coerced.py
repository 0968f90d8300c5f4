"""Whether a proven copy differs in attributes that its destination writes itself.

Frozen: what this revision does never changes again, whatever `tables.py` becomes.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column(
        "holdings",
        sa.Column("coerced", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
