"""How often queues are looked at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dcmvault.engine.binding import Binding
from dcmvault.engine.client import DurableQueue
from dcmvault.engine.database import WorkDatabase
from dcmvault.engine.ledger import Ledger
from dcmvault.engine.names import RUNS_QUEUE
from dcmvault.engine.pace import QueuePace
from dcmvault.model.identifiers import DestinationId, RunId
from dcmvault.testing.scripted_stages import ScriptedStages

_QUEUE = "destination:1"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[WorkDatabase]:
    database = WorkDatabase(tmp_path / "work.sqlite")
    yield database
    database.dispose()


@pytest.fixture
def ledger(database: WorkDatabase) -> Ledger:
    ledger = Ledger(database)
    ledger.ensure_queue(RUNS_QUEUE)
    return ledger


@pytest.fixture
def queue(database: WorkDatabase) -> DurableQueue:
    return DurableQueue(database)


@pytest.fixture
def binding(ledger: Ledger, tmp_path: Path) -> Binding:
    stages = ScriptedStages(tmp_path / "stages.sqlite")
    return Binding(stages, ledger, lambda _: 1, stages.stopping)


def _polls(ledger: Ledger) -> dict[str, float]:
    return {look.name: look.poll_s for look in ledger.looks()}


def test_idle_queues_are_looked_at_seldom_and_waiting_work_quickens_them(
    ledger: Ledger, queue: DurableQueue, binding: Binding
) -> None:
    pace = QueuePace(ledger, binding)
    binding.open_queue(DestinationId(1))
    assert _polls(ledger) == {RUNS_QUEUE: 0.1, _QUEUE: 0.02}
    pace.adjust()
    assert _polls(ledger) == {RUNS_QUEUE: 0.05, _QUEUE: 0.1}
    for _ in range(5):
        pace.adjust()
    assert _polls(ledger) == {RUNS_QUEUE: 1.0, _QUEUE: 1.0}
    queue.submit(RunId("run"))
    pace.adjust()
    assert _polls(ledger) == {RUNS_QUEUE: 0.05, _QUEUE: 1.0}


def test_paused_queue_is_looked_at_seldom_although_work_waits(
    ledger: Ledger, queue: DurableQueue, binding: Binding
) -> None:
    pace = QueuePace(ledger, binding)
    queue.submit(RunId("run"))
    ledger.ensure_queue(RUNS_QUEUE).set_limiter({"limit": 0, "period": 1.0})
    for _ in range(5):
        pace.adjust()
    assert _polls(ledger) == {RUNS_QUEUE: 1.0}
    ledger.ensure_queue(RUNS_QUEUE).set_limiter(None)
    pace.adjust()
    assert _polls(ledger) == {RUNS_QUEUE: 0.05}


def test_pace_of_a_queue_that_is_gone_is_left_alone(ledger: Ledger) -> None:
    ledger.set_poll("destination:2", 1.0)
    assert set(_polls(ledger)) == {RUNS_QUEUE}
