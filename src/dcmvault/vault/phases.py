"""Where long work on a vault stands, for whoever waits for it."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum


class Phase(StrEnum):
    """What is being done; the values are stable."""

    #: Which parts are needed; without figures.
    LOOKING = "looking"
    #: Packs that go.
    REMOVING = "removing"
    #: Packs of which a part is needed.
    REWRITING = "rewriting"
    #: Bytes that are read and compared.
    READING = "reading"
    #: Objects that are copied.
    COPYING = "copying"


#: Is told what is being done, and how much of how much is done (0 of 0: not known).
Told = Callable[[Phase, int, int], None]


def to_nobody(_phase: Phase, _done: int, _total: int) -> None:
    """Tell nobody."""
