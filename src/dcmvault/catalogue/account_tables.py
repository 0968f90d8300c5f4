"""Tables of the dashboard: accounts, sessions, recovery codes, links, and logins that failed."""

from __future__ import annotations

import sqlalchemy as sa

from dcmvault.catalogue.tables import FreeText, Key, Moment, Word, metadata
from dcmvault.model.account import Role


def _account(*, nullable: bool = False) -> sa.Column[int]:
    reference = sa.ForeignKey("web_accounts.id")
    return sa.Column("account_id", Key, reference, nullable=nullable, index=True)


accounts = sa.Table(
    "web_accounts",
    metadata,
    sa.Column("id", Key, primary_key=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("password", sa.Text, nullable=False),
    sa.Column("role", Word(Role), nullable=False),
    sa.Column("language", sa.Text, nullable=False),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("last_seen_at", Moment),
    sa.Column("disabled", sa.Boolean, nullable=False),
    sa.Column("totp_secret", sa.LargeBinary),
    # The last time step whose code was used (RFC 6238 section 5.2: each works once).
    sa.Column("totp_step", sa.BigInteger, nullable=False),
    # Whom an OpenID Connect provider means; neither for an account with a password of its own.
    sa.Column("issuer", sa.Text),
    sa.Column("subject", sa.Text),
    sa.Index("ix_web_accounts_identity", "issuer", "subject", unique=True),
)

recovery_codes = sa.Table(
    "web_recovery_codes",
    metadata,
    sa.Column("id", Key, primary_key=True),
    _account(),
    sa.Column("digest", sa.LargeBinary, nullable=False),
)

sessions = sa.Table(
    "web_sessions",
    metadata,
    sa.Column("id", Key, primary_key=True),
    _account(),
    sa.Column("digest", sa.LargeBinary, nullable=False, unique=True),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("used_at", Moment, nullable=False),
    sa.Column("address", FreeText, nullable=False),
    sa.Column("is_half", sa.Boolean, nullable=False),
    sa.Column("revealed_until", Moment),
)

links = sa.Table(
    "web_links",
    metadata,
    sa.Column("id", Key, primary_key=True),
    # None: for whoever makes the first account.
    _account(nullable=True),
    sa.Column("digest", sa.LargeBinary, nullable=False, unique=True),
    sa.Column("expires_at", Moment, nullable=False),
)

#: Of whom is not to be read from it: people type passwords as names.
login_failures = sa.Table(
    "web_login_failures",
    metadata,
    sa.Column("digest", sa.LargeBinary, primary_key=True),
    sa.Column("failed", sa.BigInteger, nullable=False),
    sa.Column("last_at", Moment, nullable=False),
)
