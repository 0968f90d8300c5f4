"""Privacy: patient data leaves a report before a renderer sees it, so that none can leak it."""

from __future__ import annotations

from dataclasses import replace

from dcmvault.model.report import Failure, Privacy, RunReport
from dcmvault.reports.escaping import locator_token

#: Stands for a value that may not be shown.
HIDDEN = "…"


def redacted(report: RunReport, privacy: Privacy) -> RunReport:
    """Return the report with only the patient data that `privacy` allows.

    File names at the source may contain names: below FULL a stable token stands for each.
    """
    if privacy is Privacy.FULL:
        return report
    keep_ids = privacy is Privacy.IDS
    return replace(
        report,
        failures=tuple(_without_name(failure) for failure in report.failures),
        warned=tuple(_without_name(warned) for warned in report.warned),
        study_reports=tuple(
            replace(
                study,
                patient_name="",
                patient_id=study.patient_id if keep_ids else "",
                study_description="",
                coercions=tuple(replace(one, old=HIDDEN, new=HIDDEN) for one in study.coercions),
            )
            for study in report.study_reports
        ),
    )


def _without_name(failure: Failure) -> Failure:
    return replace(failure, locator=locator_token(failure.locator))
