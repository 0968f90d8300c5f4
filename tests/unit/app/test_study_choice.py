"""The order of studies in a smart run: priority, then the risk of loss, then the order found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dcmvault.app.study_choice import ExplainedStudy, StudyChoice
from dcmvault.catalogue import open_catalogue
from dcmvault.errors import DestinationUnreachableError
from dcmvault.model.classification import StudyMarks
from dcmvault.model.evidence import Level
from dcmvault.model.instance import SeriesAttributes
from dcmvault.model.job import ItemState, Priority
from dcmvault.model.plan import DestinationRequest, RunKind, RunRequest, Strategy
from dcmvault.model.report import RunState
from dcmvault.pipeline.classification import Classifier
from dcmvault.ports.catalogue import Outcome
from dcmvault.testing.catalogue_world import START, World, header, scanned

OTHER = "/other"


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Five CT studies and one of ultrasound, of which another destination holds the second."""
    world = World(open_catalogue(str(tmp_path / "catalogue.sqlite3")))
    listed = [scanned(str(number), str(number), header(number, 1, 1)) for number in range(1, 6)]
    ultrasound = header(6, 1, 1)._replace(series=SeriesAttributes("US"))
    listed.append(scanned("6", "6", ultrasound))
    elsewhere = replace(world, destination_name=OTHER, label="other")
    elsewhere.backup(listed[1:2], {"2": "2"})
    world.scan(world.run(), listed)
    return world


def choice_of(world: World, **asked: object) -> StudyChoice:
    request = RunRequest(
        RunKind.BACKUP,
        world.source_name,
        (DestinationRequest(world.destination_name, Level.COMPLETE),),
        Strategy.SMART,
    )
    return StudyChoice(
        request=replace(request, **asked),  # type: ignore[arg-type]
        source_id=world.source,
        plans=world.catalogue.plans,
        facts=world.catalogue.study_facts,
        routes=world.catalogue.routes,
        make_classifier=Classifier,
        now=START,
        marks={
            "2.25.5": StudyMarks(auto_clean_rank=20, auto_clean_of=100),
            "2.25.4": StudyMarks(auto_clean_rank=30, auto_clean_of=100),
            "2.25.6": StudyMarks(auto_clean_rank=0, auto_clean_of=100),
        },
    )


def planned(choice: StudyChoice) -> list[str]:
    """Return the studies that are planned, one limited run after the other."""
    choice.look()
    (wanted,) = choice.request.destinations
    return [item.identity.study_instance_uid for item in choice.items(wanted)]


def test_what_may_be_lost_comes_first_among_equals(world: World) -> None:
    seen: list[ExplainedStudy] = []
    choice = choice_of(world)
    choice.explain = seen.append
    planned(choice)
    order = [one.study_instance_uid for one in choice.explained_in_order(seen)]
    # Of ultrasound, and first in auto-clean's order: raised by a step. The second has a copy.
    assert order == ["2.25.6", "2.25.5", "2.25.4", "2.25.1", "2.25.3", "2.25.2"]
    assert [choice.priority_of(uid) for uid in ("2.25.6", "2.25.1")] == [Priority.HIGH] * 2


def test_a_limit_takes_the_first_of_that_order(world: World) -> None:
    choice = choice_of(world, max_studies=2)
    assert sorted(planned(choice)) == ["2.25.5", "2.25.6"]
    (remark,) = choice.remarks()
    assert "4 more are due" in remark


def fail(world: World, studies: list[str], code: str) -> None:
    """Make a run in which these studies fail."""
    run_id = world.run()
    due = world.due(run_id, Strategy.INCREMENTAL, Level.COMPLETE)
    some = [item for item in due if item.identity.study_instance_uid in studies]
    for job in world.plan(run_id, some):
        open_items = world.catalogue.jobs.items(job.job_id, frozenset({ItemState.DUE}), 10)
        world.catalogue.jobs.record_outcomes(
            job.job_id,
            [Outcome(one.item_id, ItemState.FAILED, 1, code=code) for one in open_items],
        )
    world.catalogue.runs.set_run_state(run_id, RunState.FINISHED, world.tick())


def test_what_fails_each_time_does_not_take_the_place_of_others_in_limited_runs(
    world: World,
) -> None:
    limited = {"max_studies": 2, "strategy": Strategy.INCREMENTAL}
    first = planned(choice_of(world, **limited))
    fail(world, first, "peer_refused")
    then = planned(choice_of(world, **limited))
    assert not {*first} & {*then}
    fail(world, then, "peer_refused")
    assert planned(choice_of(world, **limited)) == first, "they have their turn again"


def test_a_destination_that_was_lost_does_not_change_the_order(world: World) -> None:
    first = planned(choice_of(world, max_studies=2))
    fail(world, first, DestinationUnreachableError.code)
    assert planned(choice_of(world, max_studies=2)) == first


def test_a_run_that_is_urgent_makes_no_study_less_urgent(world: World) -> None:
    choice = choice_of(world, priority=Priority.URGENT)
    choice.look()
    assert choice.priority_of("2.25.1") is Priority.URGENT
    low = choice_of(world, priority=Priority.LOW)
    low.look()
    assert low.priority_of("2.25.1") is Priority.HIGH


def test_other_strategies_keep_their_order_and_priority(world: World) -> None:
    choice = choice_of(world, strategy=Strategy.INCREMENTAL, max_studies=3)
    assert planned(choice) == ["2.25.2", "2.25.1", "2.25.3"]
    assert choice.priority_of("2.25.2") is Priority.NORMAL
    assert not choice_of(world, strategy=Strategy.INCREMENTAL).is_needed
