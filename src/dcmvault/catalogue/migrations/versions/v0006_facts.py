"""When each level of evidence was last given for a copy: facts that age independently.

Frozen: what this revision does never changes again, whatever `tables.py` becomes.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_LEVELS = {"present_at": 2, "complete_at": 3, "committed_at": 4, "proven_at": 5}


def upgrade() -> None:
    """Add the columns; what was known is one fact for each copy."""
    names = ("level", "verified_at", *_LEVELS)
    holdings = sa.table("holdings", *map(sa.column, names))
    for name, level in _LEVELS.items():
        op.add_column("holdings", sa.Column(name, sa.BigInteger(), nullable=True))
        op.execute(
            holdings.update()
            .where(holdings.c.level == level)
            .values({name: holdings.c.verified_at})
        )
