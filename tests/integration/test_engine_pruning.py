"""Durable work of runs that ended long ago is forgotten; what is young or unended stays."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.integration.engine_world import EngineWorld, eventually

from dcmvault.engine.pruning import KEPT, Pruning
from dcmvault.testing.scripted_stages import ScriptedJob


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peers)])
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[EngineWorld]:
    on_server = request.param == "postgresql"
    address = request.getfixturevalue("postgresql_url") if on_server else tmp_path / "e.sqlite3"
    with ExitStack() as stack:
        yield EngineWorld(tmp_path, address, stack)


def _known(world: EngineWorld) -> set[str]:
    return {workflow.workflow_id for workflow in world.ledger.client.list_workflows()}


def test_ended_runs_are_forgotten_with_all_attempts_at_their_jobs(world: EngineWorld) -> None:
    world.worker.start()
    world.submit("ended", ScriptedJob("once"), ScriptedJob("twice", batches=2, wait_after=1))
    world.submit("open", ScriptedJob("blocked", destination=2, gate="gate"))
    world.await_finish("ended")
    eventually(lambda: "blocked" in world.jobs("start"))
    before = _known(world)
    assert sum(name.startswith("twice/") for name in before) == 2

    Pruning(world.ledger).prune()
    assert _known(world) == before, "what has just ended stays"

    later = datetime.now(UTC) + KEPT + timedelta(minutes=1)
    Pruning(world.ledger, lambda: later).prune()
    assert {name.partition("/")[0] for name in _known(world)} == {"open", "blocked"}
    world.stages.open_gate("gate")
    world.await_finish("open")
