"""Small drawings as geometry; templates make SVG of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: A sparkline in its own units; pages scale it.
SPARK_WIDTH = 120.0
SPARK_HEIGHT = 28.0
_EDGE = 2.0


@dataclass(frozen=True, slots=True)
class Spark:
    """A line over time without axes: the path, the area below it, and where it ends."""

    line: str
    area: str
    end_x: str
    end_y: str


def spark(values: Sequence[float]) -> Spark | None:
    """Draw values at equal distances from zero up; None for fewer than two."""
    if len(values) < 2:
        return None
    highest = max(max(values), 0.0) or 1.0
    step = (SPARK_WIDTH - 2 * _EDGE) / (len(values) - 1)
    space = SPARK_HEIGHT - 2 * _EDGE
    points = [
        (_EDGE + number * step, SPARK_HEIGHT - _EDGE - space * max(value, 0.0) / highest)
        for number, value in enumerate(values)
    ]
    line = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    area = f"{line}L{points[-1][0]:.1f} {SPARK_HEIGHT}L{points[0][0]:.1f} {SPARK_HEIGHT}Z"
    return Spark(line, area, f"{points[-1][0]:.1f}", f"{points[-1][1]:.1f}")
