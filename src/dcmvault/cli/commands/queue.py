"""`dcmvault queue`: look at the work, pause and resume destinations, cancel and prioritise."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence

import click

from dcmvault.app import queue
from dcmvault.app.as_data import job_data, queue_data
from dcmvault.cli.building import PRIORITIES, ExampleCommand, FamilyGroup, json_option, priority_of
from dcmvault.cli.commands import queue_exclude, queue_work
from dcmvault.cli.output import print_json, say, table
from dcmvault.cli.session import Session, current_settings, opened
from dcmvault.cli.words import job_state_word, priority_word
from dcmvault.i18n import format_bytes, format_number, ngettext
from dcmvault.i18n import gettext as _
from dcmvault.model.job import Job, JobState
from dcmvault.ports.queue import QueueState
from dcmvault.reports.escaping import visible

#: Of each destination.
_SHOWN_JOBS = 50
_RUNNING = frozenset({JobState.IN_PROGRESS, JobState.VERIFYING})


def command() -> click.Command:
    """Build the group in the language in use."""
    return FamilyGroup(
        "queue",
        text=_("Look at the work and steer it. Works while another process does the work, too."),
        members=[
            _list_command(),
            _destination_command(
                "pause",
                _("Start no further job for DESTINATION; what is in flight ends."),
                _pause,
                "dcmvault queue pause pacs",
            ),
            _destination_command(
                "resume",
                _("Take up the work for DESTINATION again."),
                _resume,
                "dcmvault queue resume pacs",
            ),
            _cancel_command(),
            _prioritise_command(),
            *queue_work.commands(),
            *queue_exclude.commands(),
        ],
    )


def _list_command() -> click.Command:
    return ExampleCommand(
        "list",
        callback=_list,
        text=_("List the queues, and the jobs that have not ended, in their order."),
        params=[json_option()],
        examples=[(_("What is waiting"), "dcmvault queue list")],
    )


def _destination_command(
    name: str, text: str, callback: Callable[..., int], example: str
) -> click.Command:
    return ExampleCommand(
        name,
        callback=callback,
        text=text,
        params=[click.Argument(["destination"], metavar="DESTINATION"), json_option()],
        examples=[(_("By its configured name"), example)],
    )


def _cancel_command() -> click.Command:
    return ExampleCommand(
        "cancel",
        callback=_cancel,
        text=_("Cancel a run with all its jobs, or one job. What was delivered stays recorded."),
        params=[click.Argument(["run_or_job"], metavar="RUN|JOB"), json_option()],
        examples=[(_("A whole run"), "dcmvault queue cancel 20260131-020000-9f3c61d2")],
    )


def _prioritise_command() -> click.Command:
    return ExampleCommand(
        "prioritise",
        callback=_prioritise,
        text=_(
            "Move a waiting JOB in its destination's queue, or all that waits of a STUDY.\n\n"
            "Rules learn from what is moved: `dcmvault rules learned`."
        ),
        params=[
            click.Argument(["job"], metavar="JOB|STUDY"),
            click.Argument(["priority"], type=click.Choice(PRIORITIES)),
            json_option(),
        ],
        examples=[
            (_("Before all others"), "dcmvault queue prioritise JOB emergency"),
            (_("A study, by its Study Instance UID"), "dcmvault queue prioritise 1.2.3 urgent"),
        ],
    )


def _list(as_json: bool) -> int:
    with opened(current_settings()) as session:
        queues, jobs = queue.queues(session.workplace), queue.jobs(session.workplace)
    if as_json:
        print_json(
            {
                "queues": [queue_data(one) for one in queues],
                "jobs": [job_data(view) for view in jobs],
                "exit_status": 0,
            }
        )
        return 0
    states = {one.destination: one.state for one in queues}
    waiting: dict[str, list[Job]] = {name: [] for name, state in states.items() if state.paused}
    for view in jobs:
        waiting.setdefault(view.destination, []).append(view.job)
    if not waiting:
        say(_("Nothing is queued."))
    for destination, some in waiting.items():
        _say_queue(destination, states.get(destination), some)
    return 0


def _say_queue(destination: str, state: QueueState | None, jobs: Sequence[Job]) -> None:
    paused = click.style(_("paused"), fg="yellow") + ", " if state and state.paused else ""
    running = sum(job.state in _RUNNING for job in jobs)
    line = _("%(waiting)s waiting, %(running)s running") % {
        "waiting": format_number(len(jobs) - running),
        "running": format_number(running),
    }
    say(f"{click.style(visible(destination), bold=True)}: {paused}{line}")
    if jobs:
        head = [_("Job"), _("State"), _("Priority"), _("Instances"), _("Size")]
        say(table(head, [_job_row(job) for job in jobs[:_SHOWN_JOBS]], right=frozenset({3, 4})))
    if (more := len(jobs) - _SHOWN_JOBS) > 0:
        say(ngettext("and %s more", "and %s more", more) % format_number(more))


def _job_row(job: Job) -> list[str]:
    return [
        job.job_id,
        job_state_word(job.state),
        priority_word(job.priority),
        format_number(job.instances),
        format_bytes(job.bytes),
    ]


def _pause(destination: str, as_json: bool) -> int:
    return _steer(
        lambda session: queue.pause(session.workplace, destination),
        _("%(name)s is paused. To go on: dcmvault queue resume %(quoted)s")
        % {"name": visible(destination), "quoted": shlex.quote(visible(destination))},
        as_json=as_json,
    )


def _resume(destination: str, as_json: bool) -> int:
    return _steer(
        lambda session: queue.resume(session.workplace, destination),
        _("%s is taken up again.") % visible(destination),
        as_json=as_json,
    )


def _cancel(run_or_job: str, as_json: bool) -> int:
    return _steer(
        lambda session: queue.cancel(session.workplace, run_or_job),
        _("%s is cancelled; what was delivered stays recorded.") % visible(run_or_job),
        as_json=as_json,
    )


def _prioritise(job: str, priority: str, as_json: bool) -> int:
    wanted = priority_of(priority)
    return _steer(
        lambda session: queue.prioritise(session.workplace, job, wanted),
        _("%(job)s has the priority “%(priority)s” now.")
        % {"job": visible(job), "priority": priority_word(wanted)},
        as_json=as_json,
    )


def _steer(action: Callable[[Session], object], done: str, *, as_json: bool) -> int:
    with opened(current_settings()) as session:
        action(session)
    if as_json:
        print_json({"message": done, "exit_status": 0})
    else:
        say(done)
    return 0
