"""Times and ages as reports write them: UTC, with its name."""

from __future__ import annotations

from datetime import UTC, datetime

from dcmvault.i18n import format_duration
from dcmvault.i18n import gettext as _
from dcmvault.model.evidence import Level
from dcmvault.model.report import RunReport, StudyReport


def utc(moment: datetime | None) -> str:
    """Write a moment as 2026-01-31 02:00:05 UTC; a dash for none."""
    return "–" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def as_of(report: RunReport) -> datetime:
    """Return the moment whose evidence the study reports show."""
    return report.assembled_at or report.finished_at or report.started_at


def age_of_evidence(study: StudyReport, report: RunReport) -> str:
    """Say how old a study's evidence was when the report was assembled, of each kind there is.

    A report is read later, so its times are relative to that moment, never to the reader.
    """
    age = _age(study, report)
    if study.drilled_at is None:
        return age
    return _("%(age)s, drilled on %(date)s") % {"age": age, "date": utc(study.drilled_at)}


def _age(study: StudyReport, report: RunReport) -> str:
    if not study.held or study.level is Level.SENT or study.verified_at is None:
        return _("never verified")
    seconds = (as_of(report) - study.verified_at).total_seconds()
    age = (
        _("fresh evidence")
        if seconds < 1
        else _("evidence %(age)s old") % {"age": format_duration(seconds)}
    )
    others = (
        _("%(level)s %(age)s ago")
        % {"level": level.word, "age": format_duration((as_of(report) - at).total_seconds())}
        for level, at in sorted(study.facts.items(), reverse=True)
        if level is not study.level
    )
    return "; ".join((age, *others))
