"""A report as parts that every rendering for people knows: HTML, PDF and text show the same."""

from __future__ import annotations

from dataclasses import dataclass, field

from dcmvault.reports.bars import Bar
from dcmvault.reports.charts import Chart
from dcmvault.reports.wording import Tone


@dataclass(frozen=True, slots=True)
class Note:
    """A paragraph."""

    text: str


@dataclass(frozen=True, slots=True)
class Step:
    """What to do next, under a word that says so."""

    label: str
    text: str


@dataclass(frozen=True, slots=True)
class Facts:
    """Names and values."""

    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a table; a tone makes it stand out, `code` is for what a machine wrote."""

    text: str
    tone: Tone | None = None
    code: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table; columns in `right` hold figures; `shares` say how wide columns are on paper."""

    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    shares: tuple[float, ...]
    right: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Card:
    """Something with a name, framed."""

    title: str
    aside: str
    blocks: tuple[Note | Step | Facts | Bar, ...]


Block = Note | Step | Facts | Table | Card | Bar | Chart


@dataclass(frozen=True, slots=True)
class Section:
    """A title with what stands under it; without blocks it is left out."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """A whole report."""

    title: str
    tone: Tone
    headline: str
    detail: str
    #: Value and label.
    figures: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...]
    footer: str
    kicker: str = ""
    shown: tuple[Section, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shown", tuple(one for one in self.sections if one.blocks))
