"""Grids of hours and windows of the configuration are the same, both ways."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcmvault.config.schedule_sections import WindowSection
from dcmvault.config.week_grid import ALL_HOURS, grid_of, windows_of

_cells = st.frozensets(st.sampled_from(sorted(ALL_HOURS)))
_MONDAY = datetime(2024, 1, 1)  # noqa: DTZ001 - local time of no place


@settings(max_examples=60)
@given(_cells.filter(bool))
def test_what_is_painted_comes_back(hours: frozenset[tuple[int, int]]) -> None:
    window = WindowSection.model_validate({"open": windows_of(hours)})
    assert grid_of(window) == hours


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["mon", "fri-mon", "sat,sun", "mon-sun"]),
            st.integers(0, 23),
            st.integers(0, 24),
        ).filter(lambda one: one[1] != one[2]),
        max_size=3,
    ),
    st.booleans(),
)
def test_a_grid_says_what_the_windows_do(windows: list[tuple[str, int, int]], closed: bool) -> None:
    """Moment by moment, as the daemon asks the windows themselves."""
    tables = [{"days": d, "from": f"{b:02d}:00", "to": f"{e:02d}:00"} for d, b, e in windows]
    section = WindowSection.model_validate({"closed" if closed else "open": tables})
    grid = grid_of(section)
    table = [one.window() for one in (*section.open, *section.closed)]
    for hour in range(168):
        moment = _MONDAY + timedelta(hours=hour, minutes=30)
        covered = any(one.covers(moment) for one in table)
        is_open = not covered if closed or not table else covered
        assert ((moment.weekday(), moment.hour) in grid) == is_open


def test_what_no_grid_can_say_is_refused() -> None:
    with pytest.raises(ValueError, match="hour"):
        windows_of(frozenset())
    section = WindowSection.model_validate({"open": [{"from": "20:30", "to": "06:00"}]})
    with pytest.raises(ValueError, match="within an hour"):
        grid_of(section)


def test_days_with_equal_hours_are_one_window() -> None:
    hours = frozenset((day, hour) for day in range(5) for hour in range(8, 18))
    assert windows_of(hours) == [{"days": "mon-fri", "from": "08:00", "to": "18:00"}]
