"""The work queue as any process sees it, whether or not it runs the worker."""

from __future__ import annotations

from collections.abc import Sequence

from dbos import Queue

from dcmvault.engine.database import WorkDatabase
from dcmvault.engine.ledger import RUNNING, WAITING, Ledger
from dcmvault.engine.names import (
    APPLICATION_VERSION,
    RUN_WORKFLOW,
    RUNS_QUEUE,
    destination_of,
    destination_queue,
    job_prefix,
    queue_order,
)
from dcmvault.model.identifiers import DestinationId, JobId, RunId
from dcmvault.model.job import Priority
from dcmvault.ports.queue import QueueState


class DurableQueue:
    """The WorkQueue over the engine's database (ports.queue).

    A paused queue is one that may start no workflow in any period: a rate limit of zero, which
    is kept in the database beside its concurrency. (A concurrency of zero would do it too, but
    the engine refuses one below the worker's, and the worker's would be forgotten.)
    """

    def __init__(self, database: WorkDatabase) -> None:
        self._ledger = Ledger(database)
        self._client = self._ledger.client

    def submit(self, run_id: RunId, destinations: Sequence[DestinationId] = ()) -> None:
        """Enqueue a run, once: a run that was ever submitted is left as it is.

        Its destinations' queues are registered with it: a worker that starts after this knows
        them at once, and one at work only after a second.
        """
        for destination_id in destinations:
            self._queue(destination_id)
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

    def is_open(self, run_id: RunId) -> bool:
        """Say whether a run was submitted and its work has not ended in any way."""
        return not self._ledger.ended([run_id])

    def pause(self, destination_id: DestinationId) -> None:
        """Start no further job for this destination, until `resume`; running jobs end.

        Acts when the workers next look at the queue: within 0.1 s, or 1 s if it was empty.
        """
        self._queue(destination_id).set_limiter({"limit": 0, "period": 1.0})

    def resume(self, destination_id: DestinationId) -> None:
        """Take up a paused destination."""
        self._queue(destination_id).set_limiter(None)

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
        order = queue_order(priority)
        self._ledger.reorder(job_prefix(job_id), order)
        if (bundle := self._ledger.bundle_of(job_id)) is not None:
            self._ledger.reorder(bundle, order)

    def queues(self) -> Sequence[QueueState]:
        """List the destinations' queues; a paused one keeps its concurrency."""
        counts = self._ledger.counts()
        return [
            QueueState(
                destination_id=destination_id,
                paused=queue.limiter is not None,
                concurrency=queue.worker_concurrency or 0,
                waiting=sum(counts.get((queue.name, status), 0) for status in WAITING),
                running=sum(counts.get((queue.name, status), 0) for status in RUNNING),
            )
            for queue in sorted(self._ledger.registered(), key=lambda queue: queue.name)
            if (destination_id := destination_of(queue.name)) is not None
        ]

    def _queue(self, destination_id: DestinationId) -> Queue:
        return self._ledger.ensure_queue(destination_queue(destination_id))
