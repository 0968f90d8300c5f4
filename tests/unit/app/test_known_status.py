"""Status is told again while it holds, and counted anew when it does not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from dcmvault.app import known_status as known
from dcmvault.app.status import SourceView, status
from dcmvault.app.wiring.workplace import Workplace, open_workplace
from dcmvault.config.load import load_settings
from dcmvault.testing.catalogue_world import World, header, scanned
from dcmvault.testing.clock import FakeClock

_HOUR = timedelta(hours=1)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workplace]:
    """A state folder with one instance that is held, in which all counting takes long."""
    monkeypatch.setattr(known, "QUICK_S", -1.0)
    (tmp_path / "home").mkdir()
    with open_workplace(tmp_path / "home", load_settings(tmp_path / "none")) as opened:
        world = World(opened.catalogue, str(tmp_path / "source"), str(tmp_path / "copies"))
        world.backup([scanned("a", "a", header(1, 1, 1))], {"a": "a"})
        opened.clock = FakeClock(world.now + _HOUR)
        yield opened


def _without_last_runs(views: list[SourceView]) -> list[SourceView]:
    return [
        replace(view, coverage=tuple(replace(one, last_run=None) for one in view.coverage))
        for view in views
    ]


def test_what_is_told_again_is_what_was_counted(workplace: Workplace) -> None:
    """Nothing is lost on the way into the catalogue and back."""
    assert known.kept_status(workplace) is None
    counted = known.known_status(workplace)
    again = known.kept_status(workplace)
    assert again is not None
    assert again.counted_at == counted.counted_at
    assert list(again.views) == _without_last_runs(status(workplace))


def test_any_change_has_it_counted_anew(workplace: Workplace, tmp_path: Path) -> None:
    """A command after a backup never shows what was before it."""
    known.known_status(workplace)
    world = World(
        workplace.catalogue,
        str(tmp_path / "source"),
        str(tmp_path / "copies"),
        workplace.clock.now(),
        label="second",
    )
    world.backup([scanned(n, n, header(1, 1, i)) for i, n in enumerate("ab", 1)], {"b": "b"})
    assert known.kept_status(workplace) is None
    (view,) = known.known_status(workplace).views
    assert [one.instances_held for one in view.coverage] == [2]


def test_who_counts_at_intervals_says_how_long_it_holds(workplace: Workplace) -> None:
    """Meanwhile things may change; and a clock that was set back ends it."""
    known.count_status(workplace, lambda _took_s: timedelta(seconds=60))
    clock = workplace.clock
    assert isinstance(clock, FakeClock)
    World(workplace.catalogue, label="other").run()
    assert known.kept_status(workplace) is not None
    clock.advance(61)
    assert known.kept_status(workplace) is None


def test_evidence_grows_old_without_a_change(workplace: Workplace) -> None:
    """After an hour it is counted anew, and where other evidence is asked for at once."""
    known.known_status(workplace)
    clock = workplace.clock
    assert isinstance(clock, FakeClock)
    clock.advance(3599)
    assert known.kept_status(workplace) is not None
    clock.advance(2)
    assert known.kept_status(workplace) is None
