"""Strips of runs and bars of weeks as geometry; templates make SVG of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dcmvault.model.overview import Outcome, RunBar, Week

#: A strip in its own units: a bar, the space after it, and its height.
BAR = 8.0
STEP = 10.0
HEIGHT = 36.0
#: A bar of a run that took next to no time.
_LEAST = 7.0
#: The drawing of a year of weeks.
WEEKS_WIDTH = 530.0
WEEKS_HEIGHT = 90.0
_CLASSES = {
    Outcome.WHOLE: "whole",
    Outcome.INCOMPLETE: "short",
    Outcome.FAILED: "lost",
    Outcome.CANCELLED: "left",
    Outcome.GOES_ON: "now",
}


@dataclass(frozen=True, slots=True)
class StripBar:
    """One bar: where it is, its kind, and the run that it stands for."""

    x: str
    y: str
    height: str
    kind: str
    run: RunBar


def strip(runs: Sequence[RunBar], places: int) -> list[StripBar]:
    """Draw runs as bars, the newest at the right end of so many places.

    The height tells the duration on a scale of powers, as a run may take seconds or days.
    """
    longest = max((math.log1p(run.duration_s) for run in runs), default=0.0) or 1.0
    bars = []
    shown = runs[-places:]
    for number, run in enumerate(shown, start=places - len(shown)):
        height = _LEAST + (HEIGHT - _LEAST) * math.log1p(run.duration_s) / longest
        bars.append(
            StripBar(
                f"{number * STEP:.0f}",
                f"{HEIGHT - height:.1f}",
                f"{height:.1f}",
                _CLASSES[run.outcome],
                run,
            )
        )
    return bars


@dataclass(frozen=True, slots=True)
class WeekBar:
    """One week: where its bar is."""

    x: str
    y: str
    width: str
    height: str
    week: Week


def weeks(values: Sequence[Week]) -> list[WeekBar]:
    """Draw weeks as bars from zero up; a week without a byte is a thin line."""
    most = max((week.bytes for week in values), default=0) or 1
    step = WEEKS_WIDTH / max(1, len(values))
    bars = []
    for number, week in enumerate(values):
        height = max(1.0, (WEEKS_HEIGHT - 4) * week.bytes / most)
        bars.append(
            WeekBar(
                f"{number * step:.1f}",
                f"{WEEKS_HEIGHT - height:.1f}",
                f"{step * 0.72:.1f}",
                f"{height:.1f}",
                week,
            )
        )
    return bars
