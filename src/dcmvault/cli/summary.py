"""The summary of a run for people: first the verdict, then figures, then what failed and why."""

from __future__ import annotations

from collections.abc import Sequence

import click

from dcmvault.cli.words import reached_sentence, run_kind_word
from dcmvault.i18n import format_bytes, format_duration, format_number, ngettext
from dcmvault.i18n import gettext as _
from dcmvault.model.evidence import COERCED, Level
from dcmvault.model.plan import RunKind
from dcmvault.model.report import Counts, DestinationReport, Failure, Privacy, RunReport, RunState
from dcmvault.reports.escaping import visible
from dcmvault.reports.grouping import by_cause, warning_sentences
from dcmvault.reports.redaction import redacted
from dcmvault.reports.spoken import spoken
from dcmvault.reports.wording import hidden_files_note, is_undone, stage_label, undone

#: Failures that are shown by name; the others are counted and stand in the report.
SHOWN_FAILURES = 20
_SHOWN_WARNINGS = 20
_MESSAGES_OF_A_CAUSE = 3


def summarise(report: RunReport, *, show_locators: bool) -> str:
    """Write the summary of a run.

    `show_locators` only on the operator's own screen; elsewhere a token stands for each file name.
    """
    report = spoken(report if show_locators else redacted(report, Privacy.OFF))
    lines: list[str] = []
    for destination in report.destinations:
        lines += _verdict(report, destination)
        if not destination.is_set_back:
            lines += _figures(report, destination)
        if destination.snapshot is not None:
            lines.append("  " + _("snapshot %s") % visible(destination.snapshot))
    lines += ["", *_facts(report)]
    if warnings := warning_sentences(report):
        lines += ["", *_warnings(warnings)]
    if any(not is_undone(failure) for failure in report.failures):
        lines += ["", *_failures(report)]
    return "\n".join(lines)


def _verdict(report: RunReport, destination: DestinationReport) -> list[str]:
    counts = destination.counts
    total = counts.total
    cut_off = undone(destination, report.failures)
    short = counts.short - cut_off
    left = cut_off + max(counts.selected - counts.stored - counts.short, 0)
    words = {
        "count": format_number(total),
        "short": format_number(short),
        "left": format_number(left),
        "level": destination.level.word,
        "destination": visible(destination.name),
    }
    if destination.is_set_back:
        sentence = _("What %(destination)s held from before may be gone: it lost snapshots.")
        return [click.style(sentence % words, fg="red", bold=True)]
    if short:
        sentence = ngettext(
            "%(short)s of %(count)s instances did not reach “%(level)s” at %(destination)s.",
            "%(short)s of %(count)s instances did not reach “%(level)s” at %(destination)s.",
            short,
        )
        return [click.style(sentence % words, fg="red", bold=True)]
    if left or report.state is RunState.CANCELLED:
        sentence = _("%(left)s of %(count)s instances were left undone for %(destination)s.")
        return [click.style(sentence % words, fg="yellow", bold=True)]
    if not total and report.request.kind is RunKind.VERIFY:
        return [click.style(_("Nothing was due for verification at %(destination)s.") % words)]
    if not total and not report.request.routing.is_plain:
        return [click.style(_("Nothing was routed to %(destination)s.") % words)]
    if not total:
        sentence = _("The source holds no instances to keep at %(destination)s.")
        return [click.style(sentence % words, fg="yellow", bold=True)]
    # A claim is never green.
    colour = "yellow" if destination.level <= Level.SENT else "green"
    sentence = reached_sentence(destination.level, total) % words
    lines = [click.style(sentence, fg=colour, bold=True)]
    name = destination.name
    coerced = sum(one.code == COERCED and one.destination == name for one in report.warned)
    if coerced:
        with_coercions = ngettext(
            "%s of them with coercions: equal but for attributes declared as the peer's own.",
            "%s of them with coercions: equal but for attributes declared as the peer's own.",
            coerced,
        )
        lines.append("  " + with_coercions % format_number(coerced))
    if destination.level <= Level.SENT:
        lines.append("  " + _("The destination says that it took them; that is a claim, no proof."))
    return lines


def _figures(report: RunReport, destination: DestinationReport) -> list[str]:
    counts = destination.counts
    if not counts.selected and not counts.short:
        return ["  " + _("Nothing was left to do.")] if counts.already_held else []
    figures = [_reached(report.request.kind, counts)] if counts.selected else []
    if counts.already_held:
        figures.append(_("%s held from before") % format_number(counts.already_held))
    for count, text in (
        (counts.failed - undone(destination, report.failures), _("%s failed")),
        (counts.unreadable, _("%s unreadable")),
        (counts.conflicts, _("%s in conflict")),
    ):
        if count:
            figures.append(text % format_number(count))
    if counts.selected:
        figures.append(_("%s at the source") % format_bytes(destination.source_bytes))
    if counts.selected and report.request.kind.delivers:
        figures.append(_("%s transferred") % format_bytes(destination.transferred_bytes))
    return ["  " + ", ".join(figures)]


def _reached(kind: RunKind, counts: Counts) -> str:
    if kind is RunKind.VERIFY:
        return _("%s verified") % format_number(counts.stored)
    return _("%s stored") % format_number(counts.stored)


def _facts(report: RunReport) -> list[str]:
    facts = [(_("Run"), f"{report.run_id} ({run_kind_word(report.request.kind)})")]
    source = visible(report.request.source)
    if report.studies:
        studies = ngettext("%s study", "%s studies", report.studies)
        source = f"{source.removesuffix(':')}: {studies % format_number(report.studies)}"
    facts.append((_("Source"), source))
    if report.not_dicom:
        files = ngettext("%s file", "%s files", report.not_dicom) % format_number(report.not_dicom)
        facts.append((_("Not DICOM"), _("%s, left where they are") % files))
    if report.gone:
        gone = ngettext("%s instance", "%s instances", report.gone) % format_number(report.gone)
        facts.append((_("Deleted there"), _("%s; copies of them are kept") % gone))
    if report.finished_at is not None:
        seconds = (report.finished_at - report.started_at).total_seconds()
        stages = ", ".join(
            f"{stage_label(name)} {format_duration(spent)}"
            for name, spent in report.stages.items()
            if spent >= 0.05
        )
        took = format_duration(seconds)
        facts.append((_("Time"), f"{took} ({stages})" if stages else took))
    width = max(len(name) for name, _fact in facts)
    return [f"{name.ljust(width)}  {fact}" for name, fact in facts]


def _warnings(texts: Sequence[str]) -> list[str]:
    lines = [click.style(_("Warnings"), fg="yellow", bold=True)]
    lines += [f"  {visible(text)}" for text in texts[:_SHOWN_WARNINGS]]
    if (more := len(texts) - _SHOWN_WARNINGS) > 0:
        lines.append("  " + ngettext("and %s more", "and %s more", more) % format_number(more))
    return lines


def _failures(report: RunReport) -> list[str]:
    """List failures by cause; the first SHOWN_FAILURES by name, the others counted."""
    lines = [click.style(_("What failed"), fg="red", bold=True)]
    room = SHOWN_FAILURES
    named: list[Failure] = []
    due = {part.name: part.counts.selected for part in report.destinations}
    failed = [failure for failure in report.failures if not is_undone(failure)]
    for group in by_cause(failed):
        count = ngettext("%s instance", "%s instances", len(group.failures))
        status = f" [{group.status}]" if group.status else ""
        head = f"{count % format_number(len(group.failures))}, {group.destination}: {group.title}"
        lines.append(f"  {visible(head + status)}")
        lines += [f"    {visible(message)}" for message in group.messages[:_MESSAGES_OF_A_CAUSE]]
        if group.next_step:
            lines.append(f"    → {visible(group.next_step)}")
        # Where nothing at all arrived for one reason, the names say nothing.
        nameless = len(group.failures) == due.get(group.destination)
        some = group.failures[: 0 if nameless else max(room, 0)]
        named += some
        for failure in some:
            name = failure.sop_instance_uid or _("(no SOP Instance UID)")
            lines.append(f"    {visible(f'{name}  {failure.locator}'.rstrip())}")
        room -= 0 if nameless else len(group.failures)
    if note := hidden_files_note(named, report.run_id):
        lines.append(f"  {note}")
    if room < 0:
        more = ngettext(
            "%(count)s more instance is named by: dcmvault report %(run)s",
            "%(count)s more instances are named by: dcmvault report %(run)s",
            -room,
        )
        lines.append("  " + more % {"count": format_number(-room), "run": report.run_id})
    return lines
