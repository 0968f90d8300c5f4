"""What a durable run does, step by step: plan, deliver, settle, finish."""

from __future__ import annotations

import gc
import logging
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from dcmvault.app.around_runs import AroundRuns
from dcmvault.app.at_destinations import AtDestinations
from dcmvault.app.closing import Closing
from dcmvault.app.job_steps import BatchStep, Failed, JobStep
from dcmvault.app.reach import Reach, Whose
from dcmvault.app.rerouting import Rerouting
from dcmvault.app.run_planning import RunPlanning, marks_of
from dcmvault.errors import HookFailedError, SourceEmptyError
from dcmvault.model.classification import StudyMarks
from dcmvault.model.identifiers import DestinationId, JobId, RunId, SourceId
from dcmvault.model.job import BATCH_INSTANCES, Batch, ItemState, Job, JobState, Priority
from dcmvault.model.plan import RunKind, RunRequest
from dcmvault.model.report import RunState
from dcmvault.pipeline.classification import Classifier
from dcmvault.pipeline.presence import Presence
from dcmvault.pipeline.retry import RetryPolicy
from dcmvault.pipeline.selection import is_passed_through, remarks_of, select_from
from dcmvault.pipeline.sudden_change import HoldPolicy, require_believable
from dcmvault.ports.catalogue import (
    JobCatalogue,
    Outcome,
    PlanCatalogue,
    RunCatalogue,
    ScanCounts,
    SnapshotWitness,
    SourceCatalogue,
)
from dcmvault.ports.clock import Clock
from dcmvault.ports.destination import (
    Destination,
    GetsReady,
    Measured,
    Remembered,
    Snapshots,
    TakesSeveral,
)
from dcmvault.ports.exclusions import ExclusionBook
from dcmvault.ports.queue import StageInterruption
from dcmvault.ports.reverification import ReverificationCatalogue
from dcmvault.ports.signs import SignBook
from dcmvault.ports.source import Source
from dcmvault.ports.statistics import StageMeter
from dcmvault.ports.strategy import RouteBook, StudyFactsCatalogue

_log = logging.getLogger(__name__)

#: Seconds between notes of how far a pass has come.
_NOTE_S = 0.25
#: Seconds for which this worker holds a job that it cannot do, and after which it is offered again.
_FOR_OTHERS_S = 2.0
_OFFERED_AGAIN_S = 0.5
_ENDED_RUNS = frozenset({RunState.FINISHED, RunState.FAILED, RunState.CANCELLED})
_ENDED = frozenset({JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED})


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Look for cycles of garbage seldom: rows make none, and a million of them are looked at."""
    before = gc.get_threshold()
    gc.set_threshold(100_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _warnings(source: Source, counts: ScanCounts) -> Sequence[str]:
    """Say what a pass found out about a source as a whole."""
    warnings = remarks_of(source).warnings
    if not (counts.gone and is_passed_through(source)):
        return warnings
    return (
        *warnings,
        f"{counts.gone:,} instances that were received are gone, and not every destination of this"
        " backup holds them. Is the volume of the spool mounted? Otherwise send them again.",
    )


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
    reverification: ReverificationCatalogue
    exclusions: ExclusionBook
    facts: StudyFactsCatalogue
    routes: RouteBook
    #: Makes the classifier that is in force now.
    classifier: Callable[[], Classifier]
    meter: StageMeter
    open_source: Callable[[RunRequest], Source]
    open_destination: Callable[[str], Destination]
    policy: RetryPolicy
    clock: Clock
    #: Told of a backup that ended, to write down what its destinations hold.
    seal_run: Callable[[RunId], None]
    signs: SignBook
    #: Says when backups of a source are held now.
    hold: Callable[[], HoldPolicy]
    #: Says what happens around runs now, if anything does.
    around: Callable[[], AroundRuns | None] = lambda: None
    stopping: threading.Event = field(default_factory=threading.Event)
    #: Says of a destination and a priority for how many seconds such work is held back; 0: not.
    held_back_s: Callable[[DestinationId, Priority], float] = lambda _destination, _priority: 0.0
    #: Says what this worker reaches; None where there are no others.
    reach: Reach | None = None
    presence: Presence = field(default_factory=Presence)
    #: Jobs whose earlier claims were looked at; asked again after a restart, harmlessly.
    claims_seen: set[JobId] = field(default_factory=set)
    verifying: dict[tuple[RunId, DestinationId, str], JobId] = field(default_factory=dict)
    at_destinations: AtDestinations = field(init=False)

    def __post_init__(self) -> None:
        self.at_destinations = AtDestinations(self.policy, self.clock)

    def plan(self, run_id: RunId) -> Sequence[Job]:
        """Scan the source (unless only to verify), find what is due, and write it down as jobs."""
        record = self.runs.run(run_id)
        if record.state in _ENDED_RUNS:
            return []
        request = record.request
        if self.reach is not None:
            self.reach.claim(request)
        self.runs.set_run_state(run_id, RunState.PLANNING, self.clock.now())
        if (around := self.around()) is not None:
            around.begin(run_id, request)
        self.plans.drop_unstarted_jobs(run_id)
        source_id = self.sources.source(request.source)
        counts: ScanCounts | None = None
        warnings: Sequence[str] = ()
        marks: Mapping[str, StudyMarks] = {}
        if request.kind.delivers:
            self._get_ready(request)
            counts, warnings, marks = self._scan(run_id, request, source_id)
        # Jobs in the middle are there only when the engine lost the run's work.
        jobs = [job for job in self.runs.jobs(limit=sys.maxsize) if job.run_id == run_id]
        with self.timed(run_id, "plan"), _rare_collections():
            planned = self._planning().plan(
                run_id, request, source_id, marks, lambda: self._check_stop(run_id)
            )
        jobs += planned.jobs
        self.runs.record_plan(
            run_id,
            counts=counts,
            # A later pass of the same run only adds what is new.
            already_held=planned.already_held if record.planned_at is None else {},
            levels=planned.levels,
            warnings=[*warnings, *planned.remarks],
        )
        self.runs.set_run_state(run_id, RunState.RUNNING, self.clock.now())
        if self.runs.run(run_id).state in _ENDED_RUNS:  # cancelled meanwhile
            self.runs.cancel_items(run_id)
            return []
        return jobs

    def deliver(self, job_ids: Sequence[JobId]) -> Batch:
        """Deliver the next batch of these jobs, or verify what they sent when nothing is left."""
        jobs = [job for job in map(self.jobs.job, job_ids) if job.state not in _ENDED]
        if not jobs:
            return Batch(0)
        priority = max(job.priority for job in jobs)
        if wait_s := self.held_back_s(jobs[0].destination_id, priority):
            return Batch(0, wait_s, tuple(job.job_id for job in jobs))
        request = self.runs.run(jobs[0].run_id).request
        address = self._address(jobs[0], request)
        if self.reach is not None and self.reach.whose(request, [address]) is not Whose.OURS:
            # Held for a while, so that who cannot do it does not take one after the other.
            self.stopping.wait(_FOR_OTHERS_S)
            return Batch(0, _OFFERED_AGAIN_S, tuple(job.job_id for job in jobs))
        destination = self.open_destination(address)
        seconds: dict[str, float] = defaultdict(float)
        steps = [JobStep(self, job, request, destination, seconds) for job in jobs]
        try:
            return BatchStep(self, request, destination, steps, seconds).run()
        finally:
            if isinstance(destination, Measured):
                for stage, spent in destination.measures.take().items():
                    seconds[stage] += spent
            if seconds:
                self.runs.add_stage_seconds(jobs[0].run_id, seconds)
                self.meter.add_seconds_at(jobs[0].run_id, jobs[0].destination_id, seconds)

    def finish(self, run_id: RunId) -> bool:
        """End the run, unless something is left to plan: then plan again.

        That is so where the same work was asked for again while it ran, and where what one
        destination could not take may go to another.
        Before that snapshots are taken of what arrived, though some of its jobs may have failed.
        """
        record = self.runs.run(run_id)
        request = record.request
        if self.reach is not None and record.state not in _ENDED_RUNS:
            self.reach.claim(request)
        rerouting = Rerouting(self.plans, self.facts, self.routes, self.clock)
        if record.state not in _ENDED_RUNS and rerouting.divert(run_id, request):
            return False
        destinations = [self.open_destination(wanted.address) for wanted in request.destinations]
        for destination in destinations:
            if isinstance(destination, TakesSeveral):
                destination.close_idle()
        if request.kind.delivers and any(isinstance(d, Snapshots) for d in destinations):
            with self.timed(run_id, "snapshot"):
                Closing(
                    run_id, request, self.plans, self.runs, self.snapshots, self.open_source
                ).take_snapshots(destinations)
        elif any(isinstance(d, Remembered) for d in destinations):
            Closing(
                run_id, request, self.plans, self.runs, self.snapshots, self.open_source
            ).accept_losses(destinations)
        try:
            if (around := self.around()) is not None:
                around.close(self.runs.run(run_id))
        except HookFailedError as error:
            self.fail(run_id, error.code, error.message, error.hint)
            # What was stored is held all the same.
            self._seal(run_id, request)
            return True
        ended = self.runs.finish_run(run_id, self.clock.now())
        if ended and (around := self.around()) is not None:
            around.ended(run_id)
        if ended:
            self._seal(run_id, request)
        return ended

    def _seal(self, run_id: RunId, request: RunRequest) -> None:
        if request.kind is RunKind.BACKUP and self.runs.progress(run_id).items:
            self.seal_run(run_id)

    def fail(self, run_id: RunId, code: str, message: str, hint: str) -> None:
        """Record that the run ended by an error; what it left undone is due in the next run."""
        self.runs.record_error(run_id, code, message, hint)
        self.runs.set_run_state(run_id, RunState.FAILED, self.clock.now())
        self.runs.cancel_items(run_id)
        if (around := self.around()) is not None:
            around.ended(run_id)

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

    def _scan(
        self, run_id: RunId, request: RunRequest, source_id: SourceId
    ) -> tuple[ScanCounts, Sequence[str], Mapping[str, StudyMarks]]:
        """Make a pass over the source; return what it saw, what is worth a word, and marks.

        SourceHeldError for a backup of a source of which much changed or went at once.
        """
        with self.timed(run_id, "scan"), _rare_collections():
            source = self.open_source(request)
            try:
                counts = select_from(
                    source,
                    self.sources,
                    run_id,
                    include_other_files=request.include_other_files,
                    listed=self._counting(run_id),
                    open_other=lambda address: self.open_source(replace(request, source=address)),
                    held_at=[self.plans.destination(w.address) for w in request.destinations],
                    selection=request.selection,
                )
            except SourceEmptyError:
                self.signs.hold(source_id, self.clock.now())
                raise
            if request.kind is RunKind.BACKUP and not is_passed_through(source):
                require_believable(
                    self.signs,
                    source_id,
                    self.hold(),
                    self.clock.now(),
                    accepted=request.accept_changes,
                    whole=request.selection.is_whole,
                )
            return counts, _warnings(source, counts), marks_of(source)

    def _planning(self) -> RunPlanning:
        return RunPlanning(
            self.plans,
            self.facts,
            self.routes,
            self.reverification,
            self.exclusions,
            self.open_destination,
            self.classifier,
            self.clock,
        )

    def _get_ready(self, request: RunRequest) -> None:
        """Have destinations open what takes a while, beside the scan.

        Nobody waits for that here, nor at the end: it reads only.
        """
        for wanted in request.destinations:
            destination = self.open_destination(wanted.address)
            if isinstance(destination, GetsReady):
                threading.Thread(
                    target=destination.get_ready, name="get-ready", daemon=True
                ).start()

    def _address(self, job: Job, request: RunRequest) -> str:
        for wanted in request.destinations:
            if self.plans.destination(wanted.address) == job.destination_id:
                return wanted.address
        raise KeyError(job.destination_id)

    def _counting(self, run_id: RunId) -> Callable[[int], None]:
        """Return what notes how many entries are listed, now and then: each note is a write."""
        noted_at = float("-inf")

        def listed(entries: int) -> None:
            nonlocal noted_at
            if (now := self.clock.monotonic()) - noted_at < _NOTE_S:
                return
            noted_at = now
            self.runs.set_scanned(run_id, entries)
            self._check_stop(run_id)

        return listed

    def _check_stop(self, run_id: RunId) -> None:
        """Leave planning when the worker stops or the run was cancelled."""
        if self.stopping.is_set() or self.runs.run(run_id).state in _ENDED_RUNS:
            raise StageInterruption

    @contextmanager
    def timed(self, run_id: RunId, stage: str) -> Iterator[None]:
        """Add the seconds spent inside to the run's seconds of this stage."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.runs.add_stage_seconds(run_id, {stage: time.perf_counter() - began})
