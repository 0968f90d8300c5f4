"""Durable work: runs and jobs that survive the process that started them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from dcmvault.model.identifiers import DestinationId, JobId, RunId
from dcmvault.model.job import Batch, Job, Priority


class StageInterruption(BaseException):
    """Raised by a stage that was asked to stop: its step is repeated at the next start.

    Like KeyboardInterrupt it is no Exception: nothing on its way may take it for a failure.
    """


class LeftToOthers(StageInterruption):
    """Raised by `plan` or `finish` where this worker cannot do it and another one can."""


class RunStages(Protocol):
    """What a durable run does. Each call is one durable step: it may be repeated after a crash.

    The truth about what was done lives in the catalogue; a step carries ids only (JSON).
    A DcmvaultError raised by `plan` or `finish` ends the run; `fail` then records it.
    When the worker stops, a long stage returns early (`deliver`, between instances) or raises
    StageInterruption (`plan`, `finish`).
    """

    def plan(self, run_id: RunId) -> Sequence[Job]:
        """Find what is due and write it down as jobs; return them in order of delivery."""
        ...

    def deliver(self, job_ids: Sequence[JobId]) -> Batch:
        """Deliver the next batch of jobs of one run and destination; settle what is delivered.

        Settling is verification, and comes when nothing of a study is left to deliver. Small
        jobs travel together, so that they share what each would pay alone. Never raises for a
        failing instance or destination: outcomes are recorded, waits are returned.
        """
        ...

    def fail_job(self, job_id: JobId, message: str) -> None:
        """Record that the job cannot go on because of a defect; its open items failed."""
        ...

    def finish(self, run_id: RunId) -> bool:
        """Close the run when all its jobs ended; False if new work appeared: plan again."""
        ...

    def fail(self, run_id: RunId, code: str, message: str, hint: str) -> None:
        """Record that the run ended by an error."""
        ...


@dataclass(frozen=True, slots=True)
class QueueState:
    """One destination's queue as the durable engine sees it."""

    destination_id: DestinationId
    paused: bool
    concurrency: int
    waiting: int
    running: int


class WorkQueue(Protocol):
    """What any process may ask of the durable work, whether or not it owns the worker."""

    def submit(self, run_id: RunId, destinations: Sequence[DestinationId] = ()) -> None:
        """Enqueue a run, which will have jobs for these destinations; twice is one run."""
        ...

    def is_open(self, run_id: RunId) -> bool:
        """Say whether a run was submitted and its work has not ended in any way."""
        ...

    def pause(self, destination_id: DestinationId) -> None:
        """Start no further job for this destination; running batches end. Survives restarts."""
        ...

    def resume(self, destination_id: DestinationId) -> None:
        """Take up a paused destination."""
        ...

    def cancel(self, run_id: RunId) -> None:
        """Stop a run and its jobs at their next step."""
        ...

    def cancel_job(self, job_id: JobId) -> None:
        """Stop one job at its next step; the run goes on with the others.

        A small job that travels with others finds in the catalogue that it is not wanted.
        """
        ...

    def prioritise(self, job_id: JobId, priority: Priority) -> None:
        """Move a waiting job in its queue, and the small ones that travel with it.

        Harmless for a running or ended one.
        """
        ...

    def queues(self) -> Sequence[QueueState]:
        """List the queues."""
        ...


class Worker(Protocol):
    """The one that works: at most one process per embedded state folder."""

    @property
    def running(self) -> int:
        """Count the runs and jobs that are being carried out."""
        ...

    @property
    def is_broken(self) -> bool:
        """Whether work ended without being written down, so that who waits for it waits in vain."""
        ...

    def start(self) -> None:
        """Begin to take work; unfinished work of a dead predecessor is taken up first."""
        ...

    def stop(self, grace_s: float) -> None:
        """Take no more work; wait up to `grace_s` for running steps to end."""
        ...
