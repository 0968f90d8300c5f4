"""A week as a grid of hours, as people paint it, and as the windows of the configuration."""

from __future__ import annotations

from collections.abc import Iterable

from dcmvault.config.schedule_sections import WindowSection
from dcmvault.config.toml_values import TomlValue
from dcmvault.config.week import WeekWindowSection
from dcmvault.i18n import gettext as _
from dcmvault.model.week import DAYS_PER_WEEK

HOURS_PER_DAY = 24
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

#: (day from Monday 0, hour) in which transfers run.
Hours = frozenset[tuple[int, int]]

ALL_HOURS: Hours = frozenset(
    (day, hour) for day in range(DAYS_PER_WEEK) for hour in range(HOURS_PER_DAY)
)


def grid_of(window: WindowSection) -> Hours:
    """Return the hours in which transfers run.

    ValueError where a window begins or ends within an hour: a grid would say something else.
    """
    is_open = _hours(window.open) if window.open else ALL_HOURS
    return is_open - _hours(window.closed)


def windows_of(hours: Hours) -> list[dict[str, TomlValue]]:
    """Return windows that cover exactly these hours, as few as days with equal hours allow.

    For `open` of a window: where it is empty no hour is painted, which the configuration cannot
    say by `open` alone (ValueError).
    """
    if not hours:
        raise ValueError(_("Leave at least one hour in which transfers run."))
    days_of: dict[tuple[int, int], list[int]] = {}
    for day in range(DAYS_PER_WEEK):
        for stretch in _stretches({hour for on, hour in hours if on == day}):
            days_of.setdefault(stretch, []).append(day)
    return [
        {"days": _day_words(days), "from": f"{begin:02d}:00", "to": f"{end:02d}:00"}
        for (begin, end), days in days_of.items()
    ]


def _hours(windows: Iterable[WeekWindowSection]) -> Hours:
    found: set[tuple[int, int]] = set()
    for section in windows:
        window = section.window()
        if window.begin_min % 60 or window.end_min % 60:
            raise ValueError(_("A window begins or ends within an hour."))
        first, length = window.begin_min // 60, (window.end_min - window.begin_min) // 60
        length += 0 if length > 0 else HOURS_PER_DAY
        for day in window.days:
            for hour in range(first, first + length):
                ahead, of_day = divmod(hour, HOURS_PER_DAY)
                found.add(((day + ahead) % DAYS_PER_WEEK, of_day))
    return frozenset(found)


def _stretches(hours: set[int]) -> list[tuple[int, int]]:
    """Return runs of hours of one day as (first, one after the last)."""
    found: list[tuple[int, int]] = []
    for hour in sorted(hours):
        if found and found[-1][1] == hour:
            found[-1] = (found[-1][0], hour + 1)
        else:
            found.append((hour, hour + 1))
    return found


def _day_words(days: list[int]) -> str:
    """Write days as `mon-fri,sun`."""
    return ",".join(
        _DAYS[first] if last == first + 1 else f"{_DAYS[first]}-{_DAYS[last - 1]}"
        for first, last in _stretches(set(days))
    )
