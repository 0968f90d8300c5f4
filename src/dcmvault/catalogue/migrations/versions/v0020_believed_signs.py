"""Whom of a channel's recipients a notice is still to be told; what was believed of sources.

Frozen: what this revision does never changes again, whatever the tables become.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0017"
branch_labels = None
depends_on = None


_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the column and the table."""
    op.add_column(
        "notice_deliveries",
        sa.Column("recipients_left", sa.Text(), server_default="", nullable=False),
    )
    op.create_table(
        "believed_signs",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("source_id", _KEY, nullable=False),
        sa.Column("believed_at", sa.BigInteger(), nullable=False),
        *(
            sa.Column(name, sa.BigInteger(), server_default="0", nullable=False)
            for name in ("known", "changed", "spoilt", "mended")
        ),
        sa.ForeignKeyConstraint(["source_id"], ["sources.id"], name="fk_believed_signs_source_id"),
        sa.PrimaryKeyConstraint("id", name="pk_believed_signs"),
    )
    op.create_index(
        "ix_believed_signs_source_id_believed_at", "believed_signs", ["source_id", "believed_at"]
    )
