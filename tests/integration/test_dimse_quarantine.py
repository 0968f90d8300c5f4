"""Instances over which a peer ends the association: they keep nothing else from its copy."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import pytest
from tests.integration.dimse_story import destination_at
from tests.integration.flow_world import Flow, counts_of

from dcmvault.testing.clock import FakeClock
from dcmvault.testing.dicom_files import make_study
from dcmvault.testing.peer_faults import Action, Arrival, Ending
from dcmvault.testing.peers import SimulatedPacs


@pytest.fixture
def flow(tmp_path: Path) -> Iterator[Flow]:
    flow = Flow(tmp_path, FakeClock())
    yield flow
    flow.catalogue.close()


class Choosy:
    """A peer that ends the association over some instances, the first `times` times."""

    def __init__(
        self, ending: Ending = Ending.ABORT, times: int = 1_000, *, async_window: int = 1
    ) -> None:
        self.poison: Collection[str] = ()
        self.ending = ending
        self.times = times
        self.arrivals: list[str] = []
        self.pacs = SimulatedPacs(self._answer, async_window=async_window)

    def _answer(self, arrival: Arrival) -> Action:
        uid = arrival.sop_instance_uid
        self.arrivals.append(uid)
        if uid in self.poison and arrival.attempt <= self.times:
            return Action(keeps=False, ending=self.ending)
        return Action()

    def came_before_the_last(self, uid: str) -> set[str]:
        """Return who came before an instance came for the last time."""
        return set(self.arrivals[: max(n for n, came in enumerate(self.arrivals) if came == uid)])


def _address(pacs: SimulatedPacs) -> str:
    return f"dicom://{pacs.ae_title}@127.0.0.1:{pacs.port}"


@pytest.mark.parametrize("ending", [Ending.ABORT, Ending.CLOSE])
@pytest.mark.parametrize("places", [[0], [3], [7], [2, 5]])
def test_sent_again_alone_then_left(
    flow: Flow, tmp_path: Path, ending: Ending, places: list[int]
) -> None:
    made = make_study(tmp_path / "source", instances=8)
    choosy = Choosy(ending)
    choosy.poison = {made[place].sop_instance_uid for place in places}
    with choosy.pacs as pacs:
        report = flow.backup(tmp_path / "source", _address(pacs))
        assert report.exit_status == 3
        left = len(places)
        assert counts_of(report) == {"selected": 8, "stored": 8 - left, "failed": left}
        assert {failure.sop_instance_uid for failure in report.failures} == choosy.poison
        assert {failure.code for failure in report.failures} == {"quarantined"}
        everybody = {one.sop_instance_uid for one in made}
        for uid in choosy.poison:
            assert choosy.arrivals.count(uid) == 2
            # All others were through when it was sent again, alone.
            assert choosy.came_before_the_last(uid) >= everybody - set(choosy.poison)
        # What was left stays due.
        choosy.poison = ()
        assert flow.backup(tmp_path / "source", _address(pacs)).exit_status == 0


def test_an_accident_is_made_good(flow: Flow, tmp_path: Path) -> None:
    made = make_study(tmp_path / "source", instances=6)
    choosy = Choosy(times=1)
    choosy.poison = {made[1].sop_instance_uid, made[4].sop_instance_uid}
    with choosy.pacs as pacs:
        report = flow.backup(tmp_path / "source", _address(pacs))
        assert len(pacs.received) == 8
    assert (counts_of(report), report.exit_status) == ({"selected": 6, "stored": 6}, 0)


def test_a_peer_that_swallows_all_answers_is_the_culprit_itself(flow: Flow, tmp_path: Path) -> None:
    made = make_study(tmp_path / "source", instances=4)
    choosy = Choosy(Ending.HANG)
    choosy.poison = {instance.sop_instance_uid for instance in made}
    with choosy.pacs as pacs:
        destination = destination_at(pacs.port, dimse_timeout_s=0.3)
        flow.destinations[destination.name] = destination
        report = flow.backup(tmp_path / "source", destination.name)
        assert len(pacs.received) <= 8
    assert report.exit_status == 5
    assert counts_of(report) == {"selected": 4, "failed": 4}
