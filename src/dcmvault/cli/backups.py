"""What `backup` and `run` share: one run per source, one after the other, and what they come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import click

from dcmvault.app.preview import Preview, preview
from dcmvault.app.watching import watch_and_back_up
from dcmvault.cli.building import json_option, progress_option
from dcmvault.cli.classification_views import explained_lines, explained_objects
from dcmvault.cli.interrupts import stoppable
from dcmvault.cli.output import print_json, say
from dcmvault.cli.runs import Done, carry_out
from dcmvault.cli.session import Session, opened
from dcmvault.config.settings import Settings
from dcmvault.errors import UsageError
from dcmvault.i18n import format_bytes, format_number, ngettext, sentence
from dcmvault.i18n import gettext as _
from dcmvault.model.plan import RunRequest
from dcmvault.reports.escaping import visible
from dcmvault.reports.wording import reason_word

_REACHED, _SOME_FAILED = 0, 3


@dataclass(frozen=True, slots=True)
class How:
    """How backups are carried out and shown; as the options of `how_options` are called."""

    explain: bool
    dry_run: bool
    watch: bool
    settle_s: float
    rescan_s: float
    as_json: bool
    progress: str
    accept_changes: bool


def how_options() -> list[click.Parameter]:
    """Build the options that all commands have which back up."""
    return [
        click.Option(
            ["--explain"],
            is_flag=True,
            help=_(
                "Say of every instance why it is due, first, and of every study what rules say."
            ),
        ),
        click.Option(
            ["--dry-run"], is_flag=True, help=_("Say what would be done, and send nothing.")
        ),
        click.Option(
            ["--accept-changes"],
            is_flag=True,
            help=_("Go on although much of a source changed, or is gone, since its last backup."),
        ),
        *_watch_options(),
        json_option(),
        progress_option(),
    ]


def _watch_options() -> list[click.Option]:
    """Build --watch, --settle and --rescan."""
    return [
        click.Option(
            ["--watch"],
            is_flag=True,
            help=_(
                "Go on until it is stopped (Ctrl-C, SIGTERM): back up again whenever the file "
                "system says that a source changed, and at an interval anyway."
            ),
        ),
        click.Option(
            ["--settle", "settle_s"],
            type=click.FloatRange(0, 3600),
            default=30,
            show_default=True,
            metavar=_("SECONDS"),
            help=_("With --watch: nothing must change for so long before a run begins."),
        ),
        click.Option(
            ["--rescan", "rescan_s"],
            type=click.FloatRange(1, 7 * 24 * 3600),
            default=900,
            show_default=True,
            metavar=_("SECONDS"),
            help=_(
                "With --watch: how often a source is looked through where nothing announces its "
                "changes (network volumes, a PACS), and otherwise, too."
            ),
        ),
    ]


def begin(settings: Settings, requests: Sequence[RunRequest], how: How) -> int:
    """Carry out backups in turn, or watch their sources; return the exit status of all together."""
    if how.watch:
        if how.as_json or how.explain or how.dry_run:
            raise UsageError(
                _("--watch goes with none of --json, --explain and --dry-run."),
                hint=_("`dcmvault report` shows single runs, also as JSON."),
            )
        if how.accept_changes:
            raise UsageError(
                _("--accept-changes is for a single run."), hint=_("Leave out --watch.")
            )
        return _watch(settings, requests, how)
    return _carry_out_all(settings, requests, how)


def _watch(settings: Settings, requests: Sequence[RunRequest], how: How) -> int:
    """Back up whenever sources change, until SIGINT or SIGTERM; return the last exit status.

    Of a run that found nothing to do one line is shown, of every other its summary.
    """
    with opened(settings) as session, stoppable() as stop:

        def carry_out_once(request: RunRequest) -> int:
            done = carry_out(session, request, as_json=False, progress=how.progress, briefly=True)
            return done.exit_status

        statuses = watch_and_back_up(
            session.workplace,
            requests,
            carry_out_once,
            settle_s=how.settle_s,
            rescan_s=how.rescan_s,
            stop=stop,
        )
    return worst(statuses)


def _carry_out_all(settings: Settings, requests: Sequence[RunRequest], how: How) -> int:
    """Carry out backups in turn, each shown as it ends.

    A source that cannot be read does not keep the others from being backed up. A JSON object has
    the runs of several sources in a list; of one source it is that run's summary.
    """
    with opened(settings) as session:
        foretold = [
            _foretell(session, request, how, titled=len(requests) > 1)
            for request in (requests if how.explain or how.dry_run else ())
        ]
        if how.dry_run:
            if how.as_json:
                print_json(_dry_run(foretold))
            return 0
        done = []
        for number, request in enumerate(requests):
            if number and not how.as_json:
                say("")
            done.append(carry_out(session, request, as_json=how.as_json, progress=how.progress))
    if how.as_json:
        objects = [
            one.summary
            if not how.explain
            else {
                **one.summary,
                "explanation": foretold[number]["explanation"],
                "classification": foretold[number]["classification"],
            }
            for number, one in enumerate(done)
        ]
        print_json(objects[0] if len(objects) == 1 else _together(done, objects))
    elif len(done) > 1:
        say("\n".join(["", *_verdicts(done)]))
    return worst([one.exit_status for one in done])


def worst(exit_statuses: Sequence[int]) -> int:
    """Return the exit status of several runs: an error counts more than what failed in a run."""
    errors = [status for status in exit_statuses if status not in (_REACHED, _SOME_FAILED)]
    return errors[0] if errors else max(exit_statuses)


def _verdicts(done: Sequence[Done]) -> list[str]:
    words = {
        _REACHED: _("everything reached its level"),
        _SOME_FAILED: _("some instances did not reach their level"),
    }
    failed = _("the run ended by an error")
    good = sum(one.exit_status == _REACHED for one in done)
    lines = [
        _("%(good)s of %(count)s sources are backed up as asked:")
        % {"good": format_number(good), "count": format_number(len(done))}
    ]
    return lines + [
        f"  {visible(one.source)}: {words.get(one.exit_status, failed)}" for one in done
    ]


def _together(done: Sequence[Done], runs: Sequence[dict[str, object]]) -> dict[str, object]:
    counts = done[0].counts
    for one in done[1:]:
        counts = counts + one.counts
    return {
        "runs": list(runs),
        "instances": {
            "selected": counts.selected,
            "already_held": counts.already_held,
            "stored": counts.stored,
            "failed": counts.failed,
            "unreadable": counts.unreadable,
            "conflicts": counts.conflicts,
        },
        "exit_status": worst([one.exit_status for one in done]),
    }


def _dry_run(foretold: Sequence[dict[str, object]]) -> dict[str, object]:
    if len(foretold) == 1:
        return {"dry_run": True, **foretold[0], "exit_status": 0}
    return {"dry_run": True, "runs": list(foretold), "exit_status": 0}


def _foretell(
    session: Session, request: RunRequest, how: How, *, titled: bool
) -> dict[str, object]:
    """Look at what would be done; show it to people, or return it for JSON."""
    if titled and not how.as_json:
        say(f"{visible(request.source)}:")
    seen = preview(session.workplace, request, explain=how.explain)
    explanation: list[dict[str, str]] = []
    if how.explain:
        if not how.as_json:
            for line in explained_lines(seen.explained, request.strategy):
                say(line)
        for destination, item in seen.items():
            if how.as_json:
                explanation.append(
                    {
                        "study_instance_uid": item.identity.study_instance_uid,
                        "series_instance_uid": item.identity.series_instance_uid,
                        "sop_instance_uid": item.identity.sop_instance_uid,
                        "destination": destination,
                        "reason": item.reason,
                    }
                )
            else:
                name = item.identity.sop_instance_uid or _("(no SOP Instance UID)")
                say(f"{name}  {visible(destination)}  {reason_word(item.reason)}")
    if how.as_json:
        told = {"source": request.source, **_foretold(seen), "explanation": explanation}
        if how.explain:
            told["classification"] = explained_objects(seen.explained)
        return told
    _say_foretold(seen)
    return {}


def _foretold(seen: Preview) -> dict[str, object]:
    return {
        "studies": seen.studies,
        "unreadable": seen.unreadable,
        "not_dicom": seen.not_dicom,
        "warnings": list(seen.warnings),
        "destinations": [
            {
                "name": one.name,
                "level": one.level.word,
                "selected": one.selected,
                "already_held": one.already_held,
                "bytes": one.bytes,
                "reasons": dict(one.reasons),
            }
            for one in seen.destinations
        ],
    }


def _say_foretold(seen: Preview) -> None:
    for one in seen.destinations:
        due = ngettext("%s instance due", "%s instances due", one.selected)
        say(
            f"{visible(one.name)}: {due % format_number(one.selected)} "
            f"({format_bytes(one.bytes)}), "
            + _("%(held)s held already, level “%(level)s”")
            % {"held": format_number(one.already_held), "level": one.level.word}
        )
        for reason, count in one.reasons.items():
            say(f"    {format_number(count)}  {reason_word(reason)}")
    for count, text in (
        (seen.unreadable, _("Unreadable: %s")),
        (seen.not_dicom, _("Not DICOM: %s")),
    ):
        if count:
            say(text % format_number(count))
    for warning in seen.warnings:
        say(sentence(warning))
