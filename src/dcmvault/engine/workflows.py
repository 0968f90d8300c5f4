"""The two durable workflows: a run, and a job of it.

A run plans, puts its jobs on their destinations' queues, waits for all of them and finishes; a job
delivers batch after batch, and small ones share a workflow (`bundles`). A step's result is written
down when it ends; after a crash the workflow is played again, written results are taken as they
are, and the work goes on at the first step without one. So a workflow's own code must do the same
each time: what depends on the world happens inside steps.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from dbos import DBOS, SetEnqueueOptions, SetWorkflowID

from dcmvault.engine.binding import Binding, bound
from dcmvault.engine.bundles import bundle_jobs
from dcmvault.engine.names import (
    JOB_WORKFLOW,
    RUN_WORKFLOW,
    RUNS_QUEUE,
    destination_queue,
    jobs_workflow_id,
    queue_order,
)
from dcmvault.errors import DcmvaultError
from dcmvault.model.identifiers import JobId, RunId

_log = logging.getLogger(__name__)

#: Jobs of a run that are asked about at once while it waits for them.
_WATCHED_JOBS = 100
#: Seconds between looks at the jobs of a run: the shortest, just after one ended, and the longest.
_SHORTEST_LOOK_S = 0.02
_LONGEST_LOOK_S = 0.5

#: What a step returns: JSON.
_Result = dict[str, Any]


@DBOS.workflow(name=RUN_WORKFLOW, max_recovery_attempts=None)
def run_workflow(run_id: str) -> None:
    """Carry out a run. It ends normally even when the run fails: the catalogue says how it went."""
    binding = bound()
    with binding.execution(run_id, RUNS_QUEUE):
        run = _Run(binding, RunId(run_id))
        try:
            run.carry_out()
        # Outermost frame of a run: a defect (or a full disk) must be told by the run, too.
        except Exception as error:
            if binding.is_stopping:
                raise
            binding.leave_if_lost(error)
            _log.exception("run %s was ended by the durable engine", run_id)
            binding.break_down()
            run.fail(_internal_error())


@DBOS.workflow(name=JOB_WORKFLOW)
def job_workflow(
    job_id: str, queue: str, planning: int, attempt: int, others: Sequence[str] = ()
) -> _Result:
    """Deliver the batches of a job, and of the others in its bundle.

    A wait does not hold a slot of the queue: what waits is enqueued again with the delay. Returns
    the id of that attempt as `next`, or None, and the jobs in it.
    """
    binding = bound()
    with binding.execution(DBOS.workflow_id or "", queue):
        left = [JobId(job_id), *map(JobId, others)]
        waiting: list[JobId] = []
        wait_s = 0.0
        while True:
            batch = _deliver(binding, tuple(left))
            if batch["wait_s"] is not None:
                # What was written down before there were bundles names nobody.
                waits = batch.get("waiting", list(left))
                waiting += waits
                wait_s = max(wait_s, batch["wait_s"])
                left = [one for one in left if one not in waits]
            if batch["remaining"] == 0:
                break
        if not waiting:
            return {"next": None}
        successor = _enqueue_jobs(
            waiting,
            queue,
            planning,
            attempt + 1,
            # Whoever moved this attempt in its queue meant the jobs.
            order=binding.ledger.order_of(DBOS.workflow_id or ""),
            delay_s=wait_s,
        )
        return {"next": successor, "jobs": waiting}


class _Run:
    """One run, from its plan to its end."""

    def __init__(self, binding: Binding, run_id: RunId) -> None:
        self._binding = binding
        self._run_id = run_id

    def carry_out(self) -> None:
        """Plan, deliver and finish until the stages say that the run is closed.

        A plan may well find nothing, and be asked for again by somebody else meanwhile.
        """
        planning = 0
        while True:
            planning += 1
            planned = _step(self._binding, "plan", self._plan)
            if "error" in planned:
                break
            self._deliver(planning, planned["jobs"])
            finished = _step(self._binding, "finish", self._finish)
            if "error" in finished:
                planned = finished
                break
            if finished["closed"]:
                return
        _step(self._binding, "fail", lambda: self.fail(planned["error"]))

    def _deliver(self, planning: int, bundles: Sequence[Sequence[Any]]) -> None:
        """Put the bundles on their queues and wait until the last attempt at each has ended."""
        jobs_in: dict[str, Sequence[JobId]] = {}
        for job_ids, queue, order in bundles:
            # A plan that was written down before there were bundles names one job.
            some = [JobId(job_ids)] if isinstance(job_ids, str) else job_ids
            enqueued = _enqueue_jobs(some, queue, planning, 1, order=order, delay_s=None)
            jobs_in[enqueued] = some
        open_ids = deque(jobs_in)
        pause_s = _SHORTEST_LOOK_S
        while open_ids:
            self._binding.check_stop()
            seen = self._binding.ended_in_all
            watched = [open_ids.popleft() for _ in range(min(_WATCHED_JOBS, len(open_ids)))]
            ended = self._binding.ledger.ended(watched)
            successors: list[str] = []
            for workflow_id, status in ended.items():
                if status is None or status.status not in ("SUCCESS", "CANCELLED"):
                    _log.error("job attempt %s ended without a result", workflow_id)
                    for job_id in jobs_in[workflow_id]:
                        _fail_job(self._binding, job_id, "The durable engine gave the job up.")
                elif status.output and status.output["next"] is not None:
                    successor = status.output["next"]
                    jobs_in[successor] = status.output.get("jobs", jobs_in[workflow_id])
                    successors.append(successor)
                del jobs_in[workflow_id]
            # Those at the front are the oldest; a successor waits for its delay anyway.
            open_ids.extendleft(reversed([w for w in watched if w not in ended]))
            open_ids.extend(successors)
            if not ended:
                woken = self._binding.wait_for_job(seen, pause_s)
                pause_s = _SHORTEST_LOOK_S if woken else min(pause_s * 1.5, _LONGEST_LOOK_S)

    def _plan(self) -> _Result:
        def plan() -> _Result:
            jobs = self._binding.stages.plan(self._run_id)
            for destination_id in {job.destination_id for job in jobs}:
                self._binding.open_queue(destination_id)
            return {
                "jobs": [
                    [
                        [job.job_id for job in bundle],
                        destination_queue(bundle[0].destination_id),
                        queue_order(bundle[0].priority),
                    ]
                    for bundle in bundle_jobs(jobs, self._binding.workers())
                ]
            }

        return self._caught(plan)

    def _finish(self) -> _Result:
        return self._caught(lambda: {"closed": self._binding.stages.finish(self._run_id)})

    def _caught(self, stage: Callable[[], _Result]) -> _Result:
        try:
            return stage()
        except DcmvaultError as error:
            self._binding.leave_if_lost(error)
            return {
                "error": {"code": error.code, "message": error.message, "hint": error.hint},
            }
        # Outermost frame of a stage: a defect must end this run only, and be told.
        except Exception as error:  # noqa: BLE001
            self._binding.leave_if_lost(error)
            _log.exception("run %s failed by a defect", self._run_id)
            return {"error": _internal_error()}

    def fail(self, error: dict[str, str]) -> _Result:
        """Have the stages record that the run failed."""
        try:
            self._binding.stages.fail(self._run_id, error["code"], error["message"], error["hint"])
        # Outermost frame of a stage: nobody is left to tell but the log.
        except Exception as error:  # noqa: BLE001
            self._binding.leave_if_lost(error)
            _log.exception("the failure of run %s could not be recorded", self._run_id)
        return {}


def _internal_error() -> dict[str, str]:
    return {
        "code": "internal",
        "message": "The run ended by a defect of dcmvault.",
        "hint": "The log tells where; please report it.",
    }


def _deliver(binding: Binding, job_ids: Sequence[JobId]) -> _Result:
    return _step(binding, "deliver", lambda: _delivered(binding, job_ids))


def _delivered(binding: Binding, job_ids: Sequence[JobId]) -> _Result:
    try:
        batch = binding.stages.deliver(job_ids)
    # Outermost frame of a stage: a defect must end its job only, and be told.
    except Exception as error:  # noqa: BLE001
        binding.leave_if_lost(error)
        if len(job_ids) > 1:
            _log.exception("jobs %s ... failed by a defect; each is tried alone", job_ids[0])
            return _each_alone(binding, job_ids)
        (job_id,) = job_ids
        _log.exception("job %s failed by a defect", job_id)
        _fail_job(binding, job_id, f"A defect of dcmvault ended the job ({type(error).__name__}).")
        return {"remaining": 0, "wait_s": None}
    return {
        "remaining": batch.remaining,
        "wait_s": batch.wait_s,
        "waiting": list(batch.waiting),
    }


def _each_alone(binding: Binding, job_ids: Sequence[JobId]) -> _Result:
    """Find the job with the defect; to deliver the others again does nothing twice."""
    found = [_delivered(binding, [job_id]) for job_id in job_ids]
    waits = [one["wait_s"] for one in found if one["wait_s"] is not None]
    return {
        "remaining": sum(one["remaining"] for one in found),
        "wait_s": max(waits, default=None),
        "waiting": [job_id for one in found for job_id in one.get("waiting", [])],
    }


def _fail_job(binding: Binding, job_id: JobId, message: str) -> None:
    try:
        binding.stages.fail_job(job_id, message)
    # Outermost frame of a stage: nobody is left to tell but the log.
    except Exception as error:  # noqa: BLE001
        binding.leave_if_lost(error)
        _log.exception("the failure of job %s could not be recorded", job_id)


def _step(binding: Binding, name: str, stage: Callable[[], _Result]) -> _Result:
    """Do a stage once and write its result down; take the written one if there is any.

    No retries by the engine: they would hold the slot, and stages know better what to retry.
    """
    binding.check_stop()
    return DBOS.run_step({"name": name}, stage)


def _enqueue_jobs(
    job_ids: Sequence[JobId],
    queue: str,
    planning: int,
    attempt: int,
    *,
    order: int,
    delay_s: float | None,
) -> str:
    workflow_id = jobs_workflow_id(job_ids, planning, attempt)
    first, *others = job_ids
    more = (others,) if others else ()
    with SetWorkflowID(workflow_id), SetEnqueueOptions(priority=order, delay_seconds=delay_s):
        DBOS.enqueue_workflow(queue, job_workflow, first, queue, planning, attempt, *more)
    return workflow_id
