"""What a durable run does, step by step: plan, deliver, settle, finish."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice

from dcmvault.app.closing import Closing
from dcmvault.errors import (
    DestinationError,
    DestinationUnreachableError,
    LevelNotSupportedError,
)
from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import DestinationId, JobId, RunId, SourceId
from dcmvault.model.job import BATCH_INSTANCES, Batch, ItemState, Job, JobState
from dcmvault.model.plan import PlanItem, RunKind, RunRequest
from dcmvault.model.report import RunState
from dcmvault.model.snapshot import Origin
from dcmvault.pipeline.delivery import BatchDelivery
from dcmvault.pipeline.planning import slice_into_jobs
from dcmvault.pipeline.presence import Presence
from dcmvault.pipeline.retry import CircuitBreaker, RetryPolicy
from dcmvault.pipeline.selection import select_from
from dcmvault.pipeline.verification import cannot_verify, verify_items
from dcmvault.ports.catalogue import (
    Item,
    JobCatalogue,
    Outcome,
    PlanCatalogue,
    RunCatalogue,
    ScanCounts,
    SnapshotWitness,
    SourceCatalogue,
)
from dcmvault.ports.clock import Clock
from dcmvault.ports.destination import Destination, Snapshots, Verifier
from dcmvault.ports.queue import StageInterruption
from dcmvault.ports.source import Source

_log = logging.getLogger(__name__)

#: How long a destination is left alone, in first waits of the retry policy, and at most.
_BREAKER_WAITS = 12
_LONGEST_REST_S = 60.0
#: Jobs written in one transaction.
_JOBS_AT_ONCE = 100
_ENDED_RUNS = frozenset({RunState.FINISHED, RunState.FAILED, RunState.CANCELLED})
_ENDED = frozenset({JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED})


@dataclass(frozen=True, slots=True)
class Failed:
    """Why items failed."""

    code: str
    message: str
    hint: str


@dataclass(slots=True)
class BackupStages:
    """The steps of backup and verification runs over the ports. Safe for several threads.

    Every step can be repeated after a crash: what was done is asked of the catalogue, and of
    the destination, before anything is done.
    """

    sources: SourceCatalogue
    plans: PlanCatalogue
    jobs: JobCatalogue
    runs: RunCatalogue
    snapshots: SnapshotWitness
    open_source: Callable[[RunRequest], Source]
    open_destination: Callable[[str], Destination]
    policy: RetryPolicy
    clock: Clock
    stopping: threading.Event = field(default_factory=threading.Event)
    presence: Presence = field(default_factory=Presence)
    #: Jobs whose earlier claims were looked at; asked again after a restart, harmlessly.
    claims_seen: set[JobId] = field(default_factory=set)
    _breakers: dict[DestinationId, CircuitBreaker] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def plan(self, run_id: RunId) -> Sequence[Job]:
        """Scan the source (for a backup), find what is due, and write it down as jobs."""
        record = self.runs.run(run_id)
        if record.state in _ENDED_RUNS:
            return []
        request = record.request
        self.runs.set_run_state(run_id, RunState.PLANNING, self.clock.now())
        self.plans.drop_unstarted_jobs(run_id)
        source_id = self.sources.source(request.source)
        counts: ScanCounts | None = None
        if request.kind is RunKind.BACKUP:
            with self.timed(run_id, "scan"):
                counts = select_from(
                    self.open_source(request),
                    self.sources,
                    run_id,
                    include_other_files=request.include_other_files,
                    listed=lambda entries: self._listed(run_id, entries),
                )
        # Jobs in the middle are there only when the engine lost the run's work.
        jobs = [job for job in self.runs.jobs(limit=sys.maxsize) if job.run_id == run_id]
        selected: dict[DestinationId, int] = {}
        levels: dict[DestinationId, Level] = {}
        with self.timed(run_id, "plan"):
            for wanted in request.destinations:
                destination = self.open_destination(wanted.address)
                destination_id = self.plans.destination(destination.name)
                levels[destination_id] = wanted.level or destination.default_level
                planned = self._plan_destination(
                    run_id, request, source_id, destination, levels[destination_id]
                )
                selected[destination_id] = sum(job.instances for job in planned)
                jobs += planned
        present = self.plans.present_versions(source_id)
        self.runs.record_plan(
            run_id,
            counts=counts,
            # A later pass of the same run only adds what is new.
            already_held={d: present - n for d, n in selected.items()}
            if record.planned_at is None
            else {},
            levels=levels,
            warnings=(),
        )
        self.runs.set_run_state(run_id, RunState.RUNNING, self.clock.now())
        if self.runs.run(run_id).state in _ENDED_RUNS:  # cancelled meanwhile
            self.runs.cancel_items(run_id)
            return []
        return jobs

    def deliver(self, job_id: JobId) -> Batch:
        """Deliver the job's next batch, or verify what it sent when nothing is left to deliver."""
        job = self.jobs.job(job_id)
        if job.state in _ENDED:
            return Batch(0)
        request = self.runs.run(job.run_id).request
        step = _JobStep(self, job, request, self.open_destination(self._address(job, request)))
        return step.run()

    def finish(self, run_id: RunId) -> bool:
        """End the run, unless the same work was asked for again while it ran: then plan again.

        Before that snapshots are taken of what arrived, though some of its jobs may have failed.
        """
        request = self.runs.run(run_id).request
        destinations = [self.open_destination(wanted.address) for wanted in request.destinations]
        if request.kind is RunKind.BACKUP and any(isinstance(d, Snapshots) for d in destinations):
            with self.timed(run_id, "snapshot"):
                Closing(
                    run_id, request, self.plans, self.runs, self.snapshots, self.open_source
                ).take_snapshots(destinations)
        return self.runs.finish_run(run_id, self.clock.now())

    def fail(self, run_id: RunId, code: str, message: str, hint: str) -> None:
        """Record that the run ended by an error; what it left undone is due in the next run."""
        self.runs.record_error(run_id, code, message, hint)
        self.runs.set_run_state(run_id, RunState.FAILED, self.clock.now())
        self.runs.cancel_items(run_id)

    def fail_job(self, job_id: JobId, message: str) -> None:
        """Fail a job that cannot go on; what it did not settle is due in the next run."""
        job = self.jobs.job(job_id)
        open_states = frozenset({ItemState.DUE, ItemState.WAITING, ItemState.SENT})
        why = Failed("internal", message, "The log tells where; please report it.")
        self.fail_items(job_id, open_states, why)
        if job.state not in _ENDED:
            self.jobs.set_job_state(job_id, JobState.FAILED)

    def fail_items(self, job_id: JobId, states: frozenset[ItemState], why: Failed) -> None:
        """Fail all items of a job that are in one of these states."""
        while items := self.jobs.items(job_id, states, BATCH_INSTANCES):
            self.jobs.record_outcomes(
                job_id,
                [
                    Outcome(
                        item.item_id,
                        ItemState.FAILED,
                        item.attempts,
                        code=why.code,
                        message=why.message,
                        hint=why.hint,
                    )
                    for item in items
                ],
            )

    def breaker(self, destination_id: DestinationId) -> CircuitBreaker:
        """Return the destination's circuit breaker, shared by all its jobs in this process."""
        with self._lock:
            # It rests as long as a few waits: a minute, where these are not configured.
            rest_s = min(_BREAKER_WAITS * self.policy.wait_s, _LONGEST_REST_S)
            return self._breakers.setdefault(
                destination_id, CircuitBreaker(self.clock, open_s=rest_s)
            )

    def _address(self, job: Job, request: RunRequest) -> str:
        for wanted in request.destinations:
            if self.plans.destination(wanted.address) == job.destination_id:
                return wanted.address
        raise KeyError(job.destination_id)

    def _listed(self, run_id: RunId, entries: int) -> None:
        self.runs.set_scanned(run_id, entries)
        self._check_stop(run_id)

    def _check_stop(self, run_id: RunId) -> None:
        """Leave planning when the worker stops or the run was cancelled."""
        if self.stopping.is_set() or self.runs.run(run_id).state in _ENDED_RUNS:
            raise StageInterruption

    def _plan_destination(
        self,
        run_id: RunId,
        request: RunRequest,
        source_id: SourceId,
        destination: Destination,
        level: Level,
    ) -> list[Job]:
        destination_id = self.plans.destination(destination.name)
        items: Iterator[PlanItem]
        if request.kind is RunKind.VERIFY:
            items = self.plans.expected(source_id, destination_id)
        else:
            items = self.plans.due(
                source_id, destination_id, strategy=request.strategy, level=level, run_id=run_id
            )
        planned = slice_into_jobs(
            items, priority=request.priority, keeps_versions=destination.keeps_versions
        )
        jobs: list[Job] = []
        while some := list(islice(planned, _JOBS_AT_ONCE)):
            jobs += self.plans.add_jobs(run_id, destination_id, some)
            self._check_stop(run_id)
        return jobs

    @contextmanager
    def timed(self, run_id: RunId, stage: str) -> Iterator[None]:
        """Add the seconds spent inside to the run's seconds of this stage."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.runs.add_stage_seconds(run_id, {stage: time.perf_counter() - began})


def _claimed_before(item: Item) -> bool:
    """Say whether the destination took it in an earlier run: its own job verifies that first."""
    return item.attempts == 0 and item.plan.held


@dataclass(slots=True)
class _JobStep:
    """One durable step of one job."""

    stages: BackupStages
    job: Job
    request: RunRequest
    destination: Destination

    def run(self) -> Batch:
        """Do the next piece of work there is for this job."""
        jobs, job_id = self.stages.jobs, self.job.job_id
        if self.job.state is JobState.VERIFYING:  # repeated after a crash
            return self._settle()
        if self.job.state is not JobState.IN_PROGRESS:
            if self.job.state is JobState.RETRYING:
                jobs.release_waiting(job_id)
            jobs.set_job_state(job_id, JobState.IN_PROGRESS, attempt=self.job.attempt + 1)
            self.job = jobs.job(job_id)
        if (wait := self._verify_earlier_claims()) is not None:
            return wait
        due = jobs.items(job_id, frozenset({ItemState.DUE}), BATCH_INSTANCES)
        if due and self.request.kind is RunKind.VERIFY:
            self._never_sent()
        elif due:
            self._deliver(due)
        counts = jobs.count_items(job_id)
        if remaining := counts.get(ItemState.DUE, 0):
            return Batch(remaining)
        if counts.get(ItemState.WAITING, 0):
            return self._wait()
        return self._settle()

    @property
    def _level(self) -> Level:
        for wanted in self.request.destinations:
            if wanted.address == self.destination.name and wanted.level is not None:
                return wanted.level
        return self.destination.default_level

    def _verifier(self) -> Verifier:
        if isinstance(self.destination, Verifier) and self._level in self.destination.levels:
            return self.destination
        raise LevelNotSupportedError(
            f"{self.destination.name} cannot give evidence of level {self._level.word}"
        )

    def _verify_earlier_claims(self) -> Batch | None:
        """Raise the evidence of what was sent before this run, once, before anything is sent.

        All claims of the study are looked at together, whichever job has them.
        """
        jobs, job_id = self.stages.jobs, self.job.job_id
        if job_id in self.stages.claims_seen:
            return None
        sent = frozenset({ItemState.SENT})
        items = list(filter(_claimed_before, jobs.items(job_id, sent, self.job.instances)))
        if items and self._level is Level.SENT:
            # The receipt from before is all that was asked for.
            jobs.record_outcomes(
                job_id, [Outcome(item.item_id, ItemState.HELD, item.attempts) for item in items]
            )
        elif items:
            items = list(filter(_claimed_before, jobs.sent_items(job_id)))
            backs_up = self.request.kind is RunKind.BACKUP
            if (wait := self._verify(items, lost_are_due=backs_up)) is not None:
                return wait
        self.stages.claims_seen.add(job_id)
        return None

    def _verify(self, items: Sequence[Item], *, lost_are_due: bool = False) -> Batch | None:
        """Verify items of the study; return what to answer when that cannot be done now."""
        stages, level = self.stages, self._level
        breaker = stages.breaker(self.job.destination_id)
        if breaker.is_open:
            return self._unverified(items, breaker.refusal())
        try:
            with stages.timed(self.job.run_id, "verify"):
                verify_items(
                    self.job,
                    items,
                    self._verifier(),
                    level,
                    stages.jobs,
                    lost_are_due=lost_are_due,
                )
        except DestinationUnreachableError as error:
            breaker.failed(error)
            return self._unverified(items, error)
        except DestinationError as error:
            cannot_verify(self.job, items, error, stages.jobs)
        else:
            breaker.succeeded()
        return None

    def _deliver(self, due: Sequence[Item]) -> None:
        stages = self.stages
        delivery = BatchDelivery(
            job=self.job,
            source=stages.open_source(self.request),
            origin=Origin(self.job.run_id, self.request.source),
            destination=self.destination,
            jobs=stages.jobs,
            policy=stages.policy,
            breaker=stages.breaker(self.job.destination_id),
            clock=stages.clock,
            stopping=stages.stopping,
            sent_is_held=self._level is Level.SENT,
            presence=stages.presence,
        )
        began = time.perf_counter()
        try:
            delivery.run(due)
        finally:
            spent = time.perf_counter() - began
            stages.runs.add_stage_seconds(
                self.job.run_id,
                {"read": delivery.read_s, "deliver": max(spent - delivery.read_s, 0.0)},
            )

    def _never_sent(self) -> None:
        """Fail, in a verification run, what this destination never took."""
        why = Failed(
            "never_sent",
            "it was never sent to this destination",
            "Run `dcmvault backup` for this source and destination.",
        )
        self.stages.fail_items(self.job.job_id, frozenset({ItemState.DUE}), why)

    def _wait(self) -> Batch:
        stages = self.stages
        stages.jobs.set_job_state(self.job.job_id, JobState.RETRYING)
        rest_s = stages.breaker(self.job.destination_id).rest_s
        return Batch(0, max(stages.policy.wait_after(self.job.attempt), rest_s))

    def _settle(self) -> Batch:
        """Verify the study when this was its last job, and end the job."""
        jobs, job_id = self.stages.jobs, self.job.job_id
        jobs.set_job_state(job_id, JobState.VERIFYING)
        if self._level is not Level.SENT and jobs.study_settled(job_id):
            items = [item for item in jobs.sent_items(job_id) if not _claimed_before(item)]
            if items and (wait := self._verify(items)) is not None:
                return wait
        failed = jobs.count_items(job_id).get(ItemState.FAILED, 0)
        return self._end(JobState.FAILED if failed else JobState.COMPLETED)

    def _unverified(self, items: Sequence[Item], error: DestinationError) -> Batch:
        """Ask again later while attempts are left; then the claims stay claims.

        What the job had to deliver after them was not tried, and is due in the next run.
        """
        if self.job.attempt < self.stages.policy.attempts:
            return self._wait()
        cannot_verify(self.job, items, error, self.stages.jobs)
        self.stages.fail_items(
            self.job.job_id,
            frozenset({ItemState.DUE, ItemState.WAITING}),
            Failed(error.code, error.message, error.hint),
        )
        return self._end(JobState.FAILED)

    def _end(self, state: JobState) -> Batch:
        self.stages.jobs.set_job_state(self.job.job_id, state)
        self.stages.claims_seen.discard(self.job.job_id)
        return Batch(0)
