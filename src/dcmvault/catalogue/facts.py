"""Facts about copies: when evidence of each level was last given, independently of the others.

A holding's level is that of the strongest fact. A weaker fact that comes later neither lowers nor
refreshes it; a copy that is found missing or damaged, or is sent anew, has none left.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from dcmvault.catalogue.tables import holdings
from dcmvault.model.evidence import Level

#: The column of each level's fact, weakest first.
FACTS: Mapping[Level, sa.Column[Any]] = {
    Level.PRESENT: holdings.c.present_at,
    Level.COMPLETE: holdings.c.complete_at,
    Level.COMMITTED: holdings.c.committed_at,
    Level.PROVEN: holdings.c.proven_at,
}
#: What a copy has of which nothing is known by evidence.
NO_FACTS: Mapping[str, None] = {column.name: None for column in FACTS.values()}


class Newest(FunctionElement[int]):
    """The largest of several values; the databases give it different names."""

    name = "newest"
    type = sa.BigInteger()
    inherit_cache = True


@compiles(Newest)
def _greatest(element: Any, compiler: Any, **options: Any) -> str:
    return f"greatest({compiler.process(element.clauses, **options)})"


@compiles(Newest, "sqlite")
def _max(element: Any, compiler: Any, **options: Any) -> str:
    return f"max({compiler.process(element.clauses, **options)})"


def fact_of(level: Level) -> str:
    """Return the name of the column that tells of a level; KeyError for one without evidence."""
    return str(FACTS[level].name)


def newest_fact(level: Level) -> sa.ColumnElement[int]:
    """Return when evidence of at least `level` was last given (microseconds); 0 for never.

    For receipts, when one came.
    """
    if level <= Level.SENT:
        return _moment(holdings.c.received_at)
    facts = [_moment(column) for at, column in FACTS.items() if at >= level]
    # With one argument SQLite's `max` would be the aggregate.
    return facts[0] if len(facts) == 1 else Newest(*facts)


def _moment(column: sa.Column[Any]) -> sa.ColumnElement[int]:
    return sa.func.coalesce(
        sa.type_coerce(column, sa.BigInteger), sa.literal_column("0"), type_=sa.BigInteger
    )
