"""Accounts of the dashboard, their sessions, recovery codes and links.

Frozen: what this revision does never changes again, whatever the tables become.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0014"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "web_accounts",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("password", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("language", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("last_seen_at", sa.BigInteger(), nullable=True),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("totp_secret", sa.LargeBinary(), nullable=True),
        sa.Column("totp_step", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_web_accounts"),
        sa.UniqueConstraint("name", name="uq_web_accounts_name"),
    )
    _of_an_account("web_recovery_codes", sa.Column("digest", sa.LargeBinary(), nullable=False))
    _of_an_account(
        "web_sessions",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("is_half", sa.Boolean(), nullable=False),
        sa.Column("revealed_until", sa.BigInteger(), nullable=True),
        sa.UniqueConstraint("digest", name="uq_web_sessions_digest"),
    )
    _of_an_account(
        "web_links",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.UniqueConstraint("digest", name="uq_web_links_digest"),
        nullable=True,
    )


def _of_an_account(name: str, *parts: sa.schema.SchemaItem, nullable: bool = False) -> None:
    op.create_table(
        name,
        sa.Column("id", _KEY, nullable=False),
        sa.Column("account_id", _KEY, nullable=nullable),
        *parts,
        sa.PrimaryKeyConstraint("id", name=f"pk_{name}"),
        sa.ForeignKeyConstraint(["account_id"], ["web_accounts.id"], name=f"fk_{name}_account_id"),
    )
    op.create_index(f"ix_{name}_account_id", name, ["account_id"])
