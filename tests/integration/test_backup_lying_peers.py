"""Peers that lie or refuse: what did not arrive is named, whatever the peer answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.conftest import RunDcmvault
from tests.integration.story import QUICK_RETRIES, failed_uids, instances, summary_of

from dcmvault.testing.dicom_files import MadeInstance, make_study
from dcmvault.testing.peer_faults import Action, Arrival, Fault, drop_every, fault_from_text
from dcmvault.testing.peers import SimulatedPacs


@contextmanager
def pacs_with(fault: Fault) -> Iterator[tuple[SimulatedPacs, str]]:
    with SimulatedPacs(fault) as pacs:
        yield pacs, f"dicom://{pacs.ae_title}@127.0.0.1:{pacs.port}"


@pytest.fixture
def studies(tmp_path: Path, home: Path) -> list[MadeInstance]:
    (home / "config.toml").write_text(QUICK_RETRIES)
    made: list[MadeInstance] = []
    for key in ("a", "b"):
        made += make_study(tmp_path / "studies" / key, key=key, instances=75)
    return made


def test_success_answered_and_every_50th_dropped(
    run_dcmvault: RunDcmvault, studies: list[MadeInstance], tmp_path: Path
) -> None:
    with pacs_with(drop_every(50)) as (pacs, address):
        done = run_dcmvault("backup", tmp_path / "studies", "--to", address, "--json")
        summary = summary_of(done, exit_status=3)
        sent = {one.sop_instance_uid for one in studies}
        lost = sorted(sent - pacs.held())
        assert len(lost) == 3
        assert failed_uids(summary) == lost
        assert instances(summary) == {"selected": 150, "stored": 147, "failed": 3}


def test_the_next_run_sends_what_was_dropped_and_nothing_else(
    run_dcmvault: RunDcmvault, studies: list[MadeInstance], tmp_path: Path
) -> None:
    command = ("backup", tmp_path / "studies", "--to")

    def drop_at_first(arrival: Arrival) -> Action:
        return Action(keeps=arrival.attempt > 1 or arrival.instance_number % 50 != 0)

    with pacs_with(drop_at_first) as (pacs, address):
        summary_of(run_dcmvault(*command, address, "--json"), exit_status=3)
        lost = sorted({one.sop_instance_uid for one in studies} - pacs.held())
        assert len(lost) == 3
        del pacs.received[:]
        summary_of(run_dcmvault(*command, address, "--json"))
        assert sorted(pacs.received) == lost
        assert len(pacs.held()) == 150


def test_refused_for_now_is_tried_three_times_and_named(
    run_dcmvault: RunDcmvault, studies: list[MadeInstance], tmp_path: Path
) -> None:
    with pacs_with(fault_from_text("refuse-every=7:A700")) as (pacs, address):
        done = run_dcmvault("backup", tmp_path / "studies", "--to", address, "--json")
        summary = summary_of(done, exit_status=3)
        refused = sorted({one.sop_instance_uid for one in studies} - pacs.held())
        assert len(refused) == 150 // 7
        assert failed_uids(summary) == refused
        assert {failure["status"] for failure in summary["failures"]} == {"A700"}
        tries = Counter(pacs.received)
        assert {tries[uid] for uid in refused} == {3}
        assert {tries[uid] for uid in pacs.held()} == {1}


def test_refused_once_is_stored_by_a_later_attempt(
    run_dcmvault: RunDcmvault, studies: list[MadeInstance], tmp_path: Path
) -> None:
    with pacs_with(fault_from_text("refuse-every=7:A700:1")) as (pacs, address):
        done = run_dcmvault("backup", tmp_path / "studies", "--to", address, "--json")
        assert instances(summary_of(done)) == {"selected": 150, "stored": 150}
        assert len(pacs.held()) == 150


def test_refused_for_good_is_not_tried_again(
    run_dcmvault: RunDcmvault, studies: list[MadeInstance], tmp_path: Path
) -> None:
    with pacs_with(fault_from_text("refuse-every=7:C000")) as (pacs, address):
        done = run_dcmvault("backup", tmp_path / "studies", "--to", address, "--json")
        summary = summary_of(done, exit_status=3)
        assert len(summary["failures"]) == 150 // 7
        assert max(Counter(pacs.received).values()) == 1


def test_nobody_there_is_exit_5(
    run_dcmvault: RunDcmvault, studies: list[MadeInstance], tmp_path: Path
) -> None:
    with pacs_with(drop_every(50)) as (_pacs, address):
        pass
    done = run_dcmvault("backup", tmp_path / "studies", "--to", address, "--json")
    summary = summary_of(done, exit_status=5)
    assert summary["instances"]["failed"] == 150
    assert {failure["code"] for failure in summary["failures"]} == {"unreachable"}


def test_a_dead_destination_does_not_keep_another_from_its_copies(
    run_dcmvault: RunDcmvault, studies: list[MadeInstance], tmp_path: Path
) -> None:
    with pacs_with(drop_every(50)) as (_pacs, address):
        pass
    copies = tmp_path / "copies"
    done = run_dcmvault("backup", tmp_path / "studies", "--to", address, "--to", copies, "--json")
    summary = summary_of(done, exit_status=3)
    stored = {d["name"]: d["instances"]["stored"] for d in summary["destinations"]}
    assert sorted(stored.values()) == [0, 150]
