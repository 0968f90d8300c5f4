"""A report as plain text: for mail, for a log, for a terminal of any kind."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from dcmvault.i18n import format_bytes, format_duration, format_number, ngettext
from dcmvault.i18n import gettext as _
from dcmvault.model.report import DestinationReport, Failure, RunReport
from dcmvault.reports.document_text import block_lines
from dcmvault.reports.escaping import visible
from dcmvault.reports.grouping import (
    FailureGroup,
    StudyRow,
    by_cause,
    by_study,
    coercion_sentences,
    level_label,
    unlisted_coercions,
    warning_sentences,
)
from dcmvault.reports.performance_words import performance_blocks
from dcmvault.reports.summary import duration_s
from dcmvault.reports.times import age_of_evidence, as_of, utc
from dcmvault.reports.wording import (
    hidden_files_note,
    level_meaning,
    outcomes,
    stage_label,
    state_label,
    verdict,
)

_WIDTH = 96
#: Longer lists end with a line that says how much is left out, and where it is.
_MOST_STUDIES = 200
_MOST_COERCIONS = 20
_MOST_FAILURES_OF_A_CAUSE = 50


def render(report: RunReport) -> str:
    """Render UTF-8 text without colours or commands; what is not whole comes first."""
    sections = [
        _head(report),
        *(_destination(part, report) for part in report.destinations),
        _failures(report),
        _studies(report),
        _warnings(report),
        _performance(report),
        _stages(report),
        _levels(report),
    ]
    return "\n\n".join("\n".join(lines) for section in sections if (lines := list(section))) + "\n"


def _head(report: RunReport) -> Iterator[str]:
    judged = verdict(report)
    yield from _wrapped(judged.headline)
    yield from _wrapped(judged.detail)
    yield ""
    seconds = duration_s(report)
    yield from _table(
        [
            (_("Run"), f"{report.run_id} ({state_label(report.state)})"),
            (_("Source"), report.request.source),
            (_("Studies due"), format_number(report.studies)),
            (_("Started"), utc(report.started_at)),
            (_("Finished"), utc(report.finished_at)),
            (_("Duration"), "–" if seconds is None else format_duration(seconds)),
            (_("Not DICOM"), format_number(report.not_dicom)),
            *([(_("Deleted at the source"), format_number(report.gone))] if report.gone else []),
            (_("Exit status"), str(report.exit_status)),
        ]
    )


def _destination(part: DestinationReport, report: RunReport) -> Iterator[str]:
    yield _title(part.name)
    rows = [(_("level asked"), part.level.word)]
    rows += [(outcome.label, format_number(outcome.count)) for outcome in outcomes(part, report)]
    if part.counts.selected:
        rows.append((_("size at the source"), format_bytes(part.source_bytes)))
    if part.counts.selected and report.request.kind.delivers:
        rows.append((_("transferred"), format_bytes(part.transferred_bytes)))
    if part.snapshot is not None:
        rows.append((_("snapshot"), part.snapshot))
    yield from _table(rows)


def _failures(report: RunReport) -> Iterator[str]:
    if not report.failures:
        return
    yield _title(_("What did not reach its level"))
    for group in by_cause(report.failures):
        yield from _group(group)
    yield from _wrapped(hidden_files_note(report.failures, report.run_id))


def _group(group: FailureGroup) -> Iterator[str]:
    status = f" [{group.status}]" if group.status else ""
    count = format_number(len(group.failures))
    yield from _wrapped(f"* {count} x {group.title}{status}: {group.destination}", "  ")
    if group.next_step:
        yield from _wrapped(_("Next step: %(step)s") % {"step": group.next_step}, "    ", "  ")
    if group.undone:
        return
    same_message = len(group.messages) == 1
    if same_message:
        yield from _wrapped(group.messages[0], "    ", "  ")
    for failure in group.failures[:_MOST_FAILURES_OF_A_CAUSE]:
        yield "    " + visible(_which(failure))
        if failure.message and not same_message:
            yield from _wrapped(failure.message, "      ", "      ")
    yield from _left_out(len(group.failures) - _MOST_FAILURES_OF_A_CAUSE)


def _which(failure: Failure) -> str:
    return "  ".join(part for part in (failure.sop_instance_uid, failure.locator) if part) or "–"


def _studies(report: RunReport) -> Iterator[str]:
    if not report.study_reports:
        return
    yield _title(_("Studies, as evidence stood on %(time)s") % {"time": utc(as_of(report))})
    names = [part.name for part in report.destinations]
    rows = by_study(report.study_reports, names)
    for row in rows[:_MOST_STUDIES]:
        yield from _study(row, report)
    yield from _left_out(len(rows) - _MOST_STUDIES)


def _study(row: StudyRow, report: RunReport) -> Iterator[str]:
    about = (row.study_date, row.modalities, row.patient, row.description)
    name = row.study_instance_uid or _("files that are not valid DICOM")
    yield visible("  ".join([name, *(part for part in about if part)]))
    for destination, there in row.at.items():
        held = _("%(held)s of %(all)s held") % {
            "held": format_number(there.held),
            "all": format_number(there.instances),
        }
        age = age_of_evidence(there, report)
        yield visible(f"    {held}, {level_label(there)}, {age}: {destination}")
        for sentence in coercion_sentences(there)[:_MOST_COERCIONS]:
            yield from _wrapped(sentence, "        ", "      ")
        for sentence in unlisted_coercions(there, _MOST_COERCIONS):
            yield from _wrapped(sentence, "        ", "      ")


def _warnings(report: RunReport) -> Iterator[str]:
    if warnings := warning_sentences(report):
        yield _title(_("Warnings"))
        for warning in warnings:
            yield from _wrapped(f"* {warning}", "  ")


def _performance(report: RunReport) -> Iterator[str]:
    if blocks := tuple(performance_blocks(report)):
        yield _title(_("What took the time"))
        for block in blocks:
            yield from block_lines(block)


def _stages(report: RunReport) -> Iterator[str]:
    if report.stages:
        yield _title(_("Time by stage"))
        yield from _table(
            [(stage_label(stage), format_duration(s)) for stage, s in report.stages.items()]
        )


def _levels(report: RunReport) -> Iterator[str]:
    asked = sorted({part.level for part in report.destinations})
    if asked:
        yield _title(_("How to read this"))
        for level in asked:
            yield from _wrapped(f"{level.word}: {level_meaning(level)}", "  ")


def _title(text: str) -> str:
    shown = visible(text)
    return f"{shown}\n{'-' * min(len(shown), _WIDTH)}"


def _table(rows: Sequence[tuple[str, str]]) -> Iterator[str]:
    width = max((len(label) for label, _value in rows), default=0)
    for label, value in rows:
        yield visible(f"{label.ljust(width)}  {value}")


def _wrapped(text: str, indent: str = "", first: str = "") -> Iterator[str]:
    yield from textwrap.wrap(
        visible(text),
        _WIDTH,
        initial_indent=first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _left_out(count: int) -> Iterator[str]:
    if count > 0:
        text = ngettext(
            "... and %(n)s more: see the CSV or JSON report.",
            "... and %(n)s more: see the CSV or JSON report.",
            count,
        )
        yield "    " + text % {"n": format_number(count)}
