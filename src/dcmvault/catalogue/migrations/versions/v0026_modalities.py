"""An index of the matrix by modalities: which there are is found, and counted, in it alone.

Frozen: what this revision does never changes again, whatever the tables become.
"""

from __future__ import annotations

from alembic import op

revision = "0026"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the index."""
    op.create_index("ix_study_lines_modalities_state", "study_lines", ["modalities", "state"])
