"""What rules ask of series, what people taught, and which study went where.

Frozen: what this revision does never changes again, whatever `tables.py` becomes.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the columns, and make the tables."""
    for name in ("source_ae_title", "station_name"):
        op.add_column("series", sa.Column(name, sa.Text(), server_default="", nullable=False))
    op.create_table(
        "lessons",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("study_id", _KEY, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("given_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["studies.id"], name="fk_lessons_study_id"),
        sa.PrimaryKeyConstraint("id", name="pk_lessons"),
    )
    op.create_index("ix_lessons_study_id", "lessons", ["study_id"])
    op.create_table(
        "routes",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("run_id", _KEY, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("study_instance_uid", sa.Text(), server_default="", nullable=False),
        sa.Column("destination_id", _KEY, nullable=False),
        sa.Column("instead_of", _KEY, nullable=True),
        sa.Column("why", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_routes_run_id"),
        sa.ForeignKeyConstraint(
            ["destination_id"], ["destinations.id"], name="fk_routes_destination_id"
        ),
        sa.ForeignKeyConstraint(["instead_of"], ["destinations.id"], name="fk_routes_instead_of"),
        sa.PrimaryKeyConstraint("id", name="pk_routes"),
    )
    op.create_index("ix_routes_run_id", "routes", ["run_id"])
    op.create_index("ix_routes_study_instance_uid", "routes", ["study_instance_uid"])
