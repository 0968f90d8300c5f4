"""What a move of an installation to another database says of each table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MovedTable:
    """A table that is the same on both sides; `digest` is of its rows, whatever their order."""

    name: str
    rows: int
    digest: str
