"""The table of limits that somebody set for a while; part of the one metadata."""

from __future__ import annotations

import sqlalchemy as sa

from dcmvault.catalogue.tables import Key, Moment, metadata

slowed_destinations = sa.Table(
    "slowed_destinations",
    metadata,
    sa.Column(
        "destination_id",
        Key,
        sa.ForeignKey("destinations.id"),
        primary_key=True,
        autoincrement=False,
    ),
    sa.Column("bytes_per_s", sa.Double, nullable=False),
    sa.Column("until", Moment, nullable=False),
)
