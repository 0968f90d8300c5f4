"""What can be looked at: status, runs, queues, plans, schedules, alerts, metrics and events."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Header, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from dcmvault.app import queue, schedules, workers
from dcmvault.app.as_data import (
    alert_data,
    job_data,
    progress_data,
    queue_data,
    run_data,
    schedule_data,
)
from dcmvault.app.report import run_report
from dcmvault.app.status import recent_runs
from dcmvault.app.top import open_alerts
from dcmvault.model.identifiers import RunId
from dcmvault.ports.events import Topic
from dcmvault.reports.summary import summary
from dcmvault.web.answers import (
    Alerts,
    Health,
    Plans,
    Queues,
    RunInFull,
    Runs,
    Schedules,
    Status,
    Workers,
)
from dcmvault.web.backstage import Behind
from dcmvault.web.event_response import EventResponse
from dcmvault.web.event_stream import TooManyListenersError
from dcmvault.web.hiding import hiding_for
from dcmvault.web.roles import Role, anybody, needs
from dcmvault.web.visitors import By

#: Runs that the status shows.
_LATEST_RUNS = 5
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_TOPIC = "|".join(sorted(topic.value for topic in Topic))

router = APIRouter()
_VIEWER = [Depends(needs(Role.VIEWER))]


@router.get("/api/openapi.json", include_in_schema=False, dependencies=_VIEWER)
def openapi(request: Request) -> JSONResponse:
    """Describe the API (OpenAPI 3.1)."""
    return JSONResponse(request.app.openapi())


@router.get("/healthz", dependencies=[Depends(anybody)], tags=["health"])
def health() -> Health:
    """Say that the daemon answers. Needs no token."""
    return Health(status="ok")


@router.get("/metrics", dependencies=_VIEWER, tags=["health"], response_class=Response)
def metrics(behind: Behind) -> Response:
    """Return the figures in Prometheus' text format."""
    return Response(behind.metrics.render(), media_type=_METRICS_TYPE)


@router.get("/api/status", dependencies=_VIEWER, tags=["status"], response_model=Status)
def whole_status(behind: Behind, visitor: By) -> dict[str, object]:
    """Return what is protected where, by what evidence, how old; the queues and latest runs."""
    workplace = behind.workplace
    sources, counted_at = behind.coverage()
    return hiding_for(behind, visitor)(
        {
            "daemon": dict(behind.about()),
            "sources": list(sources),
            "counted_at": counted_at.isoformat(timespec="milliseconds"),
            "queues": [queue_data(one) for one in queue.queues(workplace)],
            "runs": [run_data(run) for run in recent_runs(workplace, _LATEST_RUNS)],
        }
    )


@router.get("/api/runs", dependencies=_VIEWER, tags=["runs"], response_model=Runs)
def runs(
    behind: Behind, visitor: By, limit: Annotated[int, Query(ge=1, le=500)] = 50
) -> dict[str, object]:
    """List the newest runs."""
    found = {"runs": [run_data(run) for run in recent_runs(behind.workplace, limit)]}
    return hiding_for(behind, visitor)(found)


@router.get("/api/runs/{run_id}", dependencies=_VIEWER, tags=["runs"], response_model=RunInFull)
def run(behind: Behind, visitor: By, run_id: str) -> dict[str, object]:
    """Return a run; `latest` is the newest. Patient data only as the configuration allows.

    A viewer gets none at all, and in a session names have to be revealed first.
    """
    workplace = behind.workplace
    report = run_report(workplace, run_id)
    known, hiding = workplace.catalogue.runs, hiding_for(behind, visitor)
    return {
        **hiding({"run": run_data(known.run(RunId(report.run_id)))}),
        "progress": progress_data(known.progress(RunId(report.run_id))),
        "summary": summary(hiding.report(report), visitor.privacy(workplace.settings.privacy)),
    }


@router.get("/api/queue", dependencies=_VIEWER, tags=["queue"], response_model=Queues)
def queues(
    behind: Behind, visitor: By, limit: Annotated[int, Query(ge=0, le=1000)] = 100
) -> dict[str, object]:
    """List the queues, and the first jobs that have not ended, in their order."""
    return hiding_for(behind, visitor)(
        {
            "queues": [queue_data(one) for one in queue.queues(behind.workplace)],
            "jobs": [job_data(view) for view in queue.jobs(behind.workplace, limit)],
        }
    )


@router.get("/api/workers", dependencies=_VIEWER, tags=["workers"], response_model=Workers)
def all_workers(behind: Behind, visitor: By) -> dict[str, object]:
    """List the workers of an installation of several hosts, and what each does.

    Places that one leaves to others are told to operators.
    """
    shows = visitor.role.may(Role.OPERATOR)
    found = workers.workers(behind.workplace)
    return {"workers": [workers.worker_data(one, shows_places=shows) for one in found]}


@router.get("/api/plans", dependencies=_VIEWER, tags=["plans"], response_model=Plans)
def plans(behind: Behind, visitor: By) -> dict[str, object]:
    """List the configured plans."""
    configured = behind.workplace.settings.plans
    return hiding_for(behind, visitor)(
        {
            "plans": [
                {
                    "name": name,
                    "sources": list(plan.sources),
                    "destinations": list(plan.destinations),
                    "level": plan.level,
                    "strategy": plan.strategy,
                    "priority": plan.priority,
                }
                for name, plan in configured.items()
            ]
        }
    )


@router.get("/api/schedules", dependencies=_VIEWER, tags=["schedules"], response_model=Schedules)
def all_schedules(behind: Behind, visitor: By) -> dict[str, object]:
    """List the configured schedules: when each is due, and what came of the last time."""
    found = {"schedules": [schedule_data(view) for view in schedules.views(behind.workplace)]}
    return hiding_for(behind, visitor)(found)


@router.get("/api/alerts", dependencies=_VIEWER, tags=["alerts"], response_model=Alerts)
def alerts(behind: Behind) -> dict[str, object]:
    """List what needs attention now, critical ones first."""
    return {"alerts": [alert_data(one) for one in open_alerts(behind.workplace)]}


@router.get(
    "/api/events",
    dependencies=_VIEWER,
    tags=["events"],
    response_class=Response,
    responses={200: {"content": {"text/event-stream": {}}}},
)
async def events(
    behind: Behind,
    visitor: By,
    topics: Annotated[
        str,
        Query(
            pattern=f"^(({_TOPIC})(,({_TOPIC}))*)?$",
            max_length=200,
            description="separated by commas; without any, all",
        ),
    ] = "",
    last_event_id: Annotated[str, Header(max_length=100)] = "",
) -> Response:
    """Stream what happens as server-sent events: run, queue, alert and status.

    With Last-Event-ID what came since is told first; an event `missed` says that it was too much.
    """
    asked = set(topics.split(",")) if topics else {topic.value for topic in Topic}
    try:
        # Who holds the token of the API holds it for ever; a session ends.
        still_in = partial(behind.doors.still_in, visitor) if visitor.opened else None
        hiding = await run_in_threadpool(hiding_for, behind, visitor)
        return EventResponse(
            behind.events,
            asked,
            last_event_id,
            visitor.name,
            still_in,
            hiding if hiding.names is not None else None,
        )
    except TooManyListenersError:
        raise HTTPException(503, "as many listen as may; close other streams first") from None
