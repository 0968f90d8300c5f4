"""The page of schedules: what comes next, what became of it, steering, and hours to suggest."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.integration.campaign_world import SetClock
from tests.unit.web.dashboard_world import Dashboard, dashboard_in

from dcmvault.app.schedules import start_due
from dcmvault.app.suggesting import weekly_hours
from dcmvault.model.account import Role
from dcmvault.model.identifiers import new_run_id
from dcmvault.model.schedule import ScheduledRun, WeekTable
from dcmvault.model.suggestion import SuggestedWindow, Suggestion
from dcmvault.model.week import WeekWindow
from dcmvault.testing.dicom_files import make_study
from dcmvault.web.week_drawing import Span, draw_week

_NOW = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)  # a Monday
_CONFIGURATION = """
[retry]
wait_s = 0
[sources.workstation]
address = "{folder}/studies"
[destinations.copies]
address = "{folder}/copies"
[plans.nightly]
sources = ["workstation"]
destinations = ["copies"]
[schedules.nightly]
plan = "nightly"
cron = "30 22 * * mon-fri"
time_zone = "America/Sao_Paulo"
window = "office"
[schedules.hourly]
plan = "nightly"
every = "1h"
time_zone = "UTC"
[windows.office]
time_zone = "America/Sao_Paulo"
closed = [{from = "07:00", to = "19:30"}]
"""


@pytest.fixture
def dashboard(tmp_path: Path) -> Iterator[Dashboard]:
    home = tmp_path / "home"
    home.mkdir()
    make_study(tmp_path / "studies", key="one", instances=2)
    text = _CONFIGURATION.replace("{folder}", str(tmp_path))
    (home / "config.toml").write_text(text, "utf-8")
    with dashboard_in(home) as opened:
        yield opened


def test_schedules_show_their_next_runs_in_their_own_zone(dashboard: Dashboard) -> None:
    now = dashboard.clock.now()
    start_due(dashboard.workplace, now)
    text = dashboard.logged_in(Role.VIEWER).get("/schedules").text
    assert "22:30" in text
    assert "America/Sao_Paulo" in text
    assert "Disable" not in text, "a viewer steers nothing"
    assert "07:00" in text, "hours of the window are read out"
    portuguese = dashboard.logged_in(Role.VIEWER).get("/schedules", {"Accept-Language": "pt-BR"})
    assert "Agendamentos" in portuguese.text


def test_what_could_not_begin_says_why_to_operators(dashboard: Dashboard) -> None:
    now = dashboard.clock.now()
    start_due(dashboard.workplace, now)
    book = dashboard.workplace.catalogue.schedules
    state = book.schedules()["hourly"]
    due = state.next_at
    assert due is not None
    problem = "The folder /media/SILVA cannot be read."
    failed = ScheduledRun(
        "hourly", "nightly", due, 0, "workstation", new_run_id(now), settled=True, problem=problem
    )
    assert book.claim(state, due + timedelta(hours=1), [failed])
    book.update_run(failed)
    assert problem in dashboard.logged_in(Role.OPERATOR).get("/schedules").text
    shown = dashboard.logged_in(Role.VIEWER).get("/schedules").text
    assert "could not begin" in shown
    assert "SILVA" not in shown


def test_an_operator_enables_disables_and_starts(dashboard: Dashboard) -> None:
    start_due(dashboard.workplace, dashboard.clock.now())
    browser = dashboard.logged_in(Role.OPERATOR)
    answer = browser.post("/schedules/nightly/disable")
    assert (answer.status, answer.header("location")) == (303, "/schedules")
    assert "Enable" in browser.get("/schedules").text
    assert browser.post("/schedules/nightly/enable").status == 303
    assert browser.post("/schedules/nowhere/enable").status == 409
    assert browser.get("/schedules/plans/nightly").status == 200
    assert browser.get("/schedules/plans/nowhere").status == 404
    looked = browser.post("/schedules/plans/nightly/look").text
    assert "2 instances due" in looked
    assert dashboard.workplace.catalogue.runs.runs() == []
    begun = browser.post("/schedules/plans/nightly/run")
    [record] = dashboard.workplace.catalogue.runs.runs()
    assert (begun.status, begun.header("location")) == (303, f"/runs/{record.run_id}")
    told = [line["details"].get("command") for line in dashboard.journal()]
    assert [one for one in told if one] == [
        "schedule disable",
        "schedule enable",
        "schedule enable",
        "run",
    ]


def test_too_little_history_is_said_and_nothing_is_suggested(dashboard: Dashboard) -> None:
    shown = dashboard.logged_in(Role.VIEWER).get("/schedules/suggestions").text
    assert "Too little was recorded" in shown
    assert "To follow them" not in shown


def test_suggested_hours_stand_beside_those_that_hold_now(
    dashboard: Dashboard, tmp_path: Path
) -> None:
    """Nine nights of real backups: the evidence is shown, and nothing is changed."""
    workplace, start = dashboard.workplace, _NOW.replace(hour=2)
    clock = SetClock(start, goes_on=True)
    workplace.clock = clock
    browser = dashboard.logged_in(Role.OPERATOR)
    assert workplace.work()
    for night in range(9):
        clock.set_now(start + timedelta(days=night))
        make_study(tmp_path / "studies" / f"{night}", key=f"night{night}", instances=1)
        assert browser.post("/schedules/plans/nightly/run").status == 303
        while workplace.catalogue.unfinished.unfinished():
            time.sleep(0.02)
    workplace.rest(0)
    clock.set_now(_NOW.replace(hour=12) + timedelta(days=9))
    shown = dashboard.logged_in(Role.VIEWER).get("/schedules/suggestions").text
    assert "This is a dry run" in shown
    assert "Studies per hour" in shown
    assert 'window = "suggested"' in shown


def test_a_week_is_drawn_to_the_minute() -> None:
    """A window over midnight belongs to both days; what is closed lies above what is open."""
    night = WeekWindow(frozenset({0}), 22 * 60, 6 * 60)
    noon = WeekWindow(frozenset(range(7)), 0, 60)
    week = draw_week(WeekTable(UTC, (night,), (noon,)), [_NOW])
    monday, tuesday, *rest = week.days
    assert monday.open == [Span(22 * 60, 24 * 60)]
    assert monday.begins == [6 * 60]
    assert tuesday.open == [Span(60, 6 * 60)]
    assert not any(day.open for day in rest)
    assert week.open_hours == 7
    assert draw_week(WeekTable(UTC)).open_hours == 7 * 24


def test_suggested_windows_are_hours_of_every_week() -> None:
    begins = _NOW.replace(hour=22)
    window = SuggestedWindow(begins, begins + timedelta(hours=3), 1.0, 1, 0.0, 1.0, None, 0, 0)
    table = weekly_hours(Suggestion((window,), 9, 9, 1.0, 1, 7, 5), UTC)
    assert table is not None
    assert table.is_open(begins + timedelta(hours=2, minutes=59))
    assert not table.is_open(begins + timedelta(hours=3))
    assert weekly_hours(Suggestion((), 0, 0, 0.0, 0, 7, 5), UTC) is None
