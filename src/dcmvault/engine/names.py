"""Names under which durable work is written down. Never change one: old work is found by it."""

from __future__ import annotations

from collections.abc import Sequence

from dcmvault.model.identifiers import DestinationId, JobId
from dcmvault.model.job import Priority

APPLICATION = "dcmvault"
#: Workers take up unfinished work of their own version only. It is constant (by default it would
#: be a hash of the source), so that an upgrade goes on with the work of the release before it.
APPLICATION_VERSION = "1"
#: The worker of an embedded database: there is only one, so a successor takes up all its work.
EMBEDDED_EXECUTOR = "local"

RUN_WORKFLOW = "dcmvault.run"
JOB_WORKFLOW = "dcmvault.job"

RUNS_QUEUE = "runs"
_DESTINATION_PREFIX = "destination:"
#: Stands in the name of a bundle between its first job and how many more there are.
_AND_MORE = "+"


def destination_queue(destination_id: DestinationId) -> str:
    """Name the queue of a destination's jobs."""
    return f"{_DESTINATION_PREFIX}{destination_id}"


def destination_of(queue: str) -> DestinationId | None:
    """Say whose jobs a queue holds; None for the queue of runs."""
    prefix, _, number = queue.rpartition(":")
    if f"{prefix}:" != _DESTINATION_PREFIX or not number.isdecimal():
        return None
    return DestinationId(int(number))


def job_prefix(job_id: JobId) -> str:
    """Give what the workflow ids of all attempts at a job begin with."""
    return f"{job_id}/"


def jobs_workflow_id(job_ids: Sequence[JobId], planning: int, attempt: int) -> str:
    """Name one attempt at a bundle: the same name after a crash, so that it is enqueued once.

    `planning` counts the times that the run was planned: a job that is planned again runs again.
    A bundle of several has a name that is none of a job's, so that nobody takes one for all.
    """
    first, others = job_ids[0], len(job_ids) - 1
    bundle = JobId(f"{first}{_AND_MORE}{others}") if others else first
    return f"{job_prefix(bundle)}{planning}.{attempt}"


def queue_order(priority: Priority) -> int:
    """Translate a priority to the engine's: 1 is first, larger numbers come later."""
    return 1 + Priority.EMERGENCY - priority
