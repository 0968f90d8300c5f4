"""What can be done: start a plan, pause and resume destinations, cancel and prioritise."""

from __future__ import annotations

from fastapi import APIRouter

from dcmvault.app import queue
from dcmvault.app.plan_runs import start_plan
from dcmvault.model.job import Priority
from dcmvault.web.answers import (
    Done,
    JobPriority,
    StartedRun,
    StartedRuns,
    WhichDestination,
    WhichWork,
)
from dcmvault.web.backstage import Behind

router = APIRouter()


@router.post("/api/plans/{name}/runs", tags=["plans"], status_code=202)
def start_runs(behind: Behind, name: str) -> StartedRuns:
    """Start a plan now: a run for each of its sources; unfinished ones are continued."""
    started = start_plan(behind.workplace, name)
    return StartedRuns(
        runs=[StartedRun(run=one.run_id, continued=one.continued) for one in started]
    )


@router.post("/api/queue/pause", tags=["queue"])
def pause(behind: Behind, which: WhichDestination) -> Done:
    """Start no further job for a destination, until it is resumed; what is in flight ends."""
    queue.pause(behind.workplace, which.destination)
    return Done()


@router.post("/api/queue/resume", tags=["queue"])
def resume(behind: Behind, which: WhichDestination) -> Done:
    """Take up the work for a destination again."""
    queue.resume(behind.workplace, which.destination)
    return Done()


@router.post("/api/queue/cancel", tags=["queue"])
def cancel(behind: Behind, which: WhichWork) -> Done:
    """Cancel a run with all its jobs, or one job. What was delivered stays recorded."""
    queue.cancel(behind.workplace, which.run_or_job)
    return Done()


@router.post("/api/queue/prioritise", tags=["queue"])
def prioritise(behind: Behind, wanted: JobPriority) -> Done:
    """Move a waiting job in its destination's queue."""
    queue.prioritise(behind.workplace, wanted.job, Priority[wanted.priority.upper()])
    return Done()
