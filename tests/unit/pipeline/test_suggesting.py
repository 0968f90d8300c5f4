"""Hours that history suggests: few arrivals, no failures, fast; and none without history."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from dcmvault.model.suggestion import Arrival, Suggestion, Transfer
from dcmvault.pipeline.suggesting import suggest

_NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)  # a Monday
_MB = 1_000_000


def _arrivals(weeks: int) -> list[Arrival]:
    """A practice that works from 8 to 18, on week days."""
    return [
        Arrival(day + timedelta(hours=hour), 200 * _MB)
        for ahead in range(7 * weeks)
        if (day := _NOW.replace(hour=0) - timedelta(days=ahead + 1)).weekday() < 5
        for hour in range(8, 18)
    ]


def _run(began: datetime, *, failed: int = 0, rate: int = 10 * _MB, hours: int = 1) -> Transfer:
    seconds = hours * 3600.0 - 600
    return Transfer(
        began,
        began + timedelta(seconds=seconds),
        seconds,
        round(rate * seconds),
        1000,
        failed,
    )


def _nights(hour: int, weeks: int, **how: int) -> list[Transfer]:
    midnight = _NOW.replace(hour=0)
    return [
        _run(midnight - timedelta(days=ahead + 1) + timedelta(hours=hour), **how)
        for ahead in range(7 * weeks)
    ]


def _suggest(arrivals: list[Arrival], transfers: list[Transfer], zone: str = "UTC") -> Suggestion:
    transfers.sort(key=lambda one: one.began)
    return suggest(arrivals, transfers, now=_NOW, days=7, zone=ZoneInfo(zone))


def test_too_little_history_suggests_nothing_and_says_so() -> None:
    """None, six days, or a week with four runs."""
    assert not _suggest([], []).is_founded
    assert not _suggest(_arrivals(1), _nights(3, 1)[:6]).is_founded
    few = [*_nights(3, 2)[:2], *_nights(3, 2)[-2:]]
    found = _suggest(_arrivals(2), few)
    assert (found.is_founded, found.windows, found.runs) == (False, (), 4)


def test_runs_that_sent_nothing_are_no_history() -> None:
    """However many there are."""
    nothing = [Transfer(one.began, one.ended, 0.0, 0, 10, 0) for one in _nights(3, 4)]
    assert not _suggest(_arrivals(4), nothing).is_founded


def test_windows_keep_clear_of_the_hours_in_which_studies_come() -> None:
    """Nights were fast: they are chosen, as long as a day's studies need."""
    found = _suggest(_arrivals(4), _nights(3, 4))
    assert found.is_founded
    assert len(found.windows) >= 6
    for window in found.windows:
        assert window.arrivals_per_hour == 0
        assert window.begins.hour == 3
        assert window.bytes_per_second == 10 * _MB
        if window.begins.weekday() < 5:
            assert 1.8e9 < window.expected_bytes < 2.1e9
            assert 180 < window.expected_s < 210
        else:
            assert window.expected_bytes == 0
    assert max(window.ends - window.begins for window in found.windows) == timedelta(hours=1)


def test_hours_in_which_transfers_failed_are_left() -> None:
    """Though they were as quiet as others."""
    found = _suggest(_arrivals(4), [*_nights(3, 4, failed=900), *_nights(22, 4, rate=9 * _MB)])
    assert {window.begins.hour for window in found.windows} == {22}
    assert {window.failed for window in found.windows} == {0}


def test_a_slow_line_gets_longer_windows() -> None:
    """As long as is expected, and half as much again."""
    found = _suggest(_arrivals(4), _nights(1, 4, rate=200_000, hours=3))
    longest = max(found.windows, key=lambda window: window.ends - window.begins)
    assert longest.ends - longest.begins >= timedelta(hours=4)
    assert longest.expected_s > 9000


def test_hours_are_those_of_the_zone() -> None:
    """Three o'clock UTC is midnight in São Paulo."""
    zone = ZoneInfo("America/Sao_Paulo")
    found = _suggest(_arrivals(4), _nights(3, 4), "America/Sao_Paulo")
    assert {window.begins.astimezone(zone).hour for window in found.windows} == {0}
