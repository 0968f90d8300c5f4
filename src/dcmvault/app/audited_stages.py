"""The stages of runs, written down in the audit journal as runs begin and end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dcmvault.app.stages import BackupStages
from dcmvault.model.audit import Actor, ActorKind, AuditEvent, AuditKind, AuditOutcome
from dcmvault.model.identifiers import JobId, RunId
from dcmvault.model.job import Batch, Job
from dcmvault.model.report import RunReport, RunState
from dcmvault.ports.audit import AuditJournal
from dcmvault.ports.statistics import RunStudies

_SERVICE = Actor(ActorKind.SERVICE, "dcmvault")
#: Studies that a line names; their number is told anyway.
_MOST_STUDIES = 1000


@dataclass(frozen=True, slots=True)
class AuditedStages:
    """`ports.queue.RunStages` over other stages."""

    stages: BackupStages
    journal: AuditJournal
    studies: RunStudies

    def plan(self, run_id: RunId) -> Sequence[Job]:
        """Plan; the first time the run begins."""
        record = self.stages.runs.run(run_id)
        if record.state is RunState.PENDING:
            request = record.request
            details = {
                "run": run_id,
                "kind": request.kind.value,
                "strategy": request.strategy.value,
                "destinations": " ".join(wanted.address for wanted in request.destinations),
            }
            self._note(AuditKind.RUN_STARTED, AuditOutcome.BEGUN, request.source, details)
        return self.stages.plan(run_id)

    def deliver(self, job_ids: Sequence[JobId]) -> Batch:
        """Deliver; nothing is written down of a batch."""
        return self.stages.deliver(job_ids)

    def finish(self, run_id: RunId) -> bool:
        """Finish; a run that ended is told with its counts."""
        ended = self.stages.finish(run_id)
        if ended:
            self._ended(run_id)
        return ended

    def fail(self, run_id: RunId, code: str, message: str, hint: str) -> None:
        """Fail the run."""
        self.stages.fail(run_id, code, message, hint)
        self._ended(run_id)

    def fail_job(self, job_id: JobId, message: str) -> None:
        """Fail one job; its run is told when it ends."""
        self.stages.fail_job(job_id, message)

    def _ended(self, run_id: RunId) -> None:
        report = self.stages.runs.report(run_id, studies=False)
        uids = self.studies.studies_of_run(run_id, _MOST_STUDIES)
        self._note(
            AuditKind.RUN_FINISHED, _outcome(report), report.request.source, _details(report), uids
        )

    def _note(
        self,
        kind: AuditKind,
        outcome: AuditOutcome,
        place: str,
        details: Mapping[str, str | int | float],
        studies: Sequence[str] = (),
    ) -> None:
        now = self.stages.clock.now()
        event = AuditEvent(now, kind, _SERVICE, outcome, place, tuple(studies), details)
        self.journal.record(event)


def _outcome(report: RunReport) -> AuditOutcome:
    if report.exit_status == 0:
        return AuditOutcome.SUCCESS
    is_partly = report.exit_status == 3
    return AuditOutcome.MINOR_FAILURE if is_partly else AuditOutcome.SERIOUS_FAILURE


def _details(report: RunReport) -> dict[str, str | int | float]:
    counts = report.counts
    return {
        "run": report.run_id,
        "kind": report.request.kind.value,
        "state": report.state.value,
        "destinations": " ".join(part.name for part in report.destinations),
        "studies": report.studies,
        "selected": counts.selected,
        "already_held": counts.already_held,
        "stored": counts.stored,
        "failed": counts.failed,
        "unreadable": counts.unreadable,
        "conflicts": counts.conflicts,
        "transferred_bytes": sum(part.transferred_bytes for part in report.destinations),
        "exit_status": report.exit_status,
        "code": report.error[0] if report.error else "",
    }
