"""Indexes of the matrix: modalities, and states at a destination, are counted in them alone.

Frozen: what this revision does never changes again, whatever the tables become.
"""

from __future__ import annotations

from alembic import op

revision = "0026"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the indexes."""
    op.create_index("ix_study_lines_modalities_state", "study_lines", ["modalities", "state"])
    op.create_index(
        "ix_study_copies_destination_id_state_study_id",
        "study_copies",
        ["destination_id", "state", "study_id"],
    )
