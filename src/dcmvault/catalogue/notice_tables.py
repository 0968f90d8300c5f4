"""Tables of notices: what is kept until every channel was told."""

from __future__ import annotations

import sqlalchemy as sa

from dcmvault.catalogue.tables import FreeText, Key, Moment, Word, metadata
from dcmvault.ports.notices import DeliveryState

notices = sa.Table(
    "notices",
    metadata,
    sa.Column("id", Key, primary_key=True),
    sa.Column("notice_id", sa.Text, nullable=False, unique=True),
    sa.Column("event", sa.Text, nullable=False),
    sa.Column("severity", sa.Text, nullable=False),
    sa.Column("at", Moment, nullable=False, index=True),
    sa.Column("plan", sa.Text, nullable=False),
    # The run's name, not its key: a notice is kept though it may be told later than anything.
    sa.Column("run_id", sa.Text, nullable=False, index=True),
    sa.Column("facts", FreeText, nullable=False),
)

notice_deliveries = sa.Table(
    "notice_deliveries",
    metadata,
    sa.Column("id", Key, primary_key=True),
    sa.Column("notice_key", Key, sa.ForeignKey("notices.id"), nullable=False),
    sa.Column("channel", sa.Text, nullable=False),
    sa.Column("state", Word(DeliveryState), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    # When it is tried; while somebody tries it, when the next one may.
    sa.Column("next_at", Moment),
    sa.Column("settled_at", Moment),
    sa.Column("code", sa.Text, nullable=False, server_default=""),
    sa.Column("message", FreeText, nullable=False, server_default=""),
    # A list in JSON; empty: all of the channel's.
    sa.Column("recipients_left", FreeText, nullable=False, server_default=""),
    sa.UniqueConstraint("notice_key", "channel"),
    sa.Index(None, "state", "next_at"),
)

notice_marks = sa.Table(
    "notice_marks",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("at", Moment, nullable=False),
)
