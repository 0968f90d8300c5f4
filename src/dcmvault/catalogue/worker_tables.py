"""Tables of workers that share the catalogue, and of associations shared among them."""

from __future__ import annotations

import sqlalchemy as sa

from dcmvault.catalogue.tables import Moment, metadata

#: One row for each worker that is at work, or was when it died. Moments are the server's.
workers = sa.Table(
    "workers",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("process", sa.Integer, nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    # Under which name the durable engine writes down what it does.
    sa.Column("executor", sa.Text, nullable=False),
    sa.Column("started_at", Moment, nullable=False),
    sa.Column("beat_at", Moment, nullable=False),
    # JSON: what it does, and what it cannot reach.
    sa.Column("doing", sa.Text, nullable=False),
    sqlite_with_rowid=False,
)

association_shares = sa.Table(
    "association_shares",
    metadata,
    # A destination's address.
    sa.Column("limit_name", sa.Text, primary_key=True),
    sa.Column("holder", sa.Text, primary_key=True),
    sa.Column("in_use", sa.Integer, nullable=False),
    sa.Column("granted", sa.Integer, nullable=False),
    sa.Column("usable_from", Moment, nullable=False),
    sa.Column("leased_until", Moment, nullable=False),
    sqlite_with_rowid=False,
)
