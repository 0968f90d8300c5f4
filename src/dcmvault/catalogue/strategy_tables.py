"""Tables of what people taught, and of which study went where; part of the one metadata."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from dcmvault.catalogue.tables import FreeText, Key, Moment, Word, metadata
from dcmvault.model.learning import LessonKind


class RouteKind(StrEnum):
    """What a row about routing says."""

    #: Load balancing: the study goes there, now and later.
    CHOSEN = "chosen"
    #: Failover: the study went there in this run.
    DIVERTED = "diverted"
    #: The destination could not be reached in this run.
    DOWN = "down"


def _reference(name: str, target: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, Key, sa.ForeignKey(f"{target}.id"), nullable=nullable)


lessons = sa.Table(
    "lessons",
    metadata,
    sa.Column("id", Key, primary_key=True),
    _reference("study_id", "studies"),
    sa.Column("kind", Word(LessonKind), nullable=False),
    sa.Column("given_at", Moment, nullable=False),
    sa.Index(None, "study_id"),
)

routes = sa.Table(
    "routes",
    metadata,
    sa.Column("id", Key, primary_key=True),
    _reference("run_id", "runs"),
    sa.Column("kind", Word(RouteKind), nullable=False),
    # Empty where it is about the destination as a whole, and for files that are no instances.
    sa.Column("study_instance_uid", FreeText, nullable=False, server_default=""),
    _reference("destination_id", "destinations"),
    # Where the study would have gone.
    _reference("instead_of", "destinations", nullable=True),
    sa.Column("why", FreeText, nullable=False, server_default=""),
    sa.Index(None, "run_id"),
    sa.Index(None, "study_instance_uid"),
)
