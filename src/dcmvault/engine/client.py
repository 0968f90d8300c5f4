"""The work queue as any process sees it, whether or not it runs the worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import sqlalchemy as sa
from dbos import DBOSClient, DBOSPortableJSONSerializer, Queue, WorkflowStatus

from dcmvault.engine.database import WorkDatabase
from dcmvault.engine.names import (
    APPLICATION,
    APPLICATION_VERSION,
    RUN_WORKFLOW,
    RUNS_QUEUE,
    job_prefix,
    queue_order,
)
from dcmvault.model.identifiers import JobId, RunId
from dcmvault.model.job import Priority
from dcmvault.ports.queue import QueueState

#: Jobs that one worker takes from one destination's queue at a time.
DEFAULT_CONCURRENCY = 2
#: Seconds between a worker's looks at a queue where work is expected: a destination's, one whose
#: jobs are so short that its slots would mostly be empty, and that of runs.
BUSY_POLL_S = 0.1
HASTY_POLL_S = 0.02
RUNS_POLL_S = 0.05

_WAITING = ("ENQUEUED", "DELAYED")
_RUNNING = ("PENDING",)
_UNENDED = (*_WAITING, *_RUNNING)


class QueueLook(NamedTuple):
    """What decides how often a queue is looked at."""

    name: str
    #: Seconds between the looks of each worker now.
    poll_s: float
    #: Work waits and may be started.
    startable: bool


class DurableQueue:
    """The WorkQueue over the engine's database (ports.queue).

    A paused queue is one that may start no workflow in any period: a rate limit of zero, which
    is kept in the database beside its concurrency. (A concurrency of zero would do it too, but
    the engine refuses one below the worker's, and the worker's would be forgotten.)
    """

    def __init__(self, database: WorkDatabase) -> None:
        engine = database.prepare()
        self._client = DBOSClient(
            system_database_engine=engine,
            serializer=DBOSPortableJSONSerializer(),
            application_name=APPLICATION,
            lazy=True,
        )
        self._engine = engine
        # Columns of the engine's documented tables (docs.dbos.dev, "DBOS System Tables").
        schema = None if database.is_embedded else "dbos"
        self._workflows = sa.table(
            "workflow_status",
            sa.column("workflow_uuid", sa.Text),
            sa.column("status", sa.Text),
            sa.column("queue_name", sa.Text),
            sa.column("priority", sa.Integer),
            sa.column("executor_id", sa.Text),
            schema=schema,
        )
        self._queues = sa.table(
            "queues",
            sa.column("name", sa.Text),
            sa.column("rate_limit_max", sa.Integer),
            sa.column("polling_interval_sec", sa.Float),
            schema=schema,
        )

    def submit(self, run_id: RunId) -> None:
        """Enqueue a run, once: a run that was ever submitted is left as it is."""
        if not self._client.list_workflows(workflow_ids=[run_id], load_input=False):
            self._client.enqueue(
                {
                    "workflow_name": RUN_WORKFLOW,
                    "queue_name": RUNS_QUEUE,
                    "workflow_id": run_id,
                    "app_version": APPLICATION_VERSION,
                },
                run_id,
            )

    def pause(self, queue: str) -> None:
        """Start no further job of this queue, until `resume`; running jobs end.

        Acts when the workers next look at the queue: within 0.1 s, or 2 s if it was empty.
        """
        self.ensure_queue(queue).set_limiter({"limit": 0, "period": 1.0})

    def resume(self, queue: str) -> None:
        """Take up a paused queue."""
        self.ensure_queue(queue).set_limiter(None)

    def cancel(self, run_id: RunId) -> None:
        """Stop a run and its jobs at their next step; nothing of it is started any more."""
        self._client.cancel_workflows([run_id], cancel_children=True)

    def cancel_job(self, job_id: JobId) -> None:
        """Stop all attempts at a job that was enqueued; the run goes on with the others."""
        attempts = self._client.list_workflows(
            workflow_id_prefix=job_prefix(job_id), load_input=False, load_output=False
        )
        # An attempt's children are the attempts after it: one that appears meanwhile is found too.
        self._client.cancel_workflows(
            [attempt.workflow_id for attempt in attempts], cancel_children=True
        )

    def prioritise(self, job_id: JobId, priority: Priority) -> None:
        """Move a waiting job in its queue, now and when it is enqueued again after a wait."""
        workflows = self._workflows
        # The engine has no call for this; its claim orders by this column and nothing caches it.
        statement = (
            sa.update(workflows)
            .where(
                workflows.c.workflow_uuid.startswith(job_prefix(job_id), autoescape=True),
                workflows.c.status.in_(_UNENDED),
            )
            .values(priority=queue_order(priority))
        )
        with self._engine.begin() as connection:
            connection.execute(statement)

    def queues(self) -> Sequence[QueueState]:
        """List the destinations' queues; a paused one keeps its concurrency."""
        counts = self._counts()
        return [
            QueueState(
                name=queue.name,
                paused=queue.limiter is not None,
                concurrency=queue.worker_concurrency or 0,
                waiting=sum(counts.get((queue.name, status), 0) for status in _WAITING),
                running=sum(counts.get((queue.name, status), 0) for status in _RUNNING),
            )
            for queue in sorted(self.registered(), key=lambda queue: queue.name)
            if queue.name != RUNS_QUEUE
        ]

    def registered(self) -> Sequence[Queue]:
        """List all queues with their settings, the queue of runs included."""
        return self._client.list_queues()

    def ensure_queue(self, queue: str, concurrency: int = DEFAULT_CONCURRENCY) -> Queue:
        """Register a queue unless it exists; a pause and other settings are left alone."""
        return self._client.register_queue(
            queue,
            worker_concurrency=concurrency,
            polling_interval_sec=BUSY_POLL_S,
            on_conflict="never_update",
        )

    def set_poll(self, queue: str, poll_s: float) -> None:
        """Have all workers look at a queue every `poll_s` seconds, after their next look."""
        found = self._client.retrieve_queue(queue)
        if found is not None:
            found.set_polling_interval_sec(poll_s)

    def looks(self) -> Sequence[QueueLook]:
        """Ask for all queues in one statement whether looking at them is worth while."""
        queues, workflows = self._queues, self._workflows
        waiting = sa.exists().where(
            workflows.c.queue_name == queues.c.name, workflows.c.status.in_(_WAITING)
        )
        statement = sa.select(
            queues.c.name,
            queues.c.polling_interval_sec,
            sa.and_(queues.c.rate_limit_max.is_(None), waiting),
        )
        with self._engine.connect() as connection:
            return [
                QueueLook(name, float(poll_s), bool(startable))
                for name, poll_s, startable in connection.execute(statement)
            ]

    def ended(self, workflow_ids: Sequence[str]) -> Mapping[str, WorkflowStatus | None]:
        """Give the workflows of these that ended in any way; None for one that is not known."""
        known = {
            status.workflow_id: status
            for status in self._client.list_workflows(
                workflow_ids=list(workflow_ids), load_input=False
            )
        }
        return {
            workflow_id: known.get(workflow_id)
            for workflow_id in workflow_ids
            if workflow_id not in known or known[workflow_id].status not in _UNENDED
        }

    def order_of(self, workflow_id: str) -> int:
        """Read a workflow's place in its queue's order (see `names.queue_order`)."""
        workflows = self._workflows
        statement = sa.select(workflows.c.priority).where(workflows.c.workflow_uuid == workflow_id)
        with self._engine.connect() as connection:
            return int(connection.execute(statement).scalar_one())

    def executors_at_work(self) -> Sequence[str]:
        """Name the workers, dead or alive, under whose names work is being carried out."""
        workflows = self._workflows
        statement = (
            sa.select(workflows.c.executor_id)
            .distinct()
            .where(workflows.c.status.in_(_RUNNING), workflows.c.executor_id.is_not(None))
        )
        with self._engine.connect() as connection:
            return list(connection.execute(statement).scalars())

    def hand_back(self, executor: str) -> None:
        """Put the unfinished work of a worker that is known to be dead back on its queues."""
        unfinished = self._client.list_workflows(
            executor_id=executor, status=list(_RUNNING), load_input=False, load_output=False
        )
        by_queue: dict[str | None, list[str]] = {}
        for workflow in unfinished:
            by_queue.setdefault(workflow.queue_name, []).append(workflow.workflow_id)
        for queue, workflow_ids in by_queue.items():
            self._client.resume_workflows(workflow_ids, queue_name=queue)

    def _counts(self) -> Mapping[tuple[str, str], int]:
        workflows = self._workflows
        statement = (
            sa.select(workflows.c.queue_name, workflows.c.status, sa.func.count())
            .where(workflows.c.status.in_(_UNENDED), workflows.c.queue_name.is_not(None))
            .group_by(workflows.c.queue_name, workflows.c.status)
        )
        with self._engine.connect() as connection:
            return {(row[0], row[1]): int(row[2]) for row in connection.execute(statement)}
