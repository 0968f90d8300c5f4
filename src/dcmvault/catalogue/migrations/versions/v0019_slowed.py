"""Limits that somebody set for a while.

Frozen: what this revision does never changes again, whatever the tables become.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "slowed_destinations",
        sa.Column("destination_id", _KEY, autoincrement=False, nullable=False),
        sa.Column("bytes_per_s", sa.Double(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("destination_id", name="pk_slowed_destinations"),
        sa.ForeignKeyConstraint(
            ["destination_id"],
            ["destinations.id"],
            name="fk_slowed_destinations_destination_id",
        ),
    )
