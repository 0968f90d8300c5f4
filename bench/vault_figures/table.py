"""What a figure says, and the table of them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from bench.vault_figures.children import Measured


@dataclass(frozen=True, slots=True)
class Row:
    """One measured figure: ours beside what it is compared with."""

    what: str
    ours: str
    theirs: str
    #: What must be at most `asked`, or at least; an amount where `asked` is one.
    value: float
    asked: float
    #: "" for a ratio, or the unit of `value`.
    unit: str = ""
    at_least: bool = False

    @property
    def reached(self) -> bool:
        return self.value >= self.asked if self.at_least else self.value <= self.asked

    def line(self) -> str:
        value, asked = (f"{number:.3g}{self.unit}" for number in (self.value, self.asked))
        if self.at_least:
            asked = f">= {asked}"
        verdict = "reached" if self.reached else "NOT REACHED"
        return f"{self.what:<58} {self.ours:>26} {self.theirs:>33} {value:>9} {asked:>8}  {verdict}"


HEADING = f"{'':<58} {'dcmvault':>26} {'beside':>33} {'value':>9} {'at most':>8}"


def megabytes(size: float) -> str:
    return f"{size / 1e6:.2f} MB"


def seconds(taken: Sequence[Measured]) -> str:
    """Say the least and the median wall time, and the least processor time."""
    walls = [one.wall_s for one in taken]
    cpu_s = min(one.cpu_s for one in taken)
    return f"{min(walls):.2f} s ({statistics.median(walls):.2f}), {cpu_s:.1f} cpu"


def print_table(rows: Sequence[Row]) -> None:
    print(HEADING)
    for row in rows:
        print(row.line())
