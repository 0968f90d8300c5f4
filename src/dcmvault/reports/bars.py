"""Bars made of segments whose widths are shares: the geometry of the page's drawings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: The drawing's width in its own units; the page scales it.
WIDTH = 1000.0
#: A segment that exists is seen, however small its share.
_LEAST = 6.0
_GAP = 2.0


@dataclass(frozen=True, slots=True)
class Segment:
    """One part of a bar, in units of the drawing, with the words beside it."""

    kind: str
    label: str
    figure: str
    x: str
    width: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar; without segments there is nothing to draw."""

    segments: tuple[Segment, ...]

    @property
    def description(self) -> str:
        """The bar in words, for who cannot see it."""
        return ", ".join(f"{segment.figure} {segment.label}" for segment in self.segments)


def bar(parts: Sequence[tuple[str, str, float, str]]) -> Bar:
    """Lay out (kind, label, value, figure) as shares of the width; zero values are left out."""
    parts = [part for part in parts if part[2] > 0]
    total = sum(value for _kind, _label, value, _figure in parts)
    space = WIDTH - _GAP * (len(parts) - 1) - _LEAST * len(parts)
    segments: list[Segment] = []
    x = 0.0
    for kind, label, value, figure in parts:
        width = _LEAST + space * value / total
        segments.append(Segment(kind, label, figure, f"{x:.2f}", f"{width:.2f}"))
        x += width + _GAP
    return Bar(tuple(segments))
