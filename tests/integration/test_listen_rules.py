"""When a backup of the spool is due, and what leaves it: the rules behind `dcmvault listen`."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.integration.listen_story import configure, held_in, in_spool
from tests.integration.listener_world import dcmsend

from dcmvault.app import listen
from dcmvault.app.backup import follow, make_request, start
from dcmvault.app.listen import Arrivals, Listening
from dcmvault.app.wiring.listener import Receiver, receiving
from dcmvault.app.wiring.workplace import Workplace, open_workplace
from dcmvault.catalogue.holdings import HoldingsInDatabase
from dcmvault.config.load import load_settings
from dcmvault.dicom.spool import Spool
from dcmvault.model.instance import InstanceEntry
from dcmvault.model.plan import RunKind
from dcmvault.model.report import RunReport
from dcmvault.testing.dicom_files import make_study


class _World:
    """A listener that runs in this process, and what it tells."""

    def __init__(self, workplace: Workplace, receiver: Receiver, to: Path, arrivals: Arrivals):
        self.workplace = workplace
        self.spool: Spool = receiver.spool
        self.request = make_request(
            workplace.settings,
            kind=RunKind.BACKUP,
            source="listener:",
            destinations=[str(to)],
            level=None,
        )
        self.cleared: list[int] = []
        self.listening = Listening(workplace, self.request, receiver, arrivals, self.cleared.append)

    def is_due(self, within_s: float) -> bool:
        """Say whether a backup becomes due within so many seconds."""
        stop = threading.Event()
        timer = threading.Timer(within_s, stop.set)
        timer.start()
        try:
            return self.listening.wait(stop)
        finally:
            timer.cancel()

    def report(self) -> RunReport:
        """Back up, and return what came of it."""
        started = start(self.workplace, self.request)
        report = follow(self.workplace, started.run_id, lambda _followed: None, threading.Event())
        self.listening.ended(is_good=report.exit_status == 0)
        return report

    def run(self) -> int:
        """Back up, and return the exit status."""
        return self.report().exit_status


@contextmanager
def _listening(home: Path, to: Path) -> Iterator[_World]:
    settings = load_settings(home / "config.toml")
    arrivals = Arrivals()
    with (
        open_workplace(home, settings) as workplace,
        receiving(settings.listener, workplace.catalogue.holdings, arrivals.arrived) as receiver,
    ):
        yield _World(workplace, receiver, to, arrivals)


def test_due_once_and_again_after_something_new(home: Path, tmp_path: Path) -> None:
    """What was backed up is not due again; what comes is, when it has settled."""
    port = configure(home, settle_s=0.3, keep_days=7)
    make_study(tmp_path / "a", key="due-a", instances=2)
    make_study(tmp_path / "b", key="due-b", instances=2)
    with _listening(home, tmp_path / "copies") as world:
        assert not world.is_due(0.5)
        assert dcmsend(port, tmp_path / "a").returncode == 0
        assert world.is_due(20)
        assert world.run() == 0
        assert not world.is_due(1)
        assert dcmsend(port, tmp_path / "b").returncode == 0
        assert world.is_due(20)
        assert world.run() == 0
    assert len(in_spool(home)) == len(held_in(tmp_path / "copies")) == 4
    with _listening(home, tmp_path / "copies") as world:
        assert world.is_due(20), "after a start what is in the spool is looked at"
        assert world.run() == 0
        assert not world.is_due(0.5)


def test_what_a_good_run_did_not_protect_is_due(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That something was there when a run began says nothing: what is held counts."""
    monkeypatch.setattr(listen, "_LOOK_S", 0.2)
    port = configure(home, settle_s=0.1, keep_days=7)
    make_study(tmp_path / "a", key="unprotected", instances=2)
    with _listening(home, tmp_path / "copies") as world:
        assert dcmsend(port, tmp_path / "a").returncode == 0
        assert world.is_due(20)
        world.listening.ended(is_good=True)  # of a run that did not list it
        assert world.is_due(20)
        assert world.run() == 0
        assert not world.is_due(1)


def test_what_is_held_leaves_while_it_is_listed(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A spool may hold millions: none of them is kept in memory to be cleared."""
    port = configure(home, settle_s=0.1, keep_days=7)
    make_study(tmp_path / "a", key="paged", instances=2)
    acts: list[str] = []
    held_entries, remove = HoldingsInDatabase.held_entries, Spool.remove

    def noted_entries(*arguments: Any) -> Iterator[InstanceEntry]:
        for entry in held_entries(*arguments):
            acts.append("listed")
            yield entry

    def noted_remove(*arguments: Any) -> bool:
        acts.append("removed")
        return remove(*arguments)

    with _listening(home, tmp_path / "copies") as world:
        assert dcmsend(port, tmp_path / "a").returncode == 0
        assert world.is_due(20)
        assert world.run() == 0
        monkeypatch.setattr(HoldingsInDatabase, "held_entries", noted_entries)
        monkeypatch.setattr(Spool, "remove", noted_remove)
        monkeypatch.setattr(listen, "_DAY_S", 0.0)
        world.listening.clear()
    assert acts == ["listed", "removed"] * 2


def test_a_backup_that_failed_is_due_again(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listen, "_RETRY_S", 0.3)
    port = configure(home, settle_s=0.1)
    make_study(tmp_path / "a", key="retry", instances=2)
    copies = tmp_path / "disk" / "copies"
    with _listening(home, copies) as world:
        assert dcmsend(port, tmp_path / "a").returncode == 0
        (tmp_path / "disk").write_text("not a folder")
        assert world.is_due(20)
        assert world.run() != 0
        assert len(in_spool(home)) == 2
        (tmp_path / "disk").unlink()
        (tmp_path / "disk").mkdir()
        assert world.is_due(20)
        assert world.run() == 0
        assert world.cleared == [2]
        assert in_spool(home) == []


def test_a_full_spool_lets_go_what_is_held(home: Path, tmp_path: Path) -> None:
    """Days are a wish; where there is no room, what every destination holds leaves at once."""
    port = configure(home, "budget_mb = 1", settle_s=0.1, keep_days=7)
    make_study(tmp_path / "a", key="full", instances=3, rows=512, columns=512)
    with _listening(home, tmp_path / "copies") as world:
        dcmsend(port, tmp_path / "a")
        assert not world.spool.has_room()
        assert len(in_spool(home)) == 2
        assert world.is_due(20)
        assert world.run() == 0
        assert world.cleared == [2]
        assert world.spool.has_room()
        assert world.spool.used == 0


def test_what_is_lost_in_the_spool_is_told(home: Path, tmp_path: Path) -> None:
    """What was answered for and left the spool before it was backed up ends no run well."""
    port = configure(home, settle_s=0.1, keep_days=7)
    make_study(tmp_path / "a", key="held", instances=2)
    make_study(tmp_path / "b", key="lost", instances=3)
    disk = tmp_path / "disk"
    with _listening(home, disk / "copies") as world:
        disk.mkdir()
        assert dcmsend(port, tmp_path / "a").returncode == 0
        assert world.is_due(20)
        assert world.run() == 0
        disk.rename(tmp_path / "away")
        disk.write_text("not a folder")
        assert dcmsend(port, tmp_path / "b").returncode == 0
        assert world.is_due(20)
        assert world.run() != 0
        disk.unlink()
        (tmp_path / "away").rename(disk)
        shutil.rmtree(world.spool.studies)
        world.spool.studies.mkdir()
        report = world.report()
        assert report.exit_status == 3
        assert report.gone == 3
        assert [one.code for one in report.failures] == ["lost_at_source"] * 3
        assert any("3 instances that were received are gone" in one for one in report.warnings)
        assert world.run() == 0, "it is told once"


def test_what_changed_in_the_spool_stays(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is not the one that is held is nobody's copy."""
    port = configure(home, settle_s=0.1, keep_days=7)
    make_study(tmp_path / "a", key="touched", instances=2)
    with _listening(home, tmp_path / "copies") as world:
        assert dcmsend(port, tmp_path / "a").returncode == 0
        assert world.is_due(20)
        assert world.run() == 0
        touched = in_spool(home)[0]
        time.sleep(0.01)
        touched.write_bytes(touched.read_bytes() + b"\0\0")
        monkeypatch.setattr(listen, "_DAY_S", 0.0)
        world.listening.clear()
        assert world.cleared == [1]
        assert in_spool(home) == [touched]
