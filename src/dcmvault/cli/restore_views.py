"""How restores are shown: a verdict, figures, what failed; and the object for JSON."""

from __future__ import annotations

import click

from dcmvault.app.restore_report import RestoreFailure, RestoreReport
from dcmvault.cli.output import is_operators_screen, say
from dcmvault.cli.vault_views import snapshot_line
from dcmvault.i18n import format_bytes, format_duration, format_number, ngettext, sentence
from dcmvault.i18n import gettext as _
from dcmvault.reports.escaping import locator_token, visible

#: Failures that are shown by name on a terminal; `--json` has all.
_SHOWN_FAILURES = 50


def say_restored(report: RestoreReport) -> None:
    """Show what a restore into a folder or a ZIP file did."""
    if report.snapshots:
        say(_("Snapshot %s") % snapshot_line(report.snapshots))
    there = report.written.files + report.already_there.files
    words = {
        "there": format_number(there),
        "files": format_number(report.selected.files),
        "folder": visible(report.target),
    }
    if report.failures:
        text = ngettext(
            "%(there)s of %(files)s file is restored in %(folder)s; the rest is not.",
            "%(there)s of %(files)s files are restored in %(folder)s; the rest is not.",
            report.selected.files,
        )
        say(click.style(text % words, fg="red", bold=True))
    elif not there:
        say(_("There is nothing to restore."))
    else:
        text = ngettext(
            "The %(files)s file is restored in %(folder)s, read back, with the right SHA-256.",
            "All %(files)s files are restored in %(folder)s, read back, with the right SHA-256.",
            report.selected.files,
        )
        say(click.style(text % words, fg="green", bold=True))
    say("  " + ", ".join(_figures(report)))
    for remark in report.remarks:
        say(f"  {visible(remark)}")
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


def restored_object(report: RestoreReport) -> dict[str, object]:
    """Return what a restore into a folder or a ZIP file did for JSON."""
    return {
        "source": report.source,
        "target": report.target,
        "layout": report.layout.value,
        "snapshots": [
            {"name": link.name, "created_at": link.created_at} for link in report.snapshots
        ],
        "as_of": None if report.as_of is None else report.as_of.isoformat(),
        "studies": report.studies,
        "files": {
            "selected": report.selected.files,
            "written": report.written.files,
            "already_there": report.already_there.files,
            "read_back": report.read_back.files,
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
