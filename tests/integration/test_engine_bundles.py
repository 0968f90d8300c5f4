"""Small jobs in one workflow: each keeps what it had alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.integration.engine_world import EngineWorld, eventually

from dcmvault.model.identifiers import JobId
from dcmvault.model.job import Priority
from dcmvault.testing.scripted_stages import ScriptedJob


@pytest.fixture
def world(tmp_path: Path) -> Iterator[EngineWorld]:
    with ExitStack() as stack:
        yield EngineWorld(tmp_path, tmp_path / "engine.sqlite", stack)


def _small(name: str, **options: object) -> ScriptedJob:
    return ScriptedJob(name, small=True, **options)  # type: ignore[arg-type]


def _bundles(world: EngineWorld) -> list[str]:
    return [event.text for event in world.stages.events("bundle")]


def test_small_jobs_are_delivered_in_one_step(world: EngineWorld) -> None:
    world.submit("run", _small("a"), _small("b"), ScriptedJob("large"), _small("c"), _small("d"))
    world.worker.start()
    world.await_finish("run")
    assert sorted(_bundles(world)) == ["a b", "c d"]
    assert sorted(world.jobs("end")) == ["a", "b", "c", "d", "large"]


def test_what_waits_is_enqueued_again_without_the_others(world: EngineWorld) -> None:
    world.submit(
        "run",
        _small("a", batches=2, wait_after=1, wait_s=0.2),
        _small("b", batches=2),
        _small("c", batches=3, wait_after=2, wait_s=0.1),
    )
    world.worker.start()
    world.await_finish("run")
    assert _bundles(world) == ["a b c", "b c", "a c"]
    assert {name: world.stages.delivered(name) for name in "abc"} == {"a": 2, "b": 2, "c": 3}


def test_a_defect_ends_its_job_only(world: EngineWorld) -> None:
    world.submit("run", _small("a"), _small("bad", defect="a defect"), _small("b"))
    world.worker.start()
    world.await_finish("run")
    assert [event.job for event in world.stages.events("fail_job")] == ["bad"]
    assert {name: world.stages.delivered(name) for name in ("a", "bad", "b")} == {
        "a": 1,
        "bad": 0,
        "b": 1,
    }


def test_a_killed_step_is_repeated_for_all_of_them(world: EngineWorld) -> None:
    world.submit("run", _small("a"), _small("b", gate="interrupted-here"), _small("c"))
    world.worker.start()
    eventually(lambda: "b" in world.jobs("start"))
    world.worker.stop(grace_s=20)
    assert world.runs("finish") == []
    world.stages.open_gate("interrupted-here")
    world.worker.start()
    world.await_finish("run")
    assert {name: world.stages.delivered(name) for name in "abc"} == dict.fromkeys("abc", 1)


def test_a_bundle_moves_as_a_whole_and_is_not_cancelled_with_one_of_its_jobs(
    world: EngineWorld,
) -> None:
    first = ScriptedJob("first", gate="go")
    second = ScriptedJob("second", gate="later")
    world.submit("run", first, second, ScriptedJob("third"), _small("a"), _small("b"))
    world.worker.start()
    eventually(lambda: {"first", "second"} <= set(world.jobs("start")))
    for unknown in ("nobody", "third+1"):
        world.queue.prioritise(JobId(unknown), Priority.EMERGENCY)
    world.queue.prioritise(JobId("b"), Priority.EMERGENCY)
    world.queue.cancel_job(JobId("a"))
    # One place becomes free: who takes it first is the order of the queue.
    world.stages.open_gate("go")
    eventually(lambda: "third" in world.jobs("start"))
    world.stages.open_gate("later")
    world.await_finish("run")
    starts = world.jobs("start")
    assert starts.index("a") < starts.index("third")
    assert starts.index("b") < starts.index("third")
    assert _bundles(world) == ["a b"]
