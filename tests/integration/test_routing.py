"""Mirror, failover and load balancing over two Orthancs of which one is killed and comes back."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from scripts.peer_launch import run_again
from scripts.peer_processes import Orthanc
from tests.conftest import RunDcmvault, StartDcmvault, StartOrthanc
from tests.integration.story import QUICK_RETRIES, instances, summary_of

from dcmvault.testing.dicom_files import make_instance

pytestmark = pytest.mark.peers


def add_study(folder: Path, number: int, series: int = 1, *, modality: str = "CT") -> None:
    """Write three instances of a series."""
    for instance in range(1, 4):
        make_instance(
            folder / f"{number}-{series}-{instance}.dcm",
            f"2.25.{number}",
            f"2.25.{number}.{series}",
            f"2.25.{number}.{series}.{instance}",
            modality=modality,
        )


def study_of(sop_instance_uid: str) -> str:
    """Return the study of an instance that `add_study` wrote."""
    return ".".join(sop_instance_uid.split(".")[:3])


class TwoArchives:
    """A source, a configured plan, and two Orthancs that can be killed and run again."""

    def __init__(self, home: Path, source: Path, first: Orthanc, second: Orthanc) -> None:
        self.home = home
        self.source = source
        self.archives = {"first": first, "second": second}
        self._stack = ExitStack()

    def configure(self, routing: str, *, limits: str = "") -> None:
        """Write the configuration with this routing, and options of the first archive."""
        tables = [
            f'[destinations.{name}]\naddress = "{archive.address}"\nconnect_timeout_s = 2\n'
            + (limits if name == "first" else "")
            for name, archive in self.archives.items()
        ]
        plan = (
            f'[plans.all]\nsources = ["{self.source}"]\ndestinations = ["first", "second"]\n'
            f"{routing}\n"
        )
        self.home.mkdir(exist_ok=True)
        (self.home / "config.toml").write_text("\n".join([QUICK_RETRIES, *tables, plan]), "utf-8")

    def kill(self, name: str) -> None:
        """Kill an archive."""
        process = self.archives[name].process
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def run_again(self, name: str) -> None:
        """Run a killed archive again, with what it had."""
        peer = self._stack.enter_context(run_again(self.archives[name]))
        assert isinstance(peer, Orthanc)
        self.archives[name] = peer
        while True:
            try:
                peer.statistics()
            except OSError:
                time.sleep(0.05)
            else:
                return

    def held(self, name: str) -> list[str]:
        """List what an archive says that it holds."""
        return self.archives[name].instances()

    def close(self) -> None:
        """End what was run again."""
        self._stack.close()


@pytest.fixture
def world(home: Path, tmp_path: Path, start_orthanc: StartOrthanc) -> Iterator[TwoArchives]:
    source = tmp_path / "source"
    archives = TwoArchives(home, source, start_orthanc(), start_orthanc())
    yield archives
    archives.close()


def everything(numbers: Sequence[int], series: Sequence[int] = (1,)) -> list[str]:
    """List the instances of these studies."""
    return sorted(f"2.25.{n}.{s}.{i}" for n in numbers for s in series for i in range(1, 4))


def run_plan(run_dcmvault: RunDcmvault, exit_status: int = 0) -> dict[str, Any]:
    return summary_of(run_dcmvault("run", "all", "--json"), exit_status)


def by_destination(summary: dict[str, Any], world: TwoArchives) -> dict[str, dict[str, int]]:
    """Return the counts that are not zero, by the archive's name."""
    found = {}
    for part in summary["destinations"]:
        (name,) = (n for n, a in world.archives.items() if f":{a.port}?" in part["address"])
        found[name] = instances(part)
    return found


def test_in_a_mirror_a_dead_archive_blocks_nobody_and_catches_up(
    world: TwoArchives, run_dcmvault: RunDcmvault
) -> None:
    for number in range(1, 5):
        add_study(world.source, number)
    world.configure("")
    world.kill("first")
    summary = run_plan(run_dcmvault, 3)
    assert by_destination(summary, world)["second"] == {"selected": 12, "stored": 12}
    assert world.held("second") == everything(range(1, 5))
    world.run_again("first")
    summary = run_plan(run_dcmvault)
    assert by_destination(summary, world) == {
        "first": {"selected": 12, "stored": 12},
        "second": {"already_held": 12},
    }
    assert world.held("first") == everything(range(1, 5))


FAILOVER = '[plans.all.routing]\nmode = "failover"'


def test_a_failover_goes_to_the_second_and_the_first_gets_it_later(
    world: TwoArchives, run_dcmvault: RunDcmvault
) -> None:
    add_study(world.source, 1)
    world.configure(FAILOVER)
    assert by_destination(run_plan(run_dcmvault), world) == {
        "first": {"selected": 3, "stored": 3},
        "second": {},
    }
    add_study(world.source, 2)
    world.kill("first")
    summary = run_plan(run_dcmvault)
    # What the first one held already is not sent to another one.
    assert world.held("second") == everything([2])
    (diverted,) = summary["diversions"]
    assert diverted["study_instance_uid"] == "2.25.2"
    assert f":{world.archives['second'].port}?" in diverted["destination"]
    assert f":{world.archives['first'].port}?" in diverted["instead_of"]
    assert "refused" in diverted["why"] or "nothing listens" in diverted["why"]
    (warning,) = summary["warnings"]
    assert warning.startswith("studies that went to dicom:")
    assert warning.endswith("and gets them in a later run: 1")
    report = run_dcmvault("report", summary["run"], "--format", "text").stdout
    assert "could not be reached" in report
    # Asked again, nothing is due but at the first, which still is away.
    again = run_dcmvault("run", "all", "--progress", "none")
    assert again.returncode == 0
    assert "All 3 instances" in again.stdout
    assert "studies that are due at dicom:" in again.stdout
    world.run_again("first")
    summary = run_plan(run_dcmvault)
    assert by_destination(summary, world)["first"] == {
        "already_held": 3,
        "selected": 3,
        "stored": 3,
    }
    assert summary["diversions"] == []
    assert world.held("first") == everything([1, 2])
    assert world.held("second") == everything([2])


def test_an_archive_that_dies_in_the_middle_is_replaced_in_the_same_run(
    world: TwoArchives, start_dcmvault: StartDcmvault, run_dcmvault: RunDcmvault
) -> None:
    numbers = range(1, 21)
    for number in numbers:
        add_study(world.source, number)
    world.configure(FAILOVER, limits='bandwidth = "10 kB/s"\n')
    process = start_dcmvault("run", "all", "--json", "--progress", "none")
    while len(world.held("first")) < 6:
        assert process.poll() is None
        time.sleep(0.05)
    before = world.held("first")
    world.kill("first")
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, (output, errors)
    summary = json.loads(output)
    assert summary["instances"]["failed"] == 0
    diverted = {one["study_instance_uid"] for one in summary["diversions"]}
    second = world.held("second")
    # A study that went elsewhere is there as a whole.
    assert second == sorted(uid for uid in everything(numbers) if study_of(uid) in diverted)
    assert {study_of(uid) for uid in everything(numbers)} - diverted <= set(map(study_of, before))
    world.run_again("first")
    world.configure(FAILOVER)
    run_plan(run_dcmvault)
    assert world.held("first") == everything(numbers)
    assert world.held("second") == second


def test_a_run_ends_though_every_archive_is_away(
    world: TwoArchives, run_dcmvault: RunDcmvault
) -> None:
    """The first one is tried, as none can be reached, and is not left again and again."""
    add_study(world.source, 1)
    world.configure(FAILOVER)
    world.kill("first")
    world.kill("second")
    summary = summary_of(run_dcmvault("run", "all", "--json", timeout=45), 5)
    assert by_destination(summary, world) == {"first": {"selected": 3, "failed": 3}, "second": {}}
    world.run_again("second")
    assert by_destination(run_plan(run_dcmvault), world)["second"] == {"selected": 3, "stored": 3}


BALANCED = '[plans.all.routing]\nmode = "load-balance"'


def test_load_balancing_keeps_studies_whole_and_together_over_runs(
    world: TwoArchives, run_dcmvault: RunDcmvault
) -> None:
    first_studies = range(1, 13)
    for number in first_studies:
        add_study(world.source, number)
    world.configure(BALANCED)
    run_plan(run_dcmvault)
    homes = {study_of(uid): name for name in ("first", "second") for uid in world.held(name)}
    assert set(homes.values()) == {"first", "second"}
    assert sorted(world.held("first") + world.held("second")) == everything(first_studies)
    # One is away: its studies wait for it, new ones go to the other one.
    world.kill("second")
    for number in first_studies:
        add_study(world.source, number, series=2)
    for number in range(13, 21):
        add_study(world.source, number)
    summary = run_plan(run_dcmvault, 3)
    waiting = {failure["study_instance_uid"] for failure in summary["failures"]}
    assert waiting == {study for study, home in homes.items() if home == "second"}
    assert {study_of(uid) for uid in world.held("first")} == {
        *(study for study, home in homes.items() if home == "first"),
        *(f"2.25.{number}" for number in range(13, 21)),
    }
    # It is back: nothing moves, and what waited is brought.
    world.run_again("second")
    run_plan(run_dcmvault)
    held = {name: {study_of(uid) for uid in world.held(name)} for name in ("first", "second")}
    assert not held["first"] & held["second"]
    assert held["second"] == waiting
    everywhere = sorted(world.held("first") + world.held("second"))
    assert everywhere == sorted([*everything(first_studies, (1, 2)), *everything(range(13, 21))])


def test_a_rule_sends_a_modality_elsewhere(world: TwoArchives, run_dcmvault: RunDcmvault) -> None:
    for number, modality in ((1, "CT"), (2, "US"), (3, "CR")):
        add_study(world.source, number, modality=modality)
    world.configure(
        '[[plans.all.routing.rules]]\nmodality = ["US"]\nto = ["second"]\n'
        '[[plans.all.routing.rules]]\nmodality = ["CR"]\nto = ["second", "first"]\n'
        'mode = "failover"'
    )
    run_plan(run_dcmvault)
    assert world.held("first") == everything([1])
    assert world.held("second") == everything([1, 2, 3])
