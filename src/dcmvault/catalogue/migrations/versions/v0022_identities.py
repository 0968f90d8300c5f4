"""Accounts of people who log in at an OpenID Connect provider.

Frozen: what this revision does never changes again, whatever the tables become.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Say of accounts at which provider they log in, and as whom."""
    op.add_column("web_accounts", sa.Column("issuer", sa.Text(), nullable=True))
    op.add_column("web_accounts", sa.Column("subject", sa.Text(), nullable=True))
    op.create_index("ix_web_accounts_identity", "web_accounts", ["issuer", "subject"], unique=True)
