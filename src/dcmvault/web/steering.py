"""What can be done: start a plan, set schedules, pause destinations, cancel and prioritise."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from dcmvault.app import queue, schedules
from dcmvault.app.as_data import schedule_data
from dcmvault.app.plan_runs import start_plan
from dcmvault.model.audit import AuditKind
from dcmvault.model.job import Priority
from dcmvault.web.answers import (
    Done,
    JobPriority,
    Schedule,
    StartedRun,
    StartedRuns,
    WhichDestination,
    WhichWork,
)
from dcmvault.web.backstage import Backstage, Behind
from dcmvault.web.roles import Role, needs
from dcmvault.web.steered import Steered

router = APIRouter(dependencies=[Depends(needs(Role.OPERATOR))])


@router.post("/api/plans/{name}/runs", tags=["plans"], status_code=202)
def start_runs(behind: Behind, steered: Steered, name: str) -> StartedRuns:
    """Start a plan now: a run for each of its sources; unfinished ones are continued."""
    with steered("run", kind=AuditKind.RUN_ASKED, plan=name):
        started = start_plan(behind.workplace, name)
    return StartedRuns(
        runs=[StartedRun(run=one.run_id, continued=one.continued) for one in started]
    )


@router.post("/api/schedules/{name}/enable", tags=["schedules"], response_model=Schedule)
def enable(behind: Behind, steered: Steered, name: str) -> dict[str, object]:
    """Enable a schedule, whatever the configuration says. What it missed is past."""
    with steered("schedule enable", name=name):
        return _set_enabled(behind, name, enabled=True)


@router.post("/api/schedules/{name}/disable", tags=["schedules"], response_model=Schedule)
def disable(behind: Behind, steered: Steered, name: str) -> dict[str, object]:
    """Disable a schedule, until it is enabled again."""
    with steered("schedule disable", name=name):
        return _set_enabled(behind, name, enabled=False)


def _set_enabled(behind: Backstage, name: str, *, enabled: bool) -> dict[str, object]:
    workplace = behind.workplace
    now = workplace.clock.now()
    return schedule_data(schedules.set_enabled(workplace, name, enabled=enabled, now=now))


@router.post("/api/queue/pause", tags=["queue"])
def pause(behind: Behind, steered: Steered, which: WhichDestination) -> Done:
    """Start no further job for a destination, until it is resumed; what is in flight ends."""
    with steered("queue pause", place=which.destination):
        queue.pause(behind.workplace, which.destination)
    return Done()


@router.post("/api/queue/resume", tags=["queue"])
def resume(behind: Behind, steered: Steered, which: WhichDestination) -> Done:
    """Take up the work for a destination again."""
    with steered("queue resume", place=which.destination):
        queue.resume(behind.workplace, which.destination)
    return Done()


@router.post("/api/queue/cancel", tags=["queue"])
def cancel(behind: Behind, steered: Steered, which: WhichWork) -> Done:
    """Cancel a run with all its jobs, or one job. What was delivered stays recorded."""
    with steered("queue cancel", run_or_job=which.run_or_job):
        queue.cancel(behind.workplace, which.run_or_job)
    return Done()


@router.post("/api/queue/prioritise", tags=["queue"])
def prioritise(behind: Behind, steered: Steered, wanted: JobPriority) -> Done:
    """Move a waiting job in its destination's queue."""
    with steered("queue prioritise", job=wanted.job, priority=wanted.priority):
        queue.prioritise(behind.workplace, wanted.job, Priority[wanted.priority.upper()])
    return Done()
