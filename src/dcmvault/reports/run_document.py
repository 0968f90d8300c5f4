"""A run's report put together for paper; its page on the screen is `as_html`."""

from __future__ import annotations

from collections.abc import Iterator

from dcmvault.i18n import format_bytes, format_duration, format_number
from dcmvault.i18n import gettext as _
from dcmvault.model.evidence import Level
from dcmvault.model.report import DestinationReport, RunReport, StudyReport
from dcmvault.reports import as_html
from dcmvault.reports.bars import bar
from dcmvault.reports.document import Card, Cell, Document, Facts, Note, Section, Step, Table
from dcmvault.reports.grouping import (
    FailureGroup,
    by_cause,
    by_study,
    level_label,
    warning_sentences,
)
from dcmvault.reports.performance_words import performance_blocks
from dcmvault.reports.period_document import left_out
from dcmvault.reports.times import age_of_evidence, as_of, utc
from dcmvault.reports.wording import (
    Tone,
    hidden_files_note,
    level_meaning,
    outcomes,
    stage_label,
    verdict,
)

_MOST_STUDIES = 500
_MOST_FAILURES = 50


def run_document(report: RunReport) -> Document:
    """Put the report together in the language in use."""
    judged = verdict(report)
    words = as_html.fixed_words(report)
    return Document(
        title=words["title"],
        tone=judged.tone,
        headline=judged.headline,
        detail=judged.detail,
        figures=tuple(as_html.figures(report)),
        sections=(
            Section(words["destinations"], tuple(_part(p, report) for p in report.destinations)),
            Section(words["failures"], tuple(_failures(report))),
            Section(words["warnings"], tuple(map(Note, warning_sentences(report)))),
            Section(words["studies"], tuple(_studies(report))),
            Section(words["performance"], tuple(performance_blocks(report))),
            Section(words["stages"], tuple(_stages(report))),
            Section(words["how_to_read"], (Note(words["claim_note"]), _levels())),
            Section(words["run"], (Facts(tuple(as_html.facts(report))),)),
        ),
        footer=words["footer"],
        kicker=report.run_id,
    )


def _part(part: DestinationReport, report: RunReport) -> Card:
    segments = [
        (outcome.kind, outcome.label, float(outcome.count), format_number(outcome.count))
        for outcome in outcomes(part, report)
    ]
    moved = _("%(source)s at the source, %(transferred)s transferred") % {
        "source": format_bytes(part.source_bytes),
        "transferred": format_bytes(part.transferred_bytes),
    }
    asked = _("level asked")
    return Card(part.name, f"{asked}: {part.level.word}", (bar(segments), Note(moved)))


def _failures(report: RunReport) -> Iterator[Card | Note | Table]:
    for group in by_cause(report.failures):
        yield _group(group)
        if not group.undone:
            yield from _listed(group)
    if note := hidden_files_note(report.failures, report.run_id):
        yield Note(note)


def _group(group: FailureGroup) -> Card:
    blocks: list[Note | Step] = [Note(message) for message in group.messages[:1]]
    if group.next_step:
        blocks.append(Step(_("Next step"), group.next_step))
    title = f"{format_number(len(group.failures))} × {group.title}"
    aside = " · ".join(filter(None, (group.destination, group.status, group.code)))
    return Card(title, aside, tuple(blocks))


def _listed(group: FailureGroup) -> Iterator[Table | Note]:
    rows = tuple(
        (
            Cell(failure.sop_instance_uid or "–", code=True),
            Cell(failure.locator or failure.study_instance_uid, code=True),
        )
        for failure in group.failures[:_MOST_FAILURES]
    )
    yield Table((_("Instance"), _("File at the source")), rows, (0.5, 0.5))
    if len(group.failures) > _MOST_FAILURES:
        yield Note(left_out(len(group.failures) - _MOST_FAILURES))


def _studies(report: RunReport) -> Iterator[Table | Note]:
    names = [part.name for part in report.destinations]
    rows = by_study(report.study_reports, names)
    if not rows:
        return
    lines = [
        (
            Cell(row.study_instance_uid or "–", code=True),
            Cell(row.study_date or "–"),
            Cell(row.modalities or "–"),
            *([Cell(row.patient)] if _has_patients(report) else []),
            Cell(destination),
            _held(there),
            Cell(age_of_evidence(there, report)),
        )
        for row in rows[:_MOST_STUDIES]
        for destination, there in row.at.items()
    ]
    head: tuple[str, ...] = (_("Study"), _("Date"), _("Modality"))
    shares: tuple[float, ...] = (0.28, 0.1, 0.09, 0.19, 0.16, 0.18)
    if _has_patients(report):
        head, shares = (*head, _("Patient")), (0.22, 0.09, 0.08, 0.15, 0.15, 0.15, 0.16)
    yield Table((*head, _("Destination"), _("Evidence"), _("Age")), tuple(lines), shares)
    if len(rows) > _MOST_STUDIES:
        yield Note(left_out(len(rows) - _MOST_STUDIES))
    yield Note(_("as of %s") % utc(as_of(report)))


def _has_patients(report: RunReport) -> bool:
    return any(study.patient_name or study.patient_id for study in report.study_reports)


def _held(there: StudyReport) -> Cell:
    counted = f"{format_number(there.held)} / {format_number(there.instances)}"
    if there.held < there.instances or there.level is Level.NONE:
        tone = Tone.BAD
    else:
        tone = Tone.GOOD if there.level > Level.SENT else Tone.CLAIM
    return Cell(f"{counted} {level_label(there)}", tone)


def _stages(report: RunReport) -> Iterator[Facts | Note]:
    if report.stages:
        yield Facts(
            tuple((stage_label(stage), format_duration(s)) for stage, s in report.stages.items())
        )
        yield Note(_("Stages work side by side: their sum may exceed the duration."))


def _levels() -> Facts:
    return Facts(tuple((level.word, level_meaning(level)) for level in list(Level)[1:]))
