"""Strips of runs and bars of weeks: geometry that fits its drawing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from dcmvault.model.overview import Outcome, RunBar, Week
from dcmvault.web.strips import HEIGHT, STEP, WEEKS_HEIGHT, WEEKS_WIDTH, strip, weeks

AT = datetime(2026, 1, 31, tzinfo=UTC)


def bar(seconds: float, outcome: Outcome = Outcome.WHOLE) -> RunBar:
    return RunBar("run", outcome, AT, seconds, 10, 10, 1000)


def test_runs_stand_at_the_right_end_and_no_more_than_there_are_places() -> None:
    bars = strip([bar(1), bar(100), bar(10_000, Outcome.FAILED)], 30)
    assert [one.x for one in bars] == [f"{n * STEP:.0f}" for n in (27, 28, 29)]
    assert [one.kind for one in bars] == ["whole", "whole", "lost"]
    heights = [float(one.height) for one in bars]
    assert heights == sorted(heights)
    assert heights[-1] == HEIGHT
    assert all(float(one.y) + float(one.height) <= HEIGHT + 0.1 for one in bars)
    many = strip([bar(n) for n in range(40)], 30)
    assert len(many) == 30
    assert many[-1].run.duration_s == 39


def test_every_outcome_has_a_look_of_its_own() -> None:
    bars = strip([bar(1, outcome) for outcome in Outcome], 30)
    assert len({one.kind for one in bars}) == len(Outcome)
    assert strip([], 30) == []
    assert float(strip([bar(0)], 30)[0].height) > 0


def test_weeks_fill_their_drawing() -> None:
    year = [Week(AT + timedelta(weeks=n), n * 1000) for n in range(53)]
    bars = weeks(year)
    assert float(bars[-1].x) + float(bars[-1].width) <= WEEKS_WIDTH
    assert float(bars[0].height) == 1.0
    assert max(float(one.height) for one in bars) <= WEEKS_HEIGHT
    assert [one.height for one in weeks([Week(AT, 0)])] == ["1.0"]
