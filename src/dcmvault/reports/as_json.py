"""A report as JSON: the summary and every study at every destination."""

from __future__ import annotations

import json

from dcmvault.model.report import Privacy, RunReport
from dcmvault.reports.summary import study_rows, summary
from dcmvault.reports.times import as_of


def render(report: RunReport) -> str:
    """Render one object of a report that was redacted before.

    ASCII only, so that no value can command a terminal.
    """
    content = {
        **summary(report, Privacy.FULL),
        "study_reports_as_of": as_of(report).isoformat(timespec="milliseconds"),
        "study_reports": study_rows(report, Privacy.FULL),
    }
    return json.dumps(content, indent=2) + "\n"
