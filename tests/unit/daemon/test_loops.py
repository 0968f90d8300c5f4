"""Duties: done when due, on a clock of the caller's, and never in each other's way."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from dcmvault.app.wiring.clock import SystemClock
from dcmvault.daemon.loops import Duty, Loops, Timetable

_START = datetime(2026, 1, 31, 12, tzinfo=UTC)


def every(pause: timedelta, told: list[datetime]) -> Callable[[datetime], datetime]:
    def perform(now: datetime) -> datetime:
        told.append(now)
        return now + pause

    return perform


def test_two_weeks_of_duties_take_no_time() -> None:
    hourly: list[datetime] = []
    daily: list[datetime] = []
    timetable = Timetable(
        [
            Duty("hourly", every(timedelta(hours=1), hourly)),
            Duty("daily", every(timedelta(days=1), daily)),
        ]
    )
    now = _START
    while now < _START + timedelta(days=14):
        due = timetable.run_due(now)
        assert due is not None
        now = due
    assert len(hourly) == 14 * 24
    assert [time.hour for time in daily] == [12] * 14


def test_a_duty_that_fails_ends_no_other_and_comes_again_later_each_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tried: list[datetime] = []
    others: list[datetime] = []

    def fail(now: datetime) -> datetime:
        tried.append(now)
        raise RuntimeError("Doe^John")

    timetable = Timetable([Duty("bad", fail), Duty("good", every(timedelta(seconds=1), others))])
    for second in range(60):
        timetable.run_due(_START + timedelta(seconds=second))
    assert len(others) == 60
    assert [(time - _START).seconds for time in tried] == [0, 5, 15, 35]
    assert "“bad”" in caplog.text


def test_what_is_hastened_is_due_at_once() -> None:
    told: list[datetime] = []
    timetable = Timetable([Duty("daily", every(timedelta(days=1), told))])
    timetable.run_due(_START)
    timetable.hasten("daily")
    timetable.hasten("nobody")
    timetable.run_due(_START + timedelta(seconds=1))
    assert told == [_START, _START + timedelta(seconds=1)]


def test_a_slow_duty_delays_no_other_and_a_stop_names_it() -> None:
    let_go, seen = threading.Event(), threading.Event()
    times = 0

    def slow(now: datetime) -> datetime:
        let_go.wait(60)
        return now + timedelta(days=1)

    def quick(now: datetime) -> datetime:
        nonlocal times
        times += 1
        if times == 3:
            seen.set()
        return now + timedelta(milliseconds=1)

    loops = Loops([Duty("slow", slow), Duty("quick", quick)], SystemClock())
    loops.start()
    assert seen.wait(60)
    assert loops.stop(0.2) == ["slow"]
    let_go.set()
    assert loops.stop(60) == []


def test_a_thread_is_woken_for_what_is_hastened() -> None:
    done = threading.Semaphore(0)

    def perform(now: datetime) -> datetime:
        done.release()
        return now + timedelta(days=1)

    loops = Loops([Duty("daily", perform)], SystemClock())
    loops.start()
    assert done.acquire(timeout=60)
    loops.hasten("daily")
    assert done.acquire(timeout=60)
    assert loops.stop(60) == []
