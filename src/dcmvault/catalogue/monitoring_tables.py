"""The tables of monitoring: samples, alerts, and signs that a source is being spoilt."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from dcmvault.catalogue.tables import Key, Moment, Word, metadata
from dcmvault.model.alert import AlertChange, AlertCode, AlertSeverity, SubjectKind
from dcmvault.model.sample import Figure


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default="0")


def _key() -> sa.Column[Any]:
    return sa.Column("id", Key, primary_key=True)


source_signs = sa.Table(
    "source_signs",
    metadata,
    sa.Column("source_id", Key, sa.ForeignKey("sources.id"), primary_key=True, autoincrement=False),
    # Instances that were listed before the first change since the source was last believed.
    _count("known"),
    # Since then: entries that hold something new; of these, those that are no DICOM any more.
    _count("changed"),
    _count("spoilt"),
    # Entries that hold again what they or others held, or DICOM again.
    _count("mended"),
    # Instances that are not listed any more, and those that are again, or under another name.
    _count("gone"),
    _count("returned"),
    # While its backups are held.
    sa.Column("held_at", Moment),
    sqlite_with_rowid=False,
)

#: What was believed of sources, a row each time: what comes bit by bit is much in the end.
believed_signs = sa.Table(
    "believed_signs",
    metadata,
    _key(),
    sa.Column("source_id", Key, sa.ForeignKey("sources.id"), nullable=False),
    sa.Column("believed_at", Moment, nullable=False),
    _count("known"),
    _count("changed"),
    _count("spoilt"),
    _count("mended"),
    sa.Index(None, "source_id", "believed_at"),
)

alerts = sa.Table(
    "alerts",
    metadata,
    _key(),
    sa.Column("code", Word(AlertCode), nullable=False),
    sa.Column("kind", Word(SubjectKind), nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("severity", Word(AlertSeverity), nullable=False),
    sa.Column("raised_at", Moment, nullable=False),
    sa.Column("cleared_at", Moment),
    # Figures as JSON.
    sa.Column("figures", sa.Text, nullable=False, server_default="{}"),
    # Of one thing each is raised once at a time.
    sa.Index(
        "ix_alerts_open",
        "code",
        "kind",
        "subject",
        unique=True,
        sqlite_where=sa.text("cleared_at IS NULL"),
        postgresql_where=sa.text("cleared_at IS NULL"),
    ),
    sa.Index(None, "cleared_at"),
)

alert_events = sa.Table(
    "alert_events",
    metadata,
    _key(),
    sa.Column("alert_id", Key, sa.ForeignKey("alerts.id"), nullable=False),
    sa.Column("change", Word(AlertChange), nullable=False),
    sa.Column("at", Moment, nullable=False),
    sa.Column("figures", sa.Text, nullable=False, server_default="{}"),
    sa.Index(None, "alert_id"),
    # Numbers are remembered by those who were told; none comes back.
    sqlite_autoincrement=True,
)

samples = sa.Table(
    "samples",
    metadata,
    sa.Column("span_s", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", Moment, primary_key=True),
    sa.Column("kind", Word(SubjectKind), primary_key=True),
    sa.Column("subject", sa.Text, primary_key=True),
    *(sa.Column(figure.value, sa.Double) for figure in Figure),
    sqlite_with_rowid=False,
)
