"""A run's report as one HTML page."""

from __future__ import annotations

from dataclasses import dataclass

from dcmvault.i18n import format_bytes, format_duration, format_number, ngettext
from dcmvault.i18n import gettext as _
from dcmvault.model.evidence import Level
from dcmvault.model.plan import RunKind
from dcmvault.model.report import DestinationReport, RunReport, StudyReport
from dcmvault.reports.bars import Bar, bar
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
from dcmvault.reports.pages import render_page
from dcmvault.reports.performance_words import performance_blocks
from dcmvault.reports.summary import duration_s, lowest_level
from dcmvault.reports.times import age_of_evidence, as_of, utc
from dcmvault.reports.wording import (
    hidden_files_note,
    level_meaning,
    outcomes,
    stage_label,
    state_label,
    verdict,
)

#: A page stays readable and small; the rest is in the CSV, and the page says so.
_MOST_STUDIES = 1000
_MOST_NOTES = 20
_MOST_FAILURES_OF_A_CAUSE = 200
#: Seconds; a stage that took less would be shown as 0.0.
_LEAST_SHOWN_S = 0.05


def render(report: RunReport) -> str:
    """Render the page in the language in use."""
    names = [part.name for part in report.destinations]
    rows = by_study(report.study_reports, names)
    return render_page(
        "report.html",
        words=fixed_words(report),
        report=report,
        warnings=warning_sentences(report),
        verdict=verdict(report),
        figures=figures(report),
        facts=facts(report),
        parts=[_part(part, report) for part in report.destinations],
        stages=stages_bar(report),
        performance=tuple(performance_blocks(report)),
        groups=[_group(group) for group in by_cause(report.failures)],
        hidden_files=hidden_files_note(report.failures, report.run_id),
        names=names,
        has_patients=any(row.patient or row.description for row in rows),
        studies=[_study(row, names, report) for row in rows[:_MOST_STUDIES]],
        studies_left_out=_left_out(len(rows) - _MOST_STUDIES),
        levels=[(level.word, level_meaning(level), _tone(level)) for level in list(Level)[1:]],
    )


def fixed_words(report: RunReport) -> dict[str, str]:
    """Return the page's fixed words."""
    titles = {
        RunKind.BACKUP: _("Backup report"),
        RunKind.VERIFY: _("Verification report"),
        RunKind.RESTORE: _("Restore report"),
    }
    return {
        "title": titles[report.request.kind],
        "destinations": _("Evidence by destination"),
        "performance": _("What took the time"),
        "stages": _("Time by stage"),
        "stages_note": _("Stages work side by side: their sum may exceed the duration."),
        "failures": _("What did not reach its level"),
        "next_step": _("Next step"),
        "study": _("Study"),
        "instance": _("Instance"),
        "file": _("File at the source"),
        "message": _("What happened"),
        "studies": _("Studies, as evidence stood on %(time)s") % {"time": utc(as_of(report))},
        "date": _("Date"),
        "modality": _("Modality"),
        "patient": _("Patient"),
        "opaque": _("files that are not valid DICOM"),
        "warnings": _("Warnings"),
        "how_to_read": _("How to read this"),
        "claim_note": _(
            "What a destination says about itself is a claim. Only what was looked up or read back "
            "afterwards is evidence, and only evidence is shown in green. From the weakest to the "
            "strongest:"
        ),
        "run": _("The run"),
        "asked": _("level asked"),
        "footer": _("Made by dcmvault. Times are UTC."),
    }


def figures(report: RunReport) -> list[tuple[str, str]]:
    """Return the big numbers: value and label; none of a run that ended before it planned."""
    if not report.destinations:
        return []
    counts = report.counts
    claim = lowest_level(report) <= Level.SENT
    seconds = duration_s(report)
    moved = sum(part.transferred_bytes for part in report.destinations)
    took = ("–" if seconds is None else format_duration(seconds), _("duration"))
    studies = ngettext("study in this run", "studies in this run", report.studies)
    if report.request.kind is RunKind.VERIFY:
        return [
            (format_number(report.studies), studies),
            (format_number(counts.selected), _("to be verified")),
            (format_number(counts.stored), _("verified")),
            took,
        ]
    return [
        (format_number(report.studies), studies),
        (format_number(counts.selected), _("due in this run")),
        (format_number(counts.stored), _("sent") if claim else _("reached the level")),
        (
            format_number(counts.already_held),
            _("sent earlier") if claim else _("held already"),
        ),
        (format_bytes(moved), _("transferred")),
        took,
    ]


def facts(report: RunReport) -> list[tuple[str, str]]:
    """Return what is to be known of the run itself."""
    return [
        (_("Run"), report.run_id),
        (_("State"), state_label(report.state)),
        (_("Source"), report.request.source),
        (_("Strategy"), report.request.strategy.value),
        (_("Started"), utc(report.started_at)),
        (_("Finished"), utc(report.finished_at)),
        (_("Files that are not DICOM"), format_number(report.not_dicom)),
        (_("Deleted at the source"), format_number(report.gone)),
        (_("Exit status"), str(report.exit_status)),
    ]


@dataclass(frozen=True, slots=True)
class _Part:
    """One destination with its evidence bar."""

    name: str
    level: str
    bar: Bar
    volume: str
    snapshot: str


def _part(part: DestinationReport, report: RunReport) -> _Part:
    ends = outcomes(part, report)
    volume = ""
    if part.counts.selected and report.request.kind is RunKind.VERIFY:
        volume = _("%s at the source") % format_bytes(part.source_bytes)
    elif part.counts.selected:
        volume = _("%(source)s at the source, %(transferred)s transferred") % {
            "source": format_bytes(part.source_bytes),
            "transferred": format_bytes(part.transferred_bytes),
        }
    segments = [
        (outcome.kind, outcome.label, float(outcome.count), format_number(outcome.count))
        for outcome in ends
    ]
    snapshot = "" if part.snapshot is None else _("snapshot %s") % part.snapshot
    return _Part(part.name, part.level.word, bar(segments), volume, snapshot)


def stages_bar(report: RunReport) -> Bar:
    """Lay out the seconds of each stage that took a noticeable time."""
    return bar(
        [
            (f"stage{number % 5}", stage_label(stage), seconds, format_duration(seconds))
            for number, (stage, seconds) in enumerate(report.stages.items())
            if seconds >= _LEAST_SHOWN_S
        ]
    )


@dataclass(frozen=True, slots=True)
class _Group:
    """A cause, cut to what a page can show."""

    group: FailureGroup
    count: str
    #: Set when all failures say the same; then the rows do not repeat it.
    message: str
    has_uids: bool
    has_files: bool
    left_out: str


def _group(group: FailureGroup) -> _Group:
    count, messages = len(group.failures), group.messages
    if group.undone:
        group.failures = []
        return _Group(group, format_number(count), "", has_uids=False, has_files=False, left_out="")
    has_uids = any(failure.sop_instance_uid for failure in group.failures)
    has_files = any(failure.locator for failure in group.failures)
    left_out = _left_out(count - _MOST_FAILURES_OF_A_CAUSE)
    group.failures = group.failures[:_MOST_FAILURES_OF_A_CAUSE]
    message = messages[0] if len(messages) == 1 else ""
    return _Group(group, format_number(count), message, has_uids, has_files, left_out)


@dataclass(frozen=True, slots=True)
class _Cell:
    """One study at one destination."""

    tone: str
    held: str
    level: str
    age: str
    notes: tuple[str, ...] = ()


def _study(row: StudyRow, names: list[str], report: RunReport) -> tuple[StudyRow, list[_Cell]]:
    return row, [_cell(row.at.get(name), report) for name in names]


def _cell(there: StudyReport | None, report: RunReport) -> _Cell:
    if there is None:
        return _Cell("none", "–", "", "")
    held = f"{format_number(there.held)} / {format_number(there.instances)}"
    tone = "bad" if there.held < there.instances else _tone(there.level)
    notes = (
        *coercion_sentences(there)[:_MOST_NOTES],
        *unlisted_coercions(there, _MOST_NOTES),
    )
    return _Cell(tone, held, level_label(there), age_of_evidence(there, report), notes)


def _tone(level: Level) -> str:
    if level > Level.SENT:
        return "good"
    return "claim" if level is Level.SENT else "bad"


def _left_out(count: int) -> str:
    if count <= 0:
        return ""
    text = ngettext(
        "... and %(n)s more: see the CSV or JSON report.",
        "... and %(n)s more: see the CSV or JSON report.",
        count,
    )
    return text % {"n": format_number(count)}
