"""Which originals may be deleted, as one HTML page that needs nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from dcmvault.i18n import format_bytes, format_number, ngettext, sentence
from dcmvault.i18n import gettext as _
from dcmvault.model.deletion import DeletionReport, DeletionVerdict, SourceVerdicts
from dcmvault.reports.deletion_words import policy_sentence, reason_sentence, reason_title
from dcmvault.reports.pages import render_page
from dcmvault.reports.times import utc
from dcmvault.reports.wording import as_sentence

#: A page stays readable and small; the rest is in the CSV, and the page says so.
_MOST_STUDIES = 1000


def render(report: DeletionReport) -> str:
    """Render the page in the language in use; it has no patient's name."""
    verdicts = [verdict for source in report.sources for verdict in source.verdicts]
    safe = sum(verdict.is_safe for verdict in verdicts)
    return render_page(
        "deletion.html",
        words={
            "title": _("Safe to delete"),
            "never_deletes": _("dcmvault itself never deletes at a source."),
            "study": _("Study"),
            "date": _("Date"),
            "modality": _("Modality"),
            "instances": _("Instances"),
            "answer": _("May it be deleted?"),
            "asked": _("What is asked"),
            "footer": _("Made by dcmvault. Times are UTC."),
        },
        tone=_tone(report, safe, len(verdicts)),
        headline=_headline(safe, len(verdicts)),
        asked=policy_sentence(report.policy),
        sources=[_source(one) for one in report.sources],
    )


def _tone(report: DeletionReport, safe: int, studies: int) -> str:
    if any(source.error is not None for source in report.sources):
        return "bad"
    return "good" if studies and safe == studies else "open"


def _headline(safe: int, studies: int) -> str:
    text = ngettext(
        "%(safe)s of %(studies)s study may be deleted at its source.",
        "%(safe)s of %(studies)s studies may be deleted at their source.",
        studies,
    )
    return text % {"safe": format_number(safe), "studies": format_number(studies)}


@dataclass(frozen=True, slots=True)
class _Source:
    name: str
    looked_at: str
    error: str
    headline: str
    by_reason: list[tuple[str, str]]
    studies: list[_Study]
    left_out: str


@dataclass(frozen=True, slots=True)
class _Study:
    uid: str
    date: str
    modalities: str
    instances: str
    size: str
    tone: str
    answer: str
    reasons: list[str]
    counting: str


def _source(source: SourceVerdicts) -> _Source:
    error = ""
    if source.error is not None:
        _code, message, hint = source.error
        error = " ".join(as_sentence(sentence(text)) for text in (message, hint) if text)
    left = len(source.verdicts) - _MOST_STUDIES
    more = ngettext(
        "... and %(n)s more: see the CSV or JSON report.",
        "... and %(n)s more: see the CSV or JSON report.",
        left,
    )
    return _Source(
        name=source.facts.source,
        looked_at=_("Looked at on %s.") % utc(source.looked_at),
        error=error,
        headline=_headline(source.safe, len(source.verdicts)),
        by_reason=[
            (reason_title(kind), format_number(count)) for kind, count in source.by_reason().items()
        ],
        # What is to be looked into comes first.
        studies=[
            _study(one)
            for one in sorted(source.verdicts, key=lambda one: one.is_safe)[:_MOST_STUDIES]
        ],
        left_out=more % {"n": format_number(left)} if left > 0 else "",
    )


def _study(verdict: DeletionVerdict) -> _Study:
    study = verdict.facts
    counting = ""
    if verdict.counting:
        counting = _("Counted: %s") % ", ".join(verdict.counting)
    return _Study(
        uid=study.study_instance_uid,
        date=study.study_date,
        modalities=study.modalities,
        instances=format_number(study.instances),
        size=format_bytes(study.bytes),
        tone="good" if verdict.is_safe else "claim",
        answer=_("yes") if verdict.is_safe else _("not yet"),
        reasons=[reason_sentence(reason) for reason in verdict.reasons],
        counting=counting,
    )
