"""`dcmvault restore`: files come back from a vault, bit for bit."""

from __future__ import annotations

from pathlib import Path

import click

from dcmvault.app.restore import (
    RestoreFailure,
    RestoreReport,
    RestoreRequest,
    restore,
)
from dcmvault.cli.building import ExampleCommand, json_option, progress_option
from dcmvault.cli.interrupts import stoppable
from dcmvault.cli.output import is_operators_screen, print_json, say
from dcmvault.cli.restore_progress import restore_shown
from dcmvault.cli.session import current_settings
from dcmvault.cli.vault_views import (
    as_of_option,
    asked_moment,
    snapshot_line,
    snapshot_option,
    vault_argument,
)
from dcmvault.i18n import format_bytes, format_duration, format_number, ngettext, sentence
from dcmvault.i18n import gettext as _
from dcmvault.model.restored import Layout
from dcmvault.model.selection import Selection
from dcmvault.reports.escaping import locator_token, visible

#: Failures that are shown by name on a terminal; `--json` has all.
_SHOWN_FAILURES = 50


def command() -> click.Command:
    """Build the command in the language in use."""
    return ExampleCommand(
        "restore",
        callback=_restore,
        text=_(
            "Restore files from VAULT into FOLDER, bit for bit, under the names that they had "
            "below their source.\n\n"
            "Each file is verified by its SHA-256 before it gets its name. A file that is there "
            "already is left, and another file of that name is never overwritten: so the same "
            "command goes on after an interruption. Exit status: 0 if everything selected is in "
            "FOLDER, 3 if some is not."
        ),
        params=[
            vault_argument(),
            click.Argument(["folder"], metavar="FOLDER", type=click.Path(path_type=Path)),
            click.Option(
                ["--study"],
                multiple=True,
                metavar="UID",
                help=_("Only this study (“-”: files that are no instances); may be repeated."),
            ),
            click.Option(
                ["--series"],
                multiple=True,
                metavar="UID",
                help=_("Only this series, beside the studies asked for; may be repeated."),
            ),
            click.Option(
                ["--layout"],
                type=click.Choice([Layout.ORIGINAL.value, Layout.LIBRARY.value]),
                default=Layout.ORIGINAL.value,
                show_default=True,
                help=_("Names of the files: those below their source, or a library of the viewer."),
            ),
            snapshot_option(),
            as_of_option(),
            json_option(),
            progress_option(),
        ],
        examples=[
            (_("Everything"), "dcmvault restore vault:/backup ./restored"),
            (_("One study"), "dcmvault restore disk ./restored --study 1.2.3"),
            (_("As it was in the morning"), "dcmvault restore disk ./old --as-of 2026-01-31T08:00"),
        ],
    )


def _restore(
    vault: str,
    folder: Path,
    study: tuple[str, ...],
    series: tuple[str, ...],
    layout: str,
    snapshot: str,
    as_of: str,
    as_json: bool,
    progress: str,
) -> int:
    request = RestoreRequest(
        vault, folder, Selection(study, series), snapshot, asked_moment(as_of), Layout(layout)
    )
    settings = current_settings()
    with stoppable() as stop, restore_shown(progress) as watch:
        report = restore(settings, request, watch, stop)
    if as_json:
        print_json(_object(report))
    else:
        _say_report(report)
    return report.exit_status


def _say_report(report: RestoreReport) -> None:
    if report.snapshots:
        say(_("Snapshot %s") % snapshot_line(report.snapshots))
    there = report.written.files + report.already_there.files
    words = {
        "there": format_number(there),
        "files": format_number(report.selected.files),
        "folder": visible(str(report.folder)),
    }
    if report.failures:
        text = ngettext(
            "%(there)s of %(files)s file is restored in %(folder)s; the rest is not.",
            "%(there)s of %(files)s files are restored in %(folder)s; the rest is not.",
            report.selected.files,
        )
        say(click.style(text % words, fg="red", bold=True))
    elif not there:
        say(_("The vault holds nothing to restore."))
    else:
        text = ngettext(
            "The %(files)s file is restored in %(folder)s: its SHA-256 is the one that was stored.",
            "All %(files)s files are restored in %(folder)s: each has the SHA-256 that was stored.",
            report.selected.files,
        )
        say(click.style(text % words, fg="green", bold=True))
    say("  " + ", ".join(_figures(report)))
    for remark in report.remarks:
        say(visible(remark))
    if report.failures:
        _say_failures(report.failures)


def _figures(report: RestoreReport) -> list[str]:
    studies = ngettext("%s study", "%s studies", report.studies)
    figures = [
        studies % format_number(report.studies),
        _("%(count)s written (%(size)s)")
        % {
            "count": format_number(report.written.files),
            "size": format_bytes(report.written.bytes),
        },
    ]
    if report.already_there.files:
        figures.append(_("%s there already") % format_number(report.already_there.files))
    if report.library_files:
        figures.append(_("%s of the library itself") % format_number(report.library_files))
    if report.failures:
        figures.append(_("%s failed") % format_number(len(report.failures)))
    return [*figures, format_duration(report.duration_s)]


def _say_failures(failures: list[RestoreFailure]) -> None:
    say()
    say(click.style(_("What failed"), fg="red", bold=True))
    show_names = is_operators_screen()
    for failure in failures[:_SHOWN_FAILURES]:
        name = failure.sop_instance_uid or failure.study_instance_uid
        locator = failure.locator if show_names else locator_token(failure.locator)
        head = "  ".join(part for part in (name, locator) if part)
        told = visible(sentence(failure.message))
        say(f"  {visible(head)}: {told}" if head else f"  {told}")
    if (more := len(failures) - _SHOWN_FAILURES) > 0:
        say("  " + ngettext("and %s more", "and %s more", more) % format_number(more))
    hints = dict.fromkeys(failure.hint for failure in failures if failure.hint)
    if any(failure.code == "vault_damaged" for failure in failures):
        hints[_("`dcmvault vault repair` mends what can be mended.")] = None
    for hint in hints:
        say(f"  → {visible(sentence(hint))}")


def _object(report: RestoreReport) -> dict[str, object]:
    return {
        "vault": report.vault,
        "folder": str(report.folder),
        "snapshots": [
            {"name": link.name, "created_at": link.created_at} for link in report.snapshots
        ],
        "as_of": None if report.as_of is None else report.as_of.isoformat(),
        "studies": report.studies,
        "files": {
            "selected": report.selected.files,
            "written": report.written.files,
            "already_there": report.already_there.files,
            "failed": sum(failure.is_file for failure in report.failures),
        },
        "bytes": {
            "selected": report.selected.bytes,
            "written": report.written.bytes,
            "already_there": report.already_there.bytes,
        },
        "library_files": report.library_files,
        "duration_s": round(report.duration_s, 3),
        "exit_status": report.exit_status,
        "remarks": report.remarks,
        "failures": [
            {
                "sop_instance_uid": failure.sop_instance_uid,
                "study_instance_uid": failure.study_instance_uid,
                "locator": failure.locator,
                "code": failure.code,
                "message": failure.message,
                "hint": failure.hint,
            }
            for failure in report.failures
        ],
        "error": None,
    }
