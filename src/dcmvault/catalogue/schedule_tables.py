"""Tables of schedules: part of the catalogue's one metadata."""

from __future__ import annotations

import sqlalchemy as sa

from dcmvault.catalogue.tables import FreeText, Key, Moment, metadata

schedules = sa.Table(
    "schedules",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("definition", sa.Text, nullable=False),
    sa.Column("next_at", Moment),
    sa.Column("last_due_at", Moment),
    sa.Column("waiting_since", Moment),
    # NULL: as configured.
    sa.Column("enabled", sa.Boolean),
)

scheduled_runs = sa.Table(
    "scheduled_runs",
    metadata,
    sa.Column("id", Key, primary_key=True),
    sa.Column("schedule", sa.Text, nullable=False),
    sa.Column("plan", sa.Text, nullable=False),
    sa.Column("due_at", Moment, nullable=False),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("source", FreeText, nullable=False),
    sa.Column("run_id", sa.Text, nullable=False, index=True),
    sa.Column("settled", sa.Boolean, nullable=False),
    sa.Column("problem", FreeText, nullable=False, server_default=""),
    # What was due once begins once, whatever process says so.
    sa.UniqueConstraint("schedule", "due_at", "position"),
    sa.Index(
        "ix_scheduled_runs_open",
        "id",
        sqlite_where=sa.text("NOT settled"),
        postgresql_where=sa.text("NOT settled"),
    ),
)

queue_holds = sa.Table(
    "queue_holds",
    metadata,
    sa.Column(
        "destination_id",
        Key,
        sa.ForeignKey("destinations.id"),
        primary_key=True,
        autoincrement=False,
    ),
    sa.Column("state", sa.Text, nullable=False),
)
