"""How often queues are looked at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dcmvault.engine.binding import Binding
from dcmvault.engine.client import DurableQueue
from dcmvault.engine.database import WorkDatabase
from dcmvault.engine.names import RUNS_QUEUE
from dcmvault.engine.pace import QueuePace
from dcmvault.model.identifiers import DestinationId, RunId
from dcmvault.testing.scripted_stages import ScriptedStages

_QUEUE = "destination:1"


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[DurableQueue]:
    database = WorkDatabase(tmp_path / "work.sqlite")
    queue = DurableQueue(database)
    queue.ensure_queue(RUNS_QUEUE)
    yield queue
    database.dispose()


@pytest.fixture
def binding(queue: DurableQueue, tmp_path: Path) -> Binding:
    stages = ScriptedStages(tmp_path / "stages.sqlite")
    return Binding(stages, queue, lambda _: 1, stages.stopping)


def _polls(queue: DurableQueue) -> dict[str, float]:
    return {look.name: look.poll_s for look in queue.looks()}


def test_idle_queues_are_looked_at_seldom_and_waiting_work_quickens_them(
    queue: DurableQueue, binding: Binding
) -> None:
    pace = QueuePace(queue, binding)
    binding.open_queue(DestinationId(1))
    assert _polls(queue) == {RUNS_QUEUE: 0.1, _QUEUE: 0.02}
    pace.adjust()
    assert _polls(queue) == {RUNS_QUEUE: 0.05, _QUEUE: 0.1}
    for _ in range(5):
        pace.adjust()
    assert _polls(queue) == {RUNS_QUEUE: 1.0, _QUEUE: 2.0}
    queue.submit(RunId("run"))
    pace.adjust()
    assert _polls(queue) == {RUNS_QUEUE: 0.05, _QUEUE: 2.0}


def test_paused_queue_is_looked_at_seldom_although_work_waits(
    queue: DurableQueue, binding: Binding
) -> None:
    pace = QueuePace(queue, binding)
    queue.submit(RunId("run"))
    queue.pause(RUNS_QUEUE)
    for _ in range(5):
        pace.adjust()
    assert _polls(queue) == {RUNS_QUEUE: 1.0}
    queue.resume(RUNS_QUEUE)
    pace.adjust()
    assert _polls(queue) == {RUNS_QUEUE: 0.05}


def test_pace_of_a_queue_that_is_gone_is_left_alone(queue: DurableQueue) -> None:
    queue.set_poll("destination:2", 1.0)
    assert set(_polls(queue)) == {RUNS_QUEUE}
