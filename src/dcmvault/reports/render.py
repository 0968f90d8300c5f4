"""One way in: a report, a format, how much patient data, and out comes text."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dcmvault.errors import UsageError
from dcmvault.i18n import gettext as _
from dcmvault.model.report import Privacy, RunReport
from dcmvault.reports import as_csv, as_html, as_json, as_text
from dcmvault.reports.redaction import redacted
from dcmvault.reports.spoken import spoken

_RENDERERS: Mapping[str, Callable[[RunReport], str]] = {
    "html": as_html.render,
    "json": as_json.render,
    "csv": as_csv.render,
    "text": as_text.render,
}
#: The others are for programs, and the same in every language.
_FOR_PEOPLE = frozenset({"html", "text"})
#: The formats, as the command line names them.
FORMATS = tuple(_RENDERERS)


def render(report: RunReport, format_: str, privacy: Privacy = Privacy.OFF) -> str:
    """Render a run's report as `html`, `json`, `csv` or `text` (to be written as UTF-8).

    Times are UTC. Foreign text is escaped for its place. UsageError for another format.
    """
    if format_ not in _RENDERERS:
        raise UsageError(
            _("There is no report format %(format)s.") % {"format": format_},
            hint=_("Choose one of: %(formats)s.") % {"formats": ", ".join(FORMATS)},
        )
    report = redacted(report, privacy)
    return _RENDERERS[format_](spoken(report) if format_ in _FOR_PEOPLE else report)
