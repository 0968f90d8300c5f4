"""The durable engine for real, on SQLite and on PostgreSQL."""

from __future__ import annotations

import random
import sqlite3
import stat
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.integration.engine_world import EngineWorld, eventually, stop_process

from dcmvault.engine.binding import Binding
from dcmvault.engine.client import DurableQueue
from dcmvault.engine.database import WorkDatabase
from dcmvault.engine.worker import DurableWorker
from dcmvault.errors import ConfigurationError, StateError
from dcmvault.model.identifiers import DestinationId, JobId, RunId
from dcmvault.model.job import Priority
from dcmvault.testing.scripted_stages import ScriptedJob

ENDLESS = 10_000


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peers)])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EngineWorld]:
    address: Path | str = tmp_path / "work.sqlite"
    if request.param == "postgresql":
        address = request.getfixturevalue("postgresql_url")
    with ExitStack() as stack:
        yield EngineWorld(tmp_path, address, stack)


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[EngineWorld]:
    with ExitStack() as stack:
        yield EngineWorld(tmp_path, tmp_path / "work.sqlite", stack)


def test_run_delivers_all_batches_of_all_jobs_and_finishes_once(world: EngineWorld) -> None:
    world.worker.start()
    world.submit(
        "run", *(ScriptedJob(f"job-{n}", destination=1 + n % 2, batches=3) for n in range(6))
    )
    world.await_finish("run")
    assert [world.stages.delivered(f"job-{n}") for n in range(6)] == [3] * 6
    assert world.runs("plan") == ["run"]
    assert world.runs("finish") == ["run"]
    assert not world.stages.events("fail", "fail_job")


def test_run_without_jobs_finishes(world: EngineWorld) -> None:
    world.queue.submit(RunId("empty"))
    world.worker.start()
    world.await_finish("empty")
    assert world.queue.queues() == []


def test_run_is_submitted_once_even_after_its_end(world: EngineWorld) -> None:
    world.worker.start()
    for _ in range(2):
        world.queue.submit(RunId("run"))
    world.await_finish("run")
    world.queue.submit(RunId("run"))
    world.queue.submit(RunId("later"))
    world.await_finish("later")
    assert world.runs("plan") == ["run", "later"]


def test_worker_stops_although_its_database_is_away(
    world: EngineWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is why a worker among several rests until it is back: an error would end it for good."""

    def away(_binding: Binding) -> Sequence[str]:
        raise sa.exc.OperationalError("SELECT 1", {}, Exception("server closed the connection"))

    world.worker.start()
    world.submit("run", ScriptedJob("job"))
    world.await_finish("run")
    monkeypatch.setattr(Binding, "unwritten_ends", away)
    world.worker.stop(grace_s=20)


def test_worker_limits_the_queue_that_the_asking_process_registered(world: EngineWorld) -> None:
    world.worker = DurableWorker(
        world.database, world.stages, concurrency=lambda _: 1, stopping=world.stages.stopping
    )
    world.worker.start()
    world.stages.script("run", [ScriptedJob("job")])
    world.queue.submit(RunId("run"), [DestinationId(1)])
    assert [queue.destination_id for queue in world.queue.queues()] == [DestinationId(1)]
    world.await_finish("run")
    assert [queue.concurrency for queue in world.queue.queues()] == [1]
    world.worker.stop(grace_s=20)


def test_jobs_of_a_queue_start_in_order_of_priority(world: EngineWorld) -> None:
    world.worker = DurableWorker(
        world.database, world.stages, concurrency=lambda _: 1, stopping=world.stages.stopping
    )
    world.queue.pause(DestinationId(1))
    world.worker.start()
    world.submit("run", *(ScriptedJob(priority.name, priority=priority) for priority in Priority))
    eventually(lambda: world.queue.queues()[0].waiting == len(Priority))
    world.queue.resume(DestinationId(1))
    world.await_finish("run")
    assert world.jobs("end") == ["EMERGENCY", "URGENT", "HIGH", "NORMAL", "LOW"]
    world.worker.stop(grace_s=20)


def test_waiting_job_is_moved_in_its_queue(world: EngineWorld) -> None:
    world.worker = DurableWorker(
        world.database, world.stages, concurrency=lambda _: 1, stopping=world.stages.stopping
    )
    world.queue.pause(DestinationId(1))
    world.worker.start()
    world.submit("run", *(ScriptedJob(f"job-{n}") for n in range(3)), ScriptedJob("job%2/"))
    eventually(lambda: world.queue.queues()[0].waiting == 4)
    world.queue.prioritise(JobId("job-2"), Priority.EMERGENCY)
    world.queue.prioritise(JobId("job_2"), Priority.EMERGENCY)
    world.queue.prioritise(JobId("job-0"), Priority.LOW)
    world.queue.prioritise(JobId("unknown"), Priority.LOW)
    world.queue.resume(DestinationId(1))
    world.await_finish("run")
    assert world.jobs("end")[0] == "job-2"
    assert world.jobs("end")[-1] == "job-0"
    world.queue.prioritise(JobId("job-2"), Priority.LOW)
    world.worker.stop(grace_s=20)


def test_moved_job_keeps_its_place_after_a_wait(world: EngineWorld) -> None:
    world.worker.start()
    world.submit("run", ScriptedJob("job", batches=2, gate="gate", wait_after=1, wait_s=0.01))
    eventually(lambda: world.jobs("start"))
    world.queue.prioritise(JobId("job"), Priority.EMERGENCY)
    world.stages.open_gate("gate")
    world.await_finish("run")
    orders = [world.ledger.order_of(f"job/1.{attempt}") for attempt in (1, 2)]
    assert orders == [1, 1]


def test_paused_queue_starts_nothing_and_stays_paused_over_a_restart(world: EngineWorld) -> None:
    world.queue.pause(DestinationId(1))
    world.worker.start()
    world.submit("run", ScriptedJob("held"), ScriptedJob("free", destination=2))
    eventually(lambda: world.jobs("end") == ["free"])
    world.worker.stop(grace_s=20)
    world.worker.start()
    world.submit("other", ScriptedJob("free-too", destination=2))
    world.await_finish("other")
    held, free = world.queue.queues()
    assert (held.destination_id, held.paused, held.waiting, held.concurrency) == (1, True, 1, 2)
    assert (free.destination_id, free.paused, free.waiting, free.running) == (2, False, 0, 0)
    world.queue.resume(DestinationId(1))
    world.await_finish("run")
    assert not world.queue.queues()[0].paused


def test_concurrency_of_a_destination_is_kept(world: EngineWorld) -> None:
    world.worker.start()
    world.submit("run", *(ScriptedJob(f"job-{n}", gate="gate") for n in range(5)))
    eventually(lambda: len(world.jobs("start")) == 2)
    world.submit("other", ScriptedJob("elsewhere", destination=2))
    world.await_finish("other")
    (queue, _) = world.queue.queues()
    assert (queue.running, queue.waiting, queue.concurrency) == (2, 3, 2)
    assert len(world.jobs("start")) == 3
    world.stages.open_gate("gate")
    world.await_finish("run")


def test_cancelled_run_stops_at_the_next_batch_and_starts_nothing_more(world: EngineWorld) -> None:
    world.worker.start()
    world.submit("run", *(ScriptedJob(f"job-{n}", batches=ENDLESS, takes_s=0.01) for n in range(4)))
    eventually(lambda: len(set(world.jobs("end"))) == 2)
    world.queue.cancel(RunId("run"))
    eventually(lambda: world.worker.running == 0)
    world.submit("other", ScriptedJob("other-job"))
    world.await_finish("other")
    assert len(set(world.jobs("start"))) == 3
    assert world.runs("finish") == ["other"]
    assert world.ledger.ended(["run"])["run"] is not None
    world.queue.cancel(RunId("unknown"))


def test_cancelled_job_stops_and_its_run_goes_on(world: EngineWorld) -> None:
    world.worker.start()
    world.submit(
        "run",
        ScriptedJob("endless", batches=ENDLESS, takes_s=0.01),
        ScriptedJob("waiting", batches=2, wait_after=1, wait_s=3600),
        ScriptedJob("other", batches=2),
    )
    eventually(lambda: {"endless", "waiting", "other"} <= set(world.jobs("end")))
    eventually(lambda: world.queue.queues()[0].waiting == 1)
    world.queue.cancel_job(JobId("endless"))
    world.queue.cancel_job(JobId("waiting"))
    world.queue.cancel_job(JobId("unknown"))
    world.await_finish("run")
    assert world.stages.delivered("other") == 2
    assert world.stages.delivered("waiting") == 1


def test_waiting_job_holds_no_slot(world: EngineWorld) -> None:
    world.worker = DurableWorker(
        world.database, world.stages, concurrency=lambda _: 1, stopping=world.stages.stopping
    )
    world.worker.start()
    world.submit(
        "run",
        ScriptedJob("waits", batches=3, wait_after=1, wait_s=0.2, priority=Priority.HIGH),
        ScriptedJob("next", batches=2),
    )
    world.await_finish("run")
    ends = [(event.job, event.text) for event in world.stages.events("end")]
    assert ends == [
        ("waits", "1"),
        ("next", "1"),
        ("next", "2"),
        ("waits", "2"),
        ("waits", "3"),
    ]
    world.worker.stop(grace_s=20)


def test_run_plans_again_until_it_is_finished(world: EngineWorld) -> None:
    world.worker.start()
    world.submit("run", ScriptedJob("first"), ScriptedJob("second", planning=2))
    world.await_finish("run")
    assert world.jobs("end") == ["first", "second"]
    assert world.runs("plan") == world.runs("finish") == ["run", "run"]


def test_plans_that_find_nothing_are_no_defect(world: EngineWorld) -> None:
    """Whoever asks for the same work while a run plans has it plan again, as often as asked."""
    world.worker.start()
    world.submit("run", ScriptedJob("late", planning=6))
    world.await_finish("run")
    assert world.jobs("end") == ["late"]
    assert world.runs("plan") == ["run"] * 6
    assert world.runs("fail") == []


def test_a_run_is_open_until_its_work_ends(world: EngineWorld) -> None:
    assert not world.queue.is_open(RunId("run"))
    world.submit("run", ScriptedJob("job"))
    assert world.queue.is_open(RunId("run"))
    world.worker.start()
    world.await_finish("run")
    assert not world.queue.is_open(RunId("run"))


def test_blocked_destination_does_not_block_another(world: EngineWorld) -> None:
    world.worker.start()
    world.submit("blocked", *(ScriptedJob(f"blocked-{n}", gate="gate") for n in range(3)))
    eventually(lambda: len(world.jobs("start")) == 2)
    for n in range(3):
        world.submit(f"run-{n}", ScriptedJob(f"job-{n}", destination=2))
        world.await_finish(f"run-{n}")
    world.stages.open_gate("gate")
    world.await_finish("blocked")


def test_error_of_a_stage_ends_its_run_with_code_and_hint(world: EngineWorld) -> None:
    world.worker.start()
    world.queue.submit(RunId("unavailable-source"))
    eventually(lambda: world.ledger.ended(["unavailable-source"]))
    (failure,) = world.stages.events("fail")
    assert failure.run == "unavailable-source"
    assert failure.text == "source_unavailable: The source is not mounted. Mount it."


def test_defects_end_their_run_or_job_only(
    world: EngineWorld, caplog: pytest.LogCaptureFixture
) -> None:
    world.worker.start()
    world.queue.submit(RunId("defect-in-plan"))
    world.submit("run", ScriptedJob("broken", defect="boom"), ScriptedJob("whole", batches=2))
    world.await_finish("run")
    eventually(lambda: world.ledger.ended(["defect-in-plan"]))
    failures = {event.run: event.text for event in world.stages.events("fail")}
    assert set(failures) == {"defect-in-plan"}
    assert all(text.startswith("internal: ") for text in failures.values())
    (job_failure,) = world.stages.events("fail_job")
    assert job_failure.job == "broken"
    assert "RuntimeError" in job_failure.text
    assert "boom" not in job_failure.text
    assert world.stages.delivered("whole") == 2
    tracebacks = [record for record in caplog.records if record.exc_info]
    assert len(tracebacks) == 2


def test_stop_leaves_work_that_the_next_start_goes_on_with(world: EngineWorld) -> None:
    world.worker.start()
    world.submit(
        "run",
        ScriptedJob("running", batches=3, gate="gate"),
        ScriptedJob("interrupted", batches=3, gate="interrupted-gate"),
        *(ScriptedJob(f"waiting-{n}") for n in range(3)),
    )
    eventually(lambda: len(world.jobs("start")) == 2)
    world.worker.stop(grace_s=20)
    assert world.worker.running == 0
    assert world.jobs("end") == []
    assert not world.ledger.ended(["run"])
    world.stages.open_gate("gate")
    world.stages.open_gate("interrupted-gate")
    world.worker.start()
    world.await_finish("run")
    assert world.stages.delivered("running") == world.stages.delivered("interrupted") == 3
    assert world.runs("plan") == ["run"]
    assert not world.stages.events("fail", "fail_job")


@pytest.mark.parametrize("waits_for_it", [True, False])
def test_step_that_outlives_the_grace_is_repeated_by_the_next_start(
    embedded: EngineWorld, waits_for_it: bool, caplog: pytest.LogCaptureFixture
) -> None:
    embedded.worker.start()
    embedded.submit("run", ScriptedJob("slow", batches=2, takes_s=0.5))
    eventually(lambda: embedded.jobs("start"))
    embedded.worker.stop(grace_s=0)
    assert embedded.worker.running == 1
    assert not embedded.ledger.ended(["run"])
    if waits_for_it:
        eventually(lambda: embedded.worker.running == 0)
    embedded.worker.start()
    embedded.await_finish("run")
    assert embedded.stages.delivered("slow") == 2
    assert not [record for record in caplog.records if record.exc_info]
    assert not embedded.stages.events("fail", "fail_job")


def test_another_process_submits_and_asks_while_the_owner_works(world: EngineWorld) -> None:
    process = world.start_process()
    world.submit("run", ScriptedJob("job", gate="gate"))
    eventually(lambda: [queue.running for queue in world.queue.queues()] == [1])
    world.queue.pause(DestinationId(1))
    world.stages.open_gate("gate")
    world.await_finish("run")
    (queue,) = world.queue.queues()
    assert queue.paused
    assert {event.pid for event in world.stages.events()} == {process.pid}
    stop_process(process)


def test_killed_worker_loses_nothing_and_repeats_only_what_was_in_flight(
    embedded: EngineWorld,
) -> None:
    kills, jobs, batches = 10, 60, 3
    rng = random.Random(20260131)
    embedded.submit(
        "run",
        *(
            ScriptedJob(f"job-{n}", destination=1 + n % 2, batches=batches, takes_s=0.05)
            for n in range(jobs)
        ),
    )
    killed = 0
    while killed < kills and not embedded.ledger.ended(["run"]):
        process = embedded.start_process()
        threading.Event().wait(rng.uniform(0.0, 0.6))
        process.kill()
        process.wait()
        killed += 1
    final = embedded.start_process()
    embedded.await_finish("run")
    stop_process(final)
    assert [embedded.stages.delivered(f"job-{n}") for n in range(jobs)] == [batches] * jobs
    ends = Counter((event.job, event.text) for event in embedded.stages.events("end"))
    assert set(ends.values()) == {1}
    starts = len(embedded.jobs("start"))
    slots = 4
    assert starts - jobs * batches <= killed * slots
    assert len(embedded.runs("plan")) <= 1 + killed
    assert not embedded.stages.events("fail", "fail_job")


@pytest.mark.peers
def test_living_worker_takes_over_the_work_of_a_killed_one(
    tmp_path: Path, postgresql_url: str
) -> None:
    with ExitStack() as stack:
        world = EngineWorld(tmp_path, postgresql_url, stack)
        first = world.start_process()
        # However long the second takes to begin, there is work left for it.
        gates = ["", *["both work"] * 7]
        jobs = [ScriptedJob(f"job-{n}", batches=3, gate=gate) for n, gate in enumerate(gates)]
        world.submit("run", *jobs)
        eventually(lambda: world.jobs("end"))
        second = world.start_process()
        assert world.runs("plan") == ["run"]
        eventually(lambda: second.pid in {event.pid for event in world.stages.events("start")})
        first.kill()
        first.wait()
        killed_at = len(world.stages.events())
        world.stages.open_gate("both work")
        world.await_finish("run")
        assert {event.pid for event in world.stages.events()[killed_at:]} == {second.pid}
        assert world.runs("plan") == ["run"]
        assert [world.stages.delivered(f"job-{n}") for n in range(8)] == [3] * 8
        assert len(world.jobs("start")) - 8 * 3 <= 2
        stop_process(second)


def test_process_runs_one_worker_at_a_time(embedded: EngineWorld, tmp_path: Path) -> None:
    embedded.worker.stop(grace_s=0)
    embedded.worker.start()
    other = DurableWorker(WorkDatabase(tmp_path / "other.sqlite"), embedded.stages)
    with pytest.raises(StateError, match="already runs a worker"):
        other.start()
    embedded.queue.submit(RunId("run"))
    embedded.await_finish("run")


def test_embedded_database_is_private_and_survives_a_power_cut(tmp_path: Path) -> None:
    path = tmp_path / "work.sqlite"
    database = WorkDatabase(path)
    engine = database.prepare()
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        for file in tmp_path.glob("work.sqlite*"):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file.name
    assert database.prepare() is engine
    database.dispose()
    with closing(sqlite3.connect(path)) as plain:
        assert plain.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_unusable_database_is_told(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="cannot be opened"):
        WorkDatabase(tmp_path / "missing" / "work.sqlite").prepare()
    (tmp_path / "text").write_text("this is not a database, but long enough to be looked at" * 40)
    with pytest.raises(StateError, match="cannot be opened"):
        DurableQueue(WorkDatabase(tmp_path / "text"))


@pytest.mark.parametrize("address", ["mysql://host/name", "name", "postgresql:/x y"])
def test_address_of_another_kind_of_database_is_told(address: str) -> None:
    with pytest.raises(ConfigurationError, match="postgresql://"):
        WorkDatabase(address)


def test_processes_may_create_the_database_at_once(tmp_path: Path) -> None:
    databases = [WorkDatabase(tmp_path / "work.sqlite") for _ in range(4)]
    threads = [threading.Thread(target=database.prepare) for database in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for database in databases:
        assert DurableQueue(database).queues() == []
        database.dispose()
