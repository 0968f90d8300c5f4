"""`dcmvault safe-to-delete`: which originals may be deleted, and why others not yet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from dcmvault.app.safe_to_delete import safe_to_delete
from dcmvault.cli.building import ExampleCommand, json_option
from dcmvault.cli.counting import tell_count
from dcmvault.cli.output import mark, print_json, say, tell, write_private
from dcmvault.cli.session import current_settings, opened
from dcmvault.errors import StateError
from dcmvault.i18n import format_bytes, format_number, ngettext, sentence
from dcmvault.i18n import gettext as _
from dcmvault.model.deletion import DeletionReport, DeletionVerdict, SourceVerdicts
from dcmvault.reports.deletion_html import render as render_html
from dcmvault.reports.deletion_tables import as_csv, as_object
from dcmvault.reports.deletion_words import policy_sentence, reason_sentence
from dcmvault.reports.escaping import visible

#: Studies of each answer that a terminal is shown.
_SHOWN = 40


def command() -> click.Command:
    """Build the command in the language in use."""
    return ExampleCommand(
        "safe-to-delete",
        callback=_safe_to_delete,
        text=_(
            "Say which studies of SOURCE may be deleted there, by the policy in the "
            "configuration, and every reason why others should not be yet.\n\n"
            "The source is listed anew. dcmvault itself never deletes at a source. Exit status: "
            "0, also if some studies are not yet safe; 3 if a study named by --study is not, or a "
            "source could not be looked at."
        ),
        params=[
            click.Argument(["source"], metavar="[SOURCE]", default=""),
            click.Option(
                ["--study", "studies"],
                multiple=True,
                metavar="UID",
                help=_("Only this study. May be given several times."),
            ),
            click.Option(
                ["--csv", "csv_file"],
                metavar="FILE",
                help=_("Write a row for each study to this file (mode 0600)."),
            ),
            click.Option(
                ["--html", "html_file"],
                metavar="FILE",
                help=_("Write a page to this file (mode 0600)."),
            ),
            json_option(),
        ],
        examples=[
            (
                _("May this study go?"),
                "dcmvault safe-to-delete horos --study 1.2.840.99999.1",
            ),
            (
                _("A list to work through"),
                "dcmvault safe-to-delete horos --csv safe.csv --html safe.html",
            ),
        ],
    )


def _safe_to_delete(
    source: str,
    studies: tuple[str, ...],
    csv_file: str | None,
    html_file: str | None,
    as_json: bool,
) -> int:
    settings = current_settings()
    with opened(settings) as session:
        report = safe_to_delete(session.workplace, source, studies, tell_count())
    if csv_file is not None:
        _write(csv_file, as_csv(report))
    if html_file is not None:
        _write(html_file, render_html(report))
    if as_json:
        print_json(as_object(report))
        return report.exit_status
    _say_report(report)
    for written in (csv_file, html_file):
        if written is not None:
            tell(_("Written: %s") % visible(written))
    return report.exit_status


def _write(name: str, text: str) -> None:
    path = Path(name).absolute()
    try:
        write_private(path, text)
    except OSError as error:
        raise StateError(
            _("The report cannot be written."), hint=f"{path}: {error.strerror}"
        ) from None


def _say_report(report: DeletionReport) -> None:
    if not report.sources:
        say(_("Nothing was backed up yet. Begin with: dcmvault backup SOURCE --to DESTINATION"))
        return
    for source in report.sources:
        _say_source(source)
    say(policy_sentence(report.policy))
    say(_("dcmvault itself never deletes at a source."))


def _say_source(source: SourceVerdicts) -> None:
    say(click.style(visible(source.facts.source), bold=True))
    if source.error is not None:
        _code, message, hint = source.error
        say(f"  {mark(ok=False)} {visible(sentence(message))}")
        if hint:
            say(f"    {visible(sentence(hint))}")
        say()
        return
    total = len(source.verdicts)
    words = {"safe": format_number(source.safe), "studies": format_number(total)}
    headline = ngettext(
        "%(safe)s of %(studies)s study may be deleted there.",
        "%(safe)s of %(studies)s studies may be deleted there.",
        total,
    )
    say(f"  {headline % words}")
    _say_verdicts([one for one in source.verdicts if one.is_safe])
    _say_verdicts([one for one in source.verdicts if not one.is_safe])
    say()


def _say_verdicts(verdicts: Sequence[DeletionVerdict]) -> None:
    for verdict in verdicts[:_SHOWN]:
        study = verdict.facts
        instances = ngettext("%s instance", "%s instances", study.instances)
        size = f"{instances % format_number(study.instances)}, {format_bytes(study.bytes)}"
        say(f"  {mark(verdict.is_safe)} {visible(study.study_instance_uid)}  {size}")
        for reason in verdict.reasons:
            say(f"      {visible(reason_sentence(reason))}")
    left = len(verdicts) - _SHOWN
    if left > 0:
        more = ngettext("... and %s more: see --csv.", "... and %s more: see --csv.", left)
        say(f"    {more % format_number(left)}")
