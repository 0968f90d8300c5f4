"""One durable step of jobs: what is due is delivered, and what was delivered is verified."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from dcmvault.app.at_destinations import AtDestinations
from dcmvault.errors import (
    DestinationError,
    DestinationUnreachableError,
    LevelNotSupportedError,
)
from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import DestinationId, JobId, RunId
from dcmvault.model.job import BATCH_INSTANCES, Batch, ItemState, Job, JobState
from dcmvault.model.plan import DAMAGED, RunKind, RunRequest
from dcmvault.model.snapshot import Origin
from dcmvault.pipeline.delivery import BatchDelivery
from dcmvault.pipeline.presence import Presence
from dcmvault.pipeline.retry import RetryPolicy
from dcmvault.pipeline.verification import Found, cannot_verify, verify_items
from dcmvault.ports.catalogue import Item, JobCatalogue, Outcome
from dcmvault.ports.clock import Clock
from dcmvault.ports.destination import Destination, Verifier
from dcmvault.ports.source import Source

_GIVEN_UP = -1.0


@dataclass(frozen=True, slots=True)
class Failed:
    """Why items failed."""

    code: str
    message: str
    hint: str


class StepContext(Protocol):
    """What all steps share: the stages of this process."""

    jobs: JobCatalogue
    policy: RetryPolicy
    clock: Clock
    stopping: threading.Event
    presence: Presence
    #: Jobs whose earlier claims were looked at; asked again after a restart, harmlessly.
    claims_seen: set[JobId]
    #: Which job verifies a study of a run just now, of those that ended at the same moment.
    verifying: dict[tuple[RunId, DestinationId, str], JobId]
    at_destinations: AtDestinations

    @property
    def open_source(self) -> Callable[[RunRequest], Source]:
        """Make the source of a run."""
        ...

    def fail_items(self, job_id: JobId, states: frozenset[ItemState], why: Failed) -> None:
        """Fail all items of a job that are in one of these states."""
        ...


def _study_of(job: Job) -> tuple[RunId, DestinationId, str]:
    return job.run_id, job.destination_id, job.study_instance_uid


def _claimed_before(item: Item) -> bool:
    """Say whether the destination took it in an earlier run: its own job verifies that first."""
    return item.attempts == 0 and item.plan.held


def _was_sent_again(item: Item) -> bool:
    """Say whether more than one attempt led to what the destination claims now.

    The first is that of this run, or of the earlier one whose claim was refuted; where the
    destination named it before anything was sent, that counts as one, too.
    """
    return item.attempts > (0 if item.plan.held else 1)


@dataclass(slots=True)
class BatchStep:
    """One durable step of jobs that travel together: each phase is done for all of them."""

    stages: StepContext
    request: RunRequest
    destination: Destination
    steps: Sequence[JobStep]
    seconds: dict[str, float]

    def run(self) -> Batch:
        """Do the next piece of work there is for these jobs."""
        jobs = self.stages.jobs
        # Those that are being verified got so far before a crash.
        to_settle = [step for step in self.steps if step.job.state is JobState.VERIFYING]
        with jobs.together():
            starting = [step for step in self.steps if step.start()]
        remaining, waiting = 0, dict[JobId, float]()
        going_on = []
        for step in starting:
            if (wait_s := step.verify_earlier_claims()) is None:
                going_on.append(step)
            elif wait_s >= 0:
                waiting[step.job.job_id] = wait_s
        self._deliver(going_on)
        for step in going_on:
            counts = jobs.count_items(step.job.job_id)
            if counts.get(ItemState.DUE, 0):
                remaining += counts[ItemState.DUE]
            elif counts.get(ItemState.WAITING, 0):
                waiting[step.job.job_id] = step.wait()
            else:
                to_settle.append(step)
        waiting |= self._settle(to_settle)
        return Batch(remaining, max(waiting.values(), default=None), tuple(waiting))

    def _deliver(self, steps: Sequence[JobStep]) -> None:
        room = BATCH_INSTANCES
        batch: list[tuple[Job, Sequence[Item]]] = []
        for step in steps:
            if room > 0 and (due := step.due(room)):
                batch.append((step.job, due))
                room -= len(due)
        if not batch:
            return
        if self.request.kind is RunKind.VERIFY:
            for job, _due in batch:
                self._never_sent(job.job_id)
            return
        stages = self.stages
        delivery = BatchDelivery(
            source=stages.open_source(self.request),
            origin=Origin(
                batch[0][0].run_id,
                self.request.source,
                max(job.priority for job, _due in batch),
            ),
            destination=self.destination,
            jobs=stages.jobs,
            policy=stages.policy,
            breaker=stages.at_destinations.breaker(batch[0][0].destination_id),
            clock=stages.clock,
            stopping=stages.stopping,
            sent_is_held=self.steps[0].level is Level.SENT,
            gate=stages.at_destinations.gate(batch[0][0].destination_id, self.destination),
            presence=stages.presence,
        )
        began = time.perf_counter()
        try:
            delivery.run(batch)
        finally:
            spent = time.perf_counter() - began
            self.seconds["read"] += delivery.read_s
            self.seconds["deliver"] += max(spent - delivery.read_s, 0.0)

    def _never_sent(self, job_id: JobId) -> None:
        """Fail, in a verification run, what this destination never took."""
        why = Failed(
            "never_sent",
            "it was never sent to this destination",
            "Run `dcmvault backup` for this source and destination.",
        )
        self.stages.fail_items(job_id, frozenset({ItemState.DUE}), why)

    def _settle(self, steps: Sequence[JobStep]) -> dict[JobId, float]:
        """Verify studies of which this was the last job, and end the jobs; say what waits."""
        jobs = self.stages.jobs
        with jobs.together():
            for step in steps:
                jobs.set_job_state(step.job.job_id, JobState.VERIFYING)
        try:
            return self._verify_and_end(steps)
        finally:
            # What was found is written down: another job may verify the study.
            for job in (step.job for step in steps):
                if self.stages.verifying.get(_study_of(job)) == job.job_id:
                    del self.stages.verifying[_study_of(job)]

    def _verify_and_end(self, steps: Sequence[JobStep]) -> dict[JobId, float]:
        jobs = self.stages.jobs
        waiting = {}
        verified = []
        looked_at = set()
        for step in steps:
            study = step.job.study_instance_uid
            wait_s = None if study in looked_at else step.verify_study(steps)
            if wait_s is None:
                looked_at.add(study)
                verified.append(step)
            elif wait_s >= 0:
                waiting[step.job.job_id] = wait_s
        with jobs.together():
            for step in verified:
                step.record_found()
            for step in verified:
                counts = jobs.count_items(step.job.job_id)
                if counts.get(ItemState.DUE, 0):
                    waiting[step.job.job_id] = step.send_again()
                else:
                    failed = counts.get(ItemState.FAILED, 0)
                    step.end(JobState.FAILED if failed else JobState.COMPLETED)
        return waiting


@dataclass(slots=True)
class JobStep:
    """What one job needs in a durable step.

    What verifies returns None when it is done, seconds to wait when the destination cannot be
    asked now, and _GIVEN_UP when that ended the job.
    """

    stages: StepContext
    job: Job
    request: RunRequest
    destination: Destination
    seconds: dict[str, float]
    found: Found | None = None

    def start(self) -> bool:
        """Begin (or go on with) deliveries; False for a job whose deliveries are over."""
        jobs, job_id = self.stages.jobs, self.job.job_id
        if self.job.state is JobState.VERIFYING:
            return False
        if self.job.state is not JobState.IN_PROGRESS:
            if self.job.state is JobState.RETRYING:
                jobs.release_waiting(job_id)
            attempt = self.job.attempt + 1
            jobs.set_job_state(job_id, JobState.IN_PROGRESS, attempt=attempt)
            self.job = replace(self.job, state=JobState.IN_PROGRESS, attempt=attempt)
        return True

    def due(self, limit: int) -> Sequence[Item]:
        """List what is to be delivered."""
        return self.stages.jobs.items(self.job.job_id, frozenset({ItemState.DUE}), limit)

    @property
    def level(self) -> Level:
        """The level asked of the destination."""
        for wanted in self.request.destinations:
            if wanted.address == self.destination.name and wanted.level is not None:
                return wanted.level
        return self.destination.default_level

    def _level_of(self, items: Sequence[Item]) -> Level:
        """Return the level at which these items are verified.

        What was found damaged is believed again only when it was read back: a weaker level would
        find a damaged copy where it should be, with the size that it should have.
        """
        levels = self.destination.levels if isinstance(self.destination, Verifier) else ()
        was_damaged = any(item.plan.reason == DAMAGED for item in items)
        return Level.PROVEN if was_damaged and Level.PROVEN in levels else self.level

    def _verifier(self) -> Verifier:
        if isinstance(self.destination, Verifier) and self.level in self.destination.levels:
            return self.destination
        raise LevelNotSupportedError(
            f"{self.destination.name} cannot give evidence of level {self.level.word}"
        )

    def verify_earlier_claims(self) -> float | None:
        """Raise the evidence of what was sent before this run, once, before anything is sent.

        All claims of the study are looked at together, whichever job has them.
        """
        jobs, job_id = self.stages.jobs, self.job.job_id
        if job_id in self.stages.claims_seen:
            return None
        if jobs.count_items(job_id).get(ItemState.SENT, 0):
            sent = jobs.items(job_id, frozenset({ItemState.SENT}), self.job.instances)
            items = list(filter(_claimed_before, sent))
            if items and self.level is Level.SENT:
                # The receipt from before is all that was asked for.
                jobs.record_outcomes(
                    job_id, [Outcome(item.item_id, ItemState.HELD, item.attempts) for item in items]
                )
            elif items:
                items = list(filter(_claimed_before, jobs.sent_items(job_id)))
                due = [item.item_id for item in items] if self.request.kind.delivers else []
                if (wait_s := self._verify(items, lost_are_due=due)) is not None:
                    return wait_s
                self.record_found()
        self.stages.claims_seen.add(job_id)
        return None

    def verify_study(self, together: Sequence[JobStep]) -> float | None:
        """Verify what was sent of the study, unless another of its jobs still delivers.

        What is found is to be recorded. Jobs that are settled `together` may go on delivering.
        """
        jobs, job_id = self.stages.jobs, self.job.job_id
        if self.level is not Level.SENT and jobs.study_settled(job_id):
            verifies = self.stages.verifying.setdefault(_study_of(self.job), job_id)
            if verifies not in {step.job.job_id for step in together}:
                return None  # it looks at what this job sent, too
            items = [item for item in jobs.sent_items(job_id) if not _claimed_before(item)]
            if items:
                return self._verify(items, lost_are_due=self._to_send_again(items, together))
        return None

    def _to_send_again(self, items: Sequence[Item], together: Sequence[JobStep]) -> list[int]:
        """Choose what is sent once more if reading back finds it missing or damaged.

        A PACS that takes what it has once more is mended by that; at one that does not, a
        further time would change nothing. Items of jobs that ended before are left to the next
        run.
        """
        if not self.request.kind.delivers or self.destination.keeps_versions:
            return []
        if self._level_of(items) is not Level.PROVEN:
            return []
        jobs, sent = self.stages.jobs, frozenset({ItemState.SENT})
        open_items = {
            item.item_id
            for step in together
            if step.job.study_instance_uid == self.job.study_instance_uid
            for item in jobs.items(step.job.job_id, sent, step.job.instances)
        }
        once = (item.item_id for item in items if not _was_sent_again(item))
        return [item_id for item_id in once if item_id in open_items]

    def send_again(self) -> float:
        """Go back to delivery, at once; return for how many seconds to wait."""
        self.stages.jobs.set_job_state(self.job.job_id, JobState.RETRYING)
        return 0.0

    def record_found(self) -> None:
        """Write down what verification found, if anything."""
        if self.found is not None:
            self.found.record(self.stages.jobs)
            self.found = None

    def _verify(self, items: Sequence[Item], *, lost_are_due: Collection[int]) -> float | None:
        stages = self.stages
        breaker = stages.at_destinations.breaker(self.job.destination_id)
        if breaker.is_open:
            return self._unverified(items, breaker.refusal())
        began = time.perf_counter()
        try:
            self.found = verify_items(
                self.job,
                items,
                self._verifier(),
                self._level_of(items),
                stages.jobs,
                open_source=lambda: stages.open_source(self.request),
                lost_are_due=lost_are_due,
            )
        except DestinationUnreachableError as error:
            breaker.failed(error)
            return self._unverified(items, error)
        except DestinationError as error:
            cannot_verify(self.job, items, error, stages.jobs)
        else:
            breaker.succeeded()
        finally:
            self.seconds["verify"] += time.perf_counter() - began
        return None

    def _unverified(self, items: Sequence[Item], error: DestinationError) -> float:
        """Ask again later while attempts are left; then the claims stay claims.

        What the job had to deliver after them was not tried, and is due in the next run.
        """
        if self.job.attempt < self.stages.policy.attempts:
            return self.wait()
        cannot_verify(self.job, items, error, self.stages.jobs)
        self.stages.fail_items(
            self.job.job_id,
            frozenset({ItemState.DUE, ItemState.WAITING}),
            Failed(error.code, error.message, error.hint),
        )
        self.end(JobState.FAILED)
        return _GIVEN_UP

    def wait(self) -> float:
        """Leave the job alone for a while; return for how many seconds."""
        stages = self.stages
        stages.jobs.set_job_state(self.job.job_id, JobState.RETRYING)
        rest_s = stages.at_destinations.breaker(self.job.destination_id).rest_s
        return max(stages.policy.wait_after(self.job.attempt), rest_s)

    def end(self, state: JobState) -> None:
        """End the job."""
        self.stages.jobs.set_job_state(self.job.job_id, state)
        self.stages.claims_seen.discard(self.job.job_id)
