"""One way in: a report, a format, how much patient data, and out comes text, or a PDF."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec

from dcmvault.errors import UsageError
from dcmvault.i18n import gettext as _
from dcmvault.model.report import Privacy, RunReport
from dcmvault.model.statistics import PeriodReport
from dcmvault.reports import (
    as_csv,
    as_html,
    as_json,
    as_text,
    document_html,
    document_text,
    period_csv,
    period_json,
)
from dcmvault.reports.period_document import period_document
from dcmvault.reports.redaction import redacted
from dcmvault.reports.run_document import run_document
from dcmvault.reports.spoken import spoken

_RENDERERS: Mapping[str, Callable[[RunReport], str]] = {
    "html": as_html.render,
    "json": as_json.render,
    "csv": as_csv.render,
    "text": as_text.render,
}
_PERIOD_RENDERERS: Mapping[str, Callable[[PeriodReport], str]] = {
    "html": lambda report: document_html.render(period_document(report)),
    "json": period_json.render,
    "csv": period_csv.render,
    "text": lambda report: document_text.render(period_document(report)),
}
#: The others are for programs, and the same in every language.
_FOR_PEOPLE = frozenset({"html", "text"})
#: The formats of text, as the command line names them. PDF is another one, and bytes.
FORMATS = tuple(_RENDERERS)
PDF = "pdf"


def render(report: RunReport, format_: str, privacy: Privacy = Privacy.OFF) -> str:
    """Render a run's report as `html`, `json`, `csv` or `text` (to be written as UTF-8).

    Times are UTC. Foreign text is escaped for its place. UsageError for another format.
    """
    _check(format_)
    report = redacted(report, privacy)
    return _RENDERERS[format_](spoken(report) if format_ in _FOR_PEOPLE else report)


def render_period(report: PeriodReport, format_: str) -> str:
    """Render what happened in a time; there is no patient data in it. Else as `render`."""
    _check(format_)
    return _PERIOD_RENDERERS[format_](report)


def render_pdf(report: RunReport | PeriodReport, privacy: Privacy = Privacy.OFF) -> bytes:
    """Render a report of either kind as PDF; UsageError where the extra `pdf` is missing."""
    if find_spec("reportlab") is None:
        raise UsageError(
            _("PDF needs what is not installed here."), hint="pip install 'dcmvault[pdf]'"
        )
    from dcmvault.reports import document_pdf  # noqa: PLC0415 - an optional extra

    if isinstance(report, PeriodReport):
        return document_pdf.render(period_document(report))
    return document_pdf.render(run_document(spoken(redacted(report, privacy))))


def _check(format_: str) -> None:
    if format_ not in _RENDERERS:
        raise UsageError(
            _("There is no report format %(format)s.") % {"format": format_},
            hint=_("Choose one of: %(formats)s.") % {"formats": ", ".join(FORMATS)},
        )
