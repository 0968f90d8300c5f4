"""Schedules and windows: what is due begins once, and whoever steers by hand has the last word."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import RunDcmvault, StartDcmvault
from tests.integration.campaign_world import SetClock
from tests.integration.daemon_world import DaemonProcess

from dcmvault.app import queue, schedules
from dcmvault.app.backup import make_request, start
from dcmvault.app.schedules import start_due
from dcmvault.app.suggesting import SuggestedHours, suggest_windows
from dcmvault.app.windows import keep_windows
from dcmvault.app.wiring.workplace import Workplace, open_workplace
from dcmvault.config.load import load_settings
from dcmvault.errors import UsageError
from dcmvault.model.job import Priority
from dcmvault.model.plan import RunKind, Strategy
from dcmvault.model.report import RunState
from dcmvault.model.schedule import WeekTable
from dcmvault.testing.dicom_files import make_study

_START = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)  # a Monday
_HOUR = timedelta(hours=1)
_PLAN = """
[retry]
wait_s = 0
[plans.nightly]
sources = ["{folder}/a", "{folder}/b"]
destinations = ["{folder}/copies"]
[schedules.nightly]
plan = "nightly"
cron = "0 2 * * *"
time_zone = "UTC"
"""
_OFFICE = """
window = "office"
[windows.office]
time_zone = "UTC"
closed = [{from = "08:00", to = "18:00"}]
"""


@contextmanager
def _opened(home: Path, folder: Path, text: str = _PLAN) -> Iterator[Workplace]:
    (home / "config.toml").write_text(text.replace("{folder}", str(folder)), "utf-8")
    with open_workplace(home, load_settings(home / "config.toml")) as workplace:
        workplace.clock = SetClock(_START)
        yield workplace


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        make_study(tmp_path / name, key=name, instances=2)
    return tmp_path


def _never(_now: datetime) -> WeekTable | None:
    return None


def _end_runs(workplace: Workplace) -> None:
    """Have all runs end, without doing their work."""
    for run_id in workplace.catalogue.unfinished.unfinished():
        workplace.catalogue.runs.set_run_state(run_id, RunState.FINISHED, _START)


def _runs(workplace: Workplace) -> int:
    return len(workplace.catalogue.runs.runs(limit=100))


def test_a_new_schedule_is_due_at_its_next_time(home: Path, folder: Path) -> None:
    """Not at once, and not for the times before it was written down."""
    with _opened(home, folder) as workplace:
        assert start_due(workplace, _START) <= _START + _HOUR
        assert _runs(workplace) == 0
        [view] = schedules.views(workplace)
        assert view.state is not None
        assert view.state.next_at == datetime(2026, 11, 24, 2, tzinfo=UTC)


def test_sources_of_a_plan_take_their_turns(home: Path, folder: Path) -> None:
    """The second begins when the first has ended."""
    due = datetime(2026, 11, 24, 2, tzinfo=UTC)
    with _opened(home, folder) as workplace:
        start_due(workplace, _START)
        start_due(workplace, due)
        start_due(workplace, due)
        assert [r.request.source for r in workplace.catalogue.runs.runs()] == [f"{folder}/a"]
        _end_runs(workplace)
        start_due(workplace, due)
        assert [r.request.source for r in workplace.catalogue.runs.runs()] == [
            f"{folder}/b",
            f"{folder}/a",
        ]
        _end_runs(workplace)
        start_due(workplace, due)
        [view] = schedules.views(workplace, 9)
        assert [(run.source, run.settled) for run in view.last_runs] == [
            (f"{folder}/b", True),
            (f"{folder}/a", True),
        ]


def test_what_was_missed_is_due_once(home: Path, folder: Path) -> None:
    """After five nights without power."""
    with _opened(home, folder) as workplace:
        start_due(workplace, _START)
        for _ in range(5):
            start_due(workplace, _START + timedelta(days=5))
            _end_runs(workplace)
        assert _runs(workplace) == 2  # one for each source
        [view] = schedules.views(workplace)
        assert view.state is not None
        assert view.state.last_due_at == datetime(2026, 11, 24, 2, tzinfo=UTC)
        assert view.state.next_at == datetime(2026, 11, 29, 2, tzinfo=UTC)


def test_a_plan_never_runs_beside_itself_and_is_kept_once(home: Path, folder: Path) -> None:
    """However often it falls due while it runs, it begins once more when it has ended."""
    with _opened(home, folder) as workplace:
        start_due(workplace, _START)
        for night in range(1, 5):
            start_due(workplace, _START + timedelta(days=night))
            assert _runs(workplace) == 1
        later = _START + timedelta(days=4, hours=1)
        for _ in range(6):
            _end_runs(workplace)
            start_due(workplace, later)
        assert _runs(workplace) == 4
        [view] = schedules.views(workplace, 9)
        assert [run.due_at.day for run in view.last_runs] == [25, 25, 24, 24]
        assert view.state is not None
        assert view.state.waiting_since is None


def test_a_run_by_hand_is_not_overlapped(home: Path, folder: Path) -> None:
    """It is the same work, though somebody asked for it."""
    with _opened(home, folder) as workplace:
        start_due(workplace, _START)
        request = make_request(
            workplace.settings,
            kind=RunKind.BACKUP,
            source=f"{folder}/b",
            destinations=[f"{folder}/copies"],
            level=None,
        )
        start(workplace, request)
        start_due(workplace, _START + timedelta(days=1))
        assert _runs(workplace) == 1
        _end_runs(workplace)
        start_due(workplace, _START + timedelta(days=1))
        assert _runs(workplace) == 2


@pytest.mark.parametrize("method", ["define", "claim", "update_run", "ask_for_run", "submit"])
@pytest.mark.parametrize("after", [False, True])
def test_killed_at_any_write_it_begins_once(
    home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, method: str, after: bool
) -> None:
    """Before a write or right after it, the next process goes on from there."""
    due = datetime(2026, 11, 24, 2, tzinfo=UTC)

    class _KilledError(Exception):
        pass

    with _opened(home, folder) as workplace:
        owner: Any = {
            "ask_for_run": workplace.catalogue.runs,
            "submit": workplace.queue,
        }.get(method, workplace.catalogue.schedules)
        real: Callable[..., Any] = getattr(type(owner), method)
        deaths = [1]

        def dying(*arguments: Any, **options: Any) -> Any:
            result = real(*arguments, **options) if after or not deaths else None
            if deaths:
                deaths.pop()
                raise _KilledError
            return result

        monkeypatch.setattr(type(owner), method, dying)
        calls = 0
        for now in (_START, _START, due, due, due):
            try:
                start_due(workplace, now)
                calls += 1
                if now == due:
                    _end_runs(workplace)
            except _KilledError:
                continue
        for _ in range(3):
            start_due(workplace, due)
            _end_runs(workplace)
        assert calls >= 4
        runs = workplace.catalogue.runs.runs()
        assert [record.request.source for record in runs] == [f"{folder}/b", f"{folder}/a"]
        assert all(workplace.queue.is_open(record.run_id) for record in runs)


def test_a_clock_that_is_set_back_begins_nothing_twice(home: Path, folder: Path) -> None:
    """Even where the schedule was worked out anew meanwhile."""
    due = datetime(2026, 11, 24, 2, tzinfo=UTC)
    with _opened(home, folder) as workplace:
        book = workplace.catalogue.schedules
        start_due(workplace, _START)
        for _ in range(2):
            for _turn in range(3):
                start_due(workplace, due)
                _end_runs(workplace)
            book.define("nightly", book.schedules()["nightly"].definition, due)
        start_due(workplace, due)
        assert _runs(workplace) == 2


def test_work_that_ended_without_a_word_blocks_nothing(home: Path, folder: Path) -> None:
    """A run of which the durable engine knows the end and the catalogue does not."""
    due = datetime(2026, 11, 24, 2, tzinfo=UTC)
    with _opened(home, folder) as workplace:
        start_due(workplace, _START)
        start_due(workplace, due)
        [record] = workplace.catalogue.runs.runs()
        workplace.queue.cancel(record.run_id)
        for _ in range(3):
            start_due(workplace, due)
        assert workplace.catalogue.runs.run(record.run_id).state is RunState.FAILED
        assert _runs(workplace) == 2


def test_disabled_is_not_missed(home: Path, folder: Path) -> None:
    """What fell due while it was disabled is past; the word outlives the process."""
    with _opened(home, folder) as workplace:
        start_due(workplace, _START)
        schedules.set_enabled(workplace, "nightly", enabled=False, now=_START)
    with _opened(home, folder) as workplace:
        start_due(workplace, _START + timedelta(days=2))
        assert _runs(workplace) == 0
        assert schedules.coming(workplace, _START, 3) == []
        view = schedules.set_enabled(
            workplace, "nightly", enabled=True, now=_START + timedelta(days=2)
        )
        assert view.state is not None
        assert view.state.next_at == datetime(2026, 11, 26, 2, tzinfo=UTC)
        start_due(workplace, _START + timedelta(days=2, hours=1))
        assert _runs(workplace) == 0
        with pytest.raises(UsageError, match="no schedule"):
            schedules.set_enabled(workplace, "nightli", enabled=True, now=_START)


def test_another_time_in_the_configuration_counts_from_now(home: Path, folder: Path) -> None:
    """The time that was remembered for the old one is none of the new one's."""
    with _opened(home, folder) as workplace:
        start_due(workplace, _START)
    with _opened(home, folder, _PLAN.replace("0 2 * * *", "0 4 * * *")) as workplace:
        start_due(workplace, _START + timedelta(days=3))
        assert _runs(workplace) == 0
        assert schedules.coming(workplace, _START, 1) == [
            (datetime(2026, 11, 27, 4, tzinfo=UTC), "nightly")
        ]


def test_an_interval_keeps_its_rhythm(home: Path, folder: Path) -> None:
    """After a night asleep it is due at once, and then when it would have been."""
    text = _PLAN.replace('cron = "0 2 * * *"', 'every = "6h"').replace('time_zone = "UTC"', "")
    with _opened(home, folder, text) as workplace:
        start_due(workplace, _START)
        start_due(workplace, _START + 13 * _HOUR)
        assert _runs(workplace) == 1
        assert [moment for moment, _name in schedules.coming(workplace, _START, 2)] == [
            _START + 18 * _HOUR,
            _START + 24 * _HOUR,
        ]


def test_what_cannot_begin_says_why_and_ends(home: Path, folder: Path) -> None:
    """Sources inside their destination are refused; the schedule goes on another day."""
    text = _PLAN.replace('["{folder}/copies"]', '["{folder}"]')
    with _opened(home, folder, text) as workplace:
        start_due(workplace, _START)
        start_due(workplace, _START + timedelta(days=1))
        start_due(workplace, _START + timedelta(days=1))
        [view] = schedules.views(workplace, 9)
        assert all(run.settled and "overlap" in run.problem for run in view.last_runs)
        assert view.state is not None
        assert view.state.next_at == datetime(2026, 11, 25, 2, tzinfo=UTC)


def test_a_schedule_asks_for_less_than_its_plan(home: Path, folder: Path) -> None:
    """Another strategy, so many studies, and of so many days only."""
    text = _PLAN + 'strategy = "smart"\nmax_studies = 50\nstudy_days = 30\n'
    with _opened(home, folder, text) as workplace:
        start_due(workplace, _START)
        start_due(workplace, _START + timedelta(days=1))
        [record] = workplace.catalogue.runs.runs()
        request = record.request
        assert (request.strategy, request.max_studies) == (Strategy.SMART, 50)
        assert request.selection.first_date == "20261025"


def _with_queue(workplace: Workplace, folder: Path, priority: Priority = Priority.NORMAL) -> None:
    """Have work wait for the destination, planned by a worker that then rests."""
    request = make_request(
        workplace.settings,
        kind=RunKind.BACKUP,
        source=f"{folder}/a",
        destinations=[f"{folder}/copies"],
        level=None,
        priority=priority,
    )
    start(workplace, request)


def _is_paused(workplace: Workplace) -> bool:
    [view] = queue.queues(workplace)
    return view.state.paused


def test_closed_hours_hold_the_queue_and_open_ones_take_it_up(home: Path, folder: Path) -> None:
    """At eight and at six."""
    with _opened(home, folder, _PLAN + _OFFICE) as workplace:
        _with_queue(workplace, folder)
        for hour, paused in ((7, False), (8, True), (12, True), (17, True), (18, False)):
            keep_windows(workplace, _START.replace(hour=hour), _never)
            assert _is_paused(workplace) is paused, hour


def test_somebody_s_own_pause_is_never_lifted(home: Path, folder: Path) -> None:
    """Whether it was said before closed hours or in them."""
    with _opened(home, folder, _PLAN + _OFFICE) as workplace:
        _with_queue(workplace, folder)
        for said_at in (7, 12):
            for hour in (7, 8, 12, 18, 19):
                if hour == said_at:
                    queue.pause(workplace, f"{folder}/copies")
                keep_windows(workplace, _START.replace(hour=hour), _never)
            assert _is_paused(workplace), said_at
            queue.resume(workplace, f"{folder}/copies")
            keep_windows(workplace, _START.replace(hour=20), _never)
            assert not _is_paused(workplace)


def test_somebody_s_own_resume_holds_until_the_hours_are_over(home: Path, folder: Path) -> None:
    """The next day they are closed again."""
    with _opened(home, folder, _PLAN + _OFFICE) as workplace:
        _with_queue(workplace, folder)
        keep_windows(workplace, _START.replace(hour=9), _never)
        queue.resume(workplace, f"{folder}/copies")
        keep_windows(workplace, _START.replace(hour=10), _never)
        assert not _is_paused(workplace)
        keep_windows(workplace, _START.replace(hour=19), _never)
        keep_windows(workplace, _START.replace(hour=9) + timedelta(days=1), _never)
        assert _is_paused(workplace)


@pytest.mark.parametrize("urgent", [True, False])
def test_urgent_work_goes_on_where_the_window_lets_it(
    home: Path, folder: Path, urgent: bool
) -> None:
    """The urgent study is delivered in closed hours, and nothing else is."""
    text = _PLAN + _OFFICE + ("" if urgent else "urgent = false\n")
    with _opened(home, folder, text) as workplace:
        closed = _START.replace(hour=9)
        _with_queue(workplace, folder)
        keep_windows(workplace, closed, _never)
        assert workplace.work()
        request = make_request(
            workplace.settings,
            kind=RunKind.BACKUP,
            source=f"{folder}/b",
            destinations=[f"{folder}/copies"],
            level=None,
            priority=Priority.URGENT,
        )
        started = start(workplace, request)
        _wait(lambda: len(workplace.catalogue.runs.jobs()) == 2)
        keep_windows(workplace, closed, _never)
        assert _is_paused(workplace) is not urgent
        if urgent:
            _wait(lambda: workplace.catalogue.runs.run(started.run_id).finished_at is not None)
            keep_windows(workplace, closed, _never)
            assert _is_paused(workplace)
            assert workplace.catalogue.runs.report(started.run_id).counts.failed == 0
        [left] = {job.study_instance_uid for job in workplace.catalogue.runs.jobs()} - (
            set() if urgent else {_study_of(workplace, Priority.URGENT)}
        )
        assert left == _study_of(workplace, Priority.NORMAL)
        workplace.rest(0)


def _study_of(workplace: Workplace, priority: Priority) -> str:
    jobs = workplace.catalogue.runs.jobs(open_only=False)
    return next(job.study_instance_uid for job in jobs if job.priority is priority)


def _wait(until: Callable[[], bool]) -> None:
    import time

    deadline = time.monotonic() + 60
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_destination_of_an_open_schedule_is_not_held(home: Path, folder: Path) -> None:
    """Another schedule sends there at all hours."""
    other = '[schedules.other]\nplan = "nightly"\nevery = "1h"\n'
    with _opened(home, folder, _PLAN + _OFFICE + other) as workplace:
        _with_queue(workplace, folder)
        keep_windows(workplace, _START.replace(hour=9), _never)
        assert not _is_paused(workplace)


def test_a_suggested_window_waits_for_history(home: Path, folder: Path) -> None:
    """Without any nothing is held, and the suggestion says what lacks."""
    with _opened(home, folder, _PLAN + '\nwindow = "suggested"\n') as workplace:
        _with_queue(workplace, folder)
        hours = SuggestedHours(workplace)
        assert hours(_START) is None
        keep_windows(workplace, _START.replace(hour=12), hours)
        assert not _is_paused(workplace)
        found = suggest_windows(workplace, _START, 7, UTC)
        assert (found.is_founded, found.observed_days, found.windows) == (False, 0, ())


def test_a_suggestion_from_recorded_runs(home: Path, folder: Path) -> None:
    """Eight nights of backups: the hours that follow hold the queue by day."""
    with _opened(home, folder, _PLAN + '\nwindow = "suggested"\n') as workplace:
        workplace.clock = clock = SetClock(_START, goes_on=True)
        assert workplace.work()
        for night in range(9):
            clock.set_now(_START.replace(hour=2) + timedelta(days=night))
            make_study(folder / "a" / f"{night}", key=f"night{night}", instances=2)
            _with_queue(workplace, folder)
            _wait(lambda: not workplace.catalogue.unfinished.unfinished())
        workplace.rest(0)
        now = _START.replace(hour=12) + timedelta(days=9)
        found = suggest_windows(workplace, now, 7, UTC)
        assert (found.is_founded, found.runs, found.studies) == (True, 9, 10)
        assert found.bytes_per_second > 0
        hours = SuggestedHours(workplace)
        table = hours(now)
        assert table is not None
        keep_windows(workplace, now, hours)
        assert _is_paused(workplace) is not table.is_open(now)


def test_the_commands(run_dcmvault: RunDcmvault, home: Path, folder: Path) -> None:
    """List, next, disable, enable, suggest; in words and as JSON."""
    (home / "config.toml").write_text(_PLAN.replace("{folder}", str(folder)), "utf-8")
    listed = run_dcmvault("schedule", "list")
    assert (listed.returncode, "when the daemon runs" in listed.stdout) == (0, True)
    due = json.loads(run_dcmvault("schedule", "next", "--count", "2", "--json").stdout)["due"]
    assert [one["schedule"] for one in due] == ["nightly", "nightly"]
    assert all(one["at"].endswith("T02:00:00+00:00") for one in due)
    assert run_dcmvault("schedule", "disable", "nightly").returncode == 0
    [view] = json.loads(run_dcmvault("schedule", "list", "--json").stdout)["schedules"]
    assert view["enabled"] is False
    assert "No schedule is due" in run_dcmvault("schedule", "next").stdout
    assert "is enabled" in run_dcmvault("schedule", "enable", "nightly").stdout
    misspelt = run_dcmvault("schedule", "disable", "nightyl")
    assert (misspelt.returncode, "“nightly”" in misspelt.stderr) == (2, True)
    said = run_dcmvault("--lang", "pt-BR", "schedule", "suggest")
    assert (said.returncode, "pouco" in said.stdout) == (0, True)
    zone = run_dcmvault("schedule", "suggest", "--time-zone", "America/Sao_Paolo")
    assert (zone.returncode, "America/Sao_Paulo" in zone.stderr) == (2, True)
    assert json.loads(run_dcmvault("schedule", "suggest", "--json").stdout)["founded"] is False


def test_the_daemon_runs_what_was_missed_and_keeps_the_next_time(
    start_dcmvault: StartDcmvault, run_dcmvault: RunDcmvault, home: Path, folder: Path
) -> None:
    """It was off at night; killed right after it has begun, it ends the runs once."""
    with _opened(home, folder) as workplace:
        start_due(workplace, datetime.now(UTC) - timedelta(days=2))
    daemon = DaemonProcess(start_dcmvault)
    daemon.wait_for("/api/runs", lambda answer: len(answer["runs"]) > 0)
    daemon.kill()
    [before] = json.loads(run_dcmvault("schedule", "list", "--json").stdout)["schedules"]
    daemon = DaemonProcess(start_dcmvault, token=daemon.token)
    daemon.wait_for(
        "/api/runs", lambda answer: [run["state"] for run in answer["runs"]] == ["finished"] * 2
    )
    daemon.stop()
    [after] = json.loads(run_dcmvault("schedule", "list", "--json").stdout)["schedules"]
    assert before["next_at"] == after["next_at"] > datetime.now(UTC).isoformat()
    assert len(list((folder / "copies").rglob("*.dcm"))) == 4
