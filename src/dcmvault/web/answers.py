"""What the API answers with: the shapes that OpenAPI shows. Times are ISO 8601 in UTC."""

from __future__ import annotations

from pydantic import BaseModel, Field


class Problem(BaseModel):
    """Why something was not done."""

    code: str = Field(description="stable; see the page on exit statuses")
    message: str
    hint: str


class Refusal(BaseModel):
    """The answer with every status from 400 on."""

    error: Problem


class Health(BaseModel):
    """That the daemon answers."""

    status: str


class Run(BaseModel):
    """A run as lists show it."""

    run: str
    kind: str
    state: str
    source: str
    destinations: list[str]
    created_at: str
    finished_at: str | None


class Runs(BaseModel):
    """The newest runs first."""

    runs: list[Run]


class Progress(BaseModel):
    """The counters of a run, summed over destinations."""

    state: str
    items: int
    settled: int
    sent: int
    failed: int
    bytes: int
    settled_bytes: int
    scanned: int


class RunInFull(BaseModel):
    """A run, its counters now, and its summary as `--json` prints it."""

    run: Run
    progress: Progress
    summary: dict[str, object]


class Queue(BaseModel):
    """A destination's queue; several small jobs may wait as one."""

    destination: str
    paused: bool
    concurrency: int
    waiting: int
    running: int


class Job(BaseModel):
    """A job that has not ended."""

    job: str
    run: str
    destination: str
    study_instance_uid: str
    series_instance_uid: str
    state: str
    priority: str
    instances: int
    bytes: int
    attempt: int


class Queues(BaseModel):
    """The queues, and the first jobs in their order."""

    queues: list[Queue]
    jobs: list[Job]


class Worker(BaseModel):
    """A worker of an installation of several hosts."""

    name: str
    role: str
    process: int
    version: str
    started_at: str
    beat_at: str = Field(description="when it said last that it lives, by the database server")
    silent_s: float
    running: int
    associations: int
    moved_bytes: int
    lacks: dict[str, str] = Field(description="places that it leaves to others, and why")


class Workers(BaseModel):
    """The workers; none where an installation is of one host."""

    workers: list[Worker]


class Status(BaseModel):
    """What is protected where, what ran last, and what the daemon does."""

    daemon: dict[str, object]
    sources: list[dict[str, object]]
    counted_at: str = Field(description="when sources were counted: large ones at intervals")
    queues: list[Queue]
    runs: list[Run]


class Plan(BaseModel):
    """A configured plan."""

    name: str
    sources: list[str]
    destinations: list[str]
    level: str
    strategy: str
    priority: str


class Plans(BaseModel):
    """The configured plans."""

    plans: list[Plan]


class Alert(BaseModel):
    """Something that needs attention."""

    code: str
    kind: str = Field(description="what kind of thing it is about")
    subject: str = Field(description="a configured name, or # and a number; never an address")
    severity: str
    raised_at: str
    figures: dict[str, float | int | str]


class Alerts(BaseModel):
    """What is raised now, critical ones first."""

    alerts: list[Alert]


class ScheduledRun(BaseModel):
    """A run that a schedule asked for; `problem` says why it could not begin."""

    run: str
    source: str
    due_at: str
    ended: bool
    problem: str


class Schedule(BaseModel):
    """A configured schedule, when it is due, and what came of the last times."""

    name: str
    plan: str
    cron: str
    every: str
    time_zone: str
    window: str
    enabled: bool
    next_at: str | None
    last_due_at: str | None
    waiting_since: str | None = Field(description="due, until its plan's earlier runs ended")
    last_runs: list[ScheduledRun]


class Schedules(BaseModel):
    """The configured schedules, by name."""

    schedules: list[Schedule]


class StartedRun(BaseModel):
    """A run that was asked for; `continued` if it is an unfinished one taken up again."""

    run: str
    continued: bool


class StartedRuns(BaseModel):
    """One run for each source of the plan."""

    runs: list[StartedRun]


class Done(BaseModel):
    """That it was done."""

    done: bool = True


class WhichDestination(BaseModel):
    """A destination, by its configured name or its address."""

    destination: str = Field(min_length=1, max_length=2000)


class WhichWork(BaseModel):
    """A run with all its jobs, or one job."""

    run_or_job: str = Field(min_length=1, max_length=300)


class JobPriority(BaseModel):
    """A waiting job, and the priority that it gets."""

    job: str = Field(min_length=1, max_length=300)
    priority: str = Field(pattern="^(low|normal|high|urgent|emergency)$")
