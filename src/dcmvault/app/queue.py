"""The queue: look at jobs, pause and resume destinations, cancel and prioritise."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass

from dcmvault.app.windows import note_pause, note_resume
from dcmvault.app.wiring.workplace import Workplace
from dcmvault.errors import UsageError
from dcmvault.i18n import gettext as _
from dcmvault.model.identifiers import DestinationId, JobId, RunId
from dcmvault.model.job import Job, JobState, Priority
from dcmvault.model.learning import LessonKind
from dcmvault.model.report import RunState
from dcmvault.ports.queue import QueueState


@dataclass(frozen=True, slots=True)
class JobView:
    """A job with its destination's address."""

    job: Job
    destination: str


@dataclass(frozen=True, slots=True)
class QueueView:
    """A destination's queue."""

    destination: str
    state: QueueState


def jobs(workplace: Workplace, limit: int = 1000) -> list[JobView]:
    """List the first jobs that have not ended, in queue order."""
    names = workplace.catalogue.status.destinations()
    return [
        JobView(job, names[job.destination_id])
        for job in workplace.catalogue.runs.jobs(limit=limit)
    ]


def queues(workplace: Workplace) -> list[QueueView]:
    """List the queues of destinations that were ever used."""
    names = workplace.catalogue.status.destinations()
    return [
        QueueView(names[state.destination_id], state)
        for state in workplace.queue.queues()
        if state.destination_id in names
    ]


def pause(workplace: Workplace, destination: str) -> None:
    """Start no further job for this destination (an address or a configured name)."""
    destination_id = destination_id_of(workplace, destination)
    note_pause(workplace, destination_id)
    workplace.queue.pause(destination_id)


def resume(workplace: Workplace, destination: str) -> None:
    """Take up a paused destination, though its window may be closed."""
    destination_id = destination_id_of(workplace, destination)
    note_resume(workplace, destination_id)
    workplace.queue.resume(destination_id)


def destination_id_of(workplace: Workplace, destination: str) -> DestinationId:
    """Return the key of a destination (an address or a configured name); UsageError for none."""
    section = workplace.settings.destination(destination).section
    known = workplace.catalogue.status.destinations()
    for destination_id, name in known.items():
        if name == section.address:
            return destination_id
    raise UsageError(
        _("Nothing was ever sent to %(destination)s.") % {"destination": destination},
        hint=_("Known destinations: %(known)s.") % {"known": ", ".join(known.values()) or "-"},
    )


def cancel(workplace: Workplace, run_or_job: str) -> None:
    """Cancel a run with all its jobs, or one job; what was delivered stays recorded.

    The catalogue is told first: work that is not told any more finds there that it is not wanted.
    """
    catalogue = workplace.catalogue
    try:
        run = catalogue.runs.run(RunId(run_or_job))
    except KeyError:
        job = _job(workplace, run_or_job)
        catalogue.runs.cancel_items(job.run_id, job.job_id)
        workplace.queue.cancel_job(job.job_id)
        return
    if run.finished_at is not None:
        raise UsageError(_("The run %(run)s has ended already.") % {"run": run.run_id})
    catalogue.runs.set_run_state(run.run_id, RunState.CANCELLED, workplace.clock.now())
    catalogue.runs.cancel_items(run.run_id)
    workplace.queue.cancel(run.run_id)


def stop_after_current(workplace: Workplace, run_id: str) -> int:
    """Let what is at work of a run go on to its end, and leave out the rest; return its instances.

    The run then ends as one that did not reach everything: what was left out is due in the next.
    UsageError where there is no such run, where it has ended, and while it is still planned.
    """
    catalogue = workplace.catalogue
    try:
        run = catalogue.runs.run(RunId(run_id))
    except KeyError:
        raise UsageError(_("There is no run %s.") % run_id) from None
    if run.finished_at is not None:
        raise UsageError(_("The run %(run)s has ended already.") % {"run": run.run_id})
    if run.state is not RunState.RUNNING:
        raise UsageError(
            _("The run %s is still being planned: nothing is at work yet.") % run.run_id,
            hint=_("Cancel it, or wait a moment."),
        )
    return catalogue.live.leave_rest(run.run_id)


def skip(workplace: Workplace, job_id: str) -> int:
    """Leave the study of a job out of this run at its destination; return how many instances.

    What was delivered stays recorded, and the study is due again in the next run.
    """
    job = _job(workplace, job_id)
    live = workplace.catalogue.live
    if not job.study_instance_uid:  # files that are no instances have no study
        return workplace.catalogue.runs.cancel_items(job.run_id, job.job_id)
    return live.leave_study(job.run_id, job.destination_id, job.study_instance_uid)


def prioritise(workplace: Workplace, job_or_study: str, priority: Priority) -> int:
    """Move a waiting job in its destination's queue, or all of a study; return how many.

    What is moved is written down, for priorities to learn from.
    """
    catalogue = workplace.catalogue
    moved = [
        job
        for job in catalogue.runs.jobs(limit=sys.maxsize)
        if job.study_instance_uid == job_or_study
    ]
    moved = moved or [_job(workplace, job_or_study)]
    prioritise_jobs(workplace, moved, priority)
    return len(moved)


def prioritise_jobs(workplace: Workplace, moved: Iterable[Job], priority: Priority) -> None:
    """Move waiting jobs in their destinations' queues, and write down that somebody did."""
    catalogue = workplace.catalogue
    for job in moved:
        catalogue.runs.set_job_priority(job.job_id, priority)
        workplace.queue.prioritise(job.job_id, priority)
        if priority != job.priority and job.study_instance_uid:
            forward = priority > job.priority
            catalogue.lessons.record_lesson(
                LessonKind.RAISED if forward else LessonKind.LOWERED,
                [job.study_instance_uid],
                workplace.clock.now(),
            )


def _job(workplace: Workplace, job_id: str) -> Job:
    try:
        job = workplace.catalogue.jobs.job(JobId(job_id))
    except KeyError:
        raise UsageError(
            _("There is no run or job %(name)s.") % {"name": job_id},
            hint=_("`dcmvault queue list` shows the jobs that have not ended."),
        ) from None
    if job.state in (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED):
        raise UsageError(_("The job %(job)s has ended already.") % {"job": job_id})
    return job
