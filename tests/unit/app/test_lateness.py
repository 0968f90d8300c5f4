"""Plans without an `expected_every` are late by their schedules."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.unit.app.test_telling import World

from dcmvault.app.lateness import expectations
from dcmvault.catalogue import notices
from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import new_run_id
from dcmvault.model.plan import DestinationRequest, RunKind, RunRequest
from dcmvault.model.report import RunState

_PLAN = """
[plans.nightly]
sources = ["/studies"]
destinations = ["/copies"]
{expected}
[schedules.nights]
plan = "nightly"
cron = "0 2 * * mon-fri"
time_zone = "Europe/Lisbon"
{schedule}
[notifications.office]
channel = "webhook"
url = "https://example.org/"
events = ["overdue"]
"""


def _world(folder: Path, *, expected: str = "", schedule: str = "") -> World:
    return World(folder, _PLAN.format(expected=expected, schedule=schedule))


def _until(world: World) -> datetime | None:
    book, schedules = world.catalogue.notices, world.catalogue.schedules
    found = expectations(world.settings, book, book, schedules, world.clock.now())
    return found["nightly"].until if found else None


def test_a_plan_is_late_when_it_is_due_for_the_second_time(tmp_path: Path) -> None:
    """Friday's success at noon: due on Monday, and late from Tuesday 2:00 of the practice on."""
    world = _world(tmp_path)
    world.run()
    assert _until(world) == datetime(2026, 3, 24, 2, 0, tzinfo=UTC)
    world.live(days=3, hours=13, minutes=59)
    assert world.events("office") == []
    world.live(minutes=2)
    assert world.events("office") == ["overdue"]
    world.run()
    world.live(hours=1)
    assert world.events("office") == ["overdue", "overdue_cleared"]
    # Clocks changed on the Sunday before: 2:00 is an hour earlier.
    world.clock.set_now(datetime(2026, 3, 30, 12, 0, tzinfo=UTC))
    world.run()
    assert _until(world) == datetime(2026, 4, 1, 1, 0, tzinfo=UTC)
    world.catalogue.close()


def test_what_never_succeeded_is_late_from_when_it_was_first_asked(tmp_path: Path) -> None:
    world = _world(tmp_path)
    assert _until(world) == datetime(2026, 3, 24, 2, 0, tzinfo=UTC)
    world.clock.advance(3 * 86_400)
    assert _until(world) == datetime(2026, 3, 24, 2, 0, tzinfo=UTC)
    world.catalogue.close()


@pytest.mark.parametrize(
    ("expected", "schedule", "until"),
    [
        ('expected_every = "2h"', "", datetime(2026, 3, 20, 14, 0, tzinfo=UTC)),
        ("", "enabled = false", None),
    ],
)
def test_what_the_plan_says_comes_first_and_disabled_schedules_say_nothing(
    tmp_path: Path, expected: str, schedule: str, until: datetime | None
) -> None:
    world = _world(tmp_path, expected=expected, schedule=schedule)
    world.run()
    assert _until(world) == until
    world.catalogue.close()


def test_a_schedule_that_is_disabled_ends_lateness_but_nobody_is_told_of_a_backup(
    tmp_path: Path,
) -> None:
    world = _world(tmp_path)
    world.run()
    world.live(days=5)
    book = world.catalogue.schedules
    book.define("nights", world.settings.schedules["nights"].definition, None)
    book.set_enabled("nights", enabled=False, next_at=None)
    world.live(hours=2)
    assert world.events("office") == ["overdue"]
    assert not [mark for mark in world.catalogue.notices.marks() if mark.startswith("overdue:")]
    world.catalogue.close()


def test_a_success_is_not_forgotten_for_many_runs_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However few runs are looked back at, those of other sources do not count."""
    monkeypatch.setattr(notices, "_RUNS_BACK", 2)
    world = _world(tmp_path)
    world.run()
    until = _until(world)
    runs = world.catalogue.runs
    world.clock.advance(4 * 86_400)
    now = world.clock.now()
    destinations = (DestinationRequest("/copies", Level.PROVEN),)
    for source in ("/others", "/studies/of-others"):
        run_id = runs.ask_for_run(
            new_run_id(now), RunRequest(RunKind.BACKUP, source, destinations), now
        )
        runs.set_run_state(run_id, RunState.FINISHED, now)
    assert _until(world) == until
    world.catalogue.close()
