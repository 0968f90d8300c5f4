"""The engine's database as worker and queue use it: queues, workflows and their states."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from dbos import DBOSClient, DBOSPortableJSONSerializer, Queue, WorkflowStatus

from dcmvault.engine.database import WorkDatabase
from dcmvault.engine.names import APPLICATION, JOB_WORKFLOW, RUN_WORKFLOW
from dcmvault.model.identifiers import JobId

#: Jobs that one worker takes from one destination's queue at a time.
DEFAULT_CONCURRENCY = 2
#: Seconds between a worker's looks at a queue where work is expected: a destination's, one whose
#: jobs are so short that its slots would mostly be empty, and that of runs.
BUSY_POLL_S = 0.1
HASTY_POLL_S = 0.02
RUNS_POLL_S = 0.05

WAITING = ("ENQUEUED", "DELAYED")
RUNNING = ("PENDING",)
_UNENDED = (*WAITING, *RUNNING)
_ENDED = ("SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")
#: Names in one statement.
_NAMES_AT_ONCE = 500


class QueueLook(NamedTuple):
    """What decides how often a queue is looked at."""

    name: str
    #: Seconds between the looks of each worker now.
    poll_s: float
    #: Work waits and may be started.
    startable: bool


class Ledger:
    """What is written down about queues and workflows, for any process.

    Through the engine's client where it has a call for it, else from its documented tables
    (docs.dbos.dev, "DBOS System Tables").
    """

    def __init__(self, database: WorkDatabase) -> None:
        engine = database.prepare()
        self.client = DBOSClient(
            system_database_engine=engine,
            serializer=DBOSPortableJSONSerializer(),
            application_name=APPLICATION,
            lazy=True,
        )
        self._engine = engine
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

    def registered(self) -> Sequence[Queue]:
        """List all queues with their settings, the queue of runs included."""
        return self.client.list_queues()

    def ensure_queue(self, queue: str, concurrency: int = DEFAULT_CONCURRENCY) -> Queue:
        """Register a queue unless it exists; a pause and other settings are left alone."""
        return self.client.register_queue(
            queue,
            worker_concurrency=concurrency,
            polling_interval_sec=BUSY_POLL_S,
            on_conflict="never_update",
        )

    def set_poll(self, queue: str, poll_s: float) -> None:
        """Have all workers look at a queue every `poll_s` seconds, after their next look."""
        found = self.client.retrieve_queue(queue)
        if found is not None:
            found.set_polling_interval_sec(poll_s)

    def claimable(self) -> Sequence[str]:
        """Name the queues that are not paused and have work that may be started now."""
        queues, workflows = self._queues, self._workflows
        work = sa.exists().where(
            workflows.c.queue_name == queues.c.name, workflows.c.status == "ENQUEUED"
        )
        statement = sa.select(queues.c.name).where(queues.c.rate_limit_max.is_(None), work)
        with self._engine.connect() as connection:
            return list(connection.execute(statement).scalars())

    def looks(self) -> Sequence[QueueLook]:
        """Ask for all queues in one statement whether looking at them is worth while."""
        queues, workflows = self._queues, self._workflows
        waiting = sa.exists().where(
            workflows.c.queue_name == queues.c.name, workflows.c.status.in_(WAITING)
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
        workflows = self._workflows
        unended = sa.select(workflows.c.workflow_uuid).where(
            workflows.c.workflow_uuid.in_(workflow_ids), workflows.c.status.in_(_UNENDED)
        )
        with self._engine.connect() as connection:
            going_on = set(connection.execute(unended).scalars())
        ended = [workflow_id for workflow_id in workflow_ids if workflow_id not in going_on]
        if not ended:
            return {}
        # The engine's own call reads whole rows, and takes ten times as long for each.
        known = {
            status.workflow_id: status
            for status in self.client.list_workflows(workflow_ids=ended, load_input=False)
        }
        return {
            workflow_id: known.get(workflow_id)
            for workflow_id in ended
            if workflow_id not in known or known[workflow_id].status not in _UNENDED
        }

    def order_of(self, workflow_id: str) -> int:
        """Read a workflow's place in its queue's order (see `names.queue_order`)."""
        workflows = self._workflows
        statement = sa.select(workflows.c.priority).where(workflows.c.workflow_uuid == workflow_id)
        with self._engine.connect() as connection:
            return int(connection.execute(statement).scalar_one())

    def reorder(self, prefix: str, order: int) -> None:
        """Set the order of the unended workflows whose ids begin with `prefix`."""
        workflows = self._workflows
        # The engine has no call for this; its claims order by the column, and nothing caches it.
        statement = (
            sa.update(workflows)
            .where(
                workflows.c.workflow_uuid.startswith(prefix, autoescape=True),
                workflows.c.status.in_(_UNENDED),
            )
            .values(priority=order)
        )
        with self._engine.begin() as connection:
            connection.execute(statement)

    def bundle_of(self, job_id: JobId) -> str | None:
        """Name the unended workflow in which a job travels with others; None if there is none."""
        for workflow in self.client.list_workflows(
            name=JOB_WORKFLOW, status=list(_UNENDED), load_output=False
        ):
            arguments = workflow.input["args"] if workflow.input else ()
            if job_id in _bundled(arguments):
                return workflow.workflow_id
        return None

    def executors_at_work(self) -> Sequence[str]:
        """Name the workers, dead or alive, under whose names work is being carried out."""
        workflows = self._workflows
        statement = (
            sa.select(workflows.c.executor_id)
            .distinct()
            .where(workflows.c.status.in_(RUNNING), workflows.c.executor_id.is_not(None))
        )
        with self._engine.connect() as connection:
            return list(connection.execute(statement).scalars())

    def hand_back(self, executor: str) -> None:
        """Put the unfinished work of a worker that is known to be dead back on its queues."""
        unfinished = self.client.list_workflows(
            executor_id=executor, status=list(RUNNING), load_input=False, load_output=False
        )
        by_queue: dict[str | None, list[str]] = {}
        for workflow in unfinished:
            by_queue.setdefault(workflow.queue_name, []).append(workflow.workflow_id)
        for queue, workflow_ids in by_queue.items():
            self.client.resume_workflows(workflow_ids, queue_name=queue)

    def ended_runs(self, before: datetime, limit: int) -> Sequence[str]:
        """Name runs whose work ended before a time, in any way; the oldest first."""
        return [
            run.workflow_id
            for run in self.client.list_workflows(
                name=RUN_WORKFLOW,
                status=list(_ENDED),
                completed_before=before.isoformat(),
                limit=limit,
                load_input=False,
                load_output=False,
            )
        ]

    def forget_run(self, run_id: str) -> None:
        """Delete a run's work with all attempts at its jobs: those first, so that it can repeat."""
        generations = [[run_id]]
        while generations[-1]:
            children: list[str] = []
            for some in _chunks(generations[-1]):
                children += [
                    child.workflow_id
                    for child in self.client.list_workflows(
                        parent_workflow_id=some, load_input=False, load_output=False
                    )
                ]
            generations.append(children)
        for generation in reversed(generations):
            for some in _chunks(generation):
                self.client.delete_workflows(some)

    def counts(self) -> Mapping[tuple[str, str], int]:
        """Count unended workflows by queue and status."""
        found: dict[tuple[str, str], int] = {}
        with self._engine.connect() as connection:
            for some in (("ENQUEUED", "PENDING"), ("DELAYED",)):
                for queue, status, count in connection.execute(_count(self._workflows, some)):
                    found[queue, status] = int(count)
        return found


def _count(workflows: sa.TableClause, states: Sequence[str]) -> sa.Select[Any]:
    """Make the query for states that the engine has an index of.

    The states stand in its text: an index of some rows is used only where it is seen that no
    others are asked for.
    """
    asked: sa.BindParameter[Any] = sa.bindparam(
        "states", list(states), expanding=True, literal_execute=True
    )
    return (
        sa.select(workflows.c.queue_name, workflows.c.status, sa.func.count())
        .where(workflows.c.status.in_(asked), workflows.c.queue_name.is_not(None))
        .group_by(workflows.c.queue_name, workflows.c.status)
    )


def _bundled(arguments: Sequence[Any]) -> Sequence[str]:
    """Give the jobs of a bundle from its workflow's arguments; none for a job that is alone."""
    return [arguments[0], *arguments[4]] if len(arguments) > 4 else ()


def _chunks(names: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(names), _NAMES_AT_ONCE):
        yield list(names[start : start + _NAMES_AT_ONCE])
