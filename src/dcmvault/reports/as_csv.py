"""A report as CSV: one row for each study at a destination, one for each failure."""

from __future__ import annotations

import csv
import io
from datetime import datetime

from dcmvault.model.report import Failure, RunReport, StudyReport
from dcmvault.reports.escaping import spreadsheet_cell

#: The columns, in order. New ones are only ever added at the end.
#: `record` is `study` or `failure`; what a record does not have is empty.
COLUMNS = (
    "record",
    "run",
    "destination",
    "study_instance_uid",
    "study_date",
    "modalities",
    "instances",
    "held",
    "level",
    "verified_at",
    "drilled_at",
    "sop_instance_uid",
    "code",
    "status",
    "message",
    "hint",
    "locator",
    "patient_id",
    "patient_name",
    "study_description",
    "facts",
)


def render(report: RunReport) -> str:
    """Render by RFC 4180 (CRLF, quotes where needed); no cell is ever a formula."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, restval="", lineterminator="\r\n")
    writer.writeheader()
    rows = [_study(study) for study in report.study_reports]
    rows += [_failure(failure) for failure in report.failures]
    for row in rows:
        cells = {"run": report.run_id, **row}
        writer.writerow({column: spreadsheet_cell(cell) for column, cell in cells.items()})
    return stream.getvalue()


def _study(study: StudyReport) -> dict[str, str]:
    return {
        "record": "study",
        "destination": study.destination,
        "study_instance_uid": study.study_instance_uid,
        "study_date": study.study_date,
        "modalities": study.modalities,
        "instances": str(study.instances),
        "held": str(study.held),
        "level": study.level.word,
        "verified_at": _time(study.verified_at),
        "drilled_at": _time(study.drilled_at),
        "patient_id": study.patient_id,
        "patient_name": study.patient_name,
        "study_description": study.study_description,
        "facts": "; ".join(f"{level.word} {_time(at)}" for level, at in study.facts.items()),
    }


def _failure(failure: Failure) -> dict[str, str]:
    return {
        "record": "failure",
        "destination": failure.destination,
        "study_instance_uid": failure.study_instance_uid,
        "sop_instance_uid": failure.sop_instance_uid,
        "code": failure.code,
        "status": failure.status,
        "message": failure.message,
        "hint": failure.hint,
        "locator": failure.locator,
    }


def _time(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%dT%H:%M:%SZ}"
