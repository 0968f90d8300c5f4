"""A comparison as CSV: one row for each study, and for what differs in it."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from typing import IO

from dcmvault.model.comparison import Depth, SeriesDifference, StudyComparison
from dcmvault.reports.escaping import spreadsheet_cell

#: The columns, in order. New ones are only ever added at the end.
#: `record` is `study`, `series`, `instance` or `listed`; what a record does not have is empty.
COLUMNS = (
    "record",
    "verdict",
    "basis",
    "study_instance_uid",
    "series_instance_uid",
    "sop_instance_uid",
    "study_date",
    "modalities",
    "series_a",
    "series_b",
    "instances_a",
    "instances_b",
    "root_a",
    "root_b",
    "reason",
    "name",
)
#: The verdict on a name of which neither side has a study.
NOWHERE = "nowhere"
_OTHER_CONTENT = "other_content"


def write(
    stream: IO[str], studies: Iterable[StudyComparison], depth: Depth, not_found: Iterable[str] = ()
) -> None:
    """Write by RFC 4180 (CRLF, quotes where needed), row by row; no cell is ever a formula."""
    writer = csv.DictWriter(stream, COLUMNS, restval="", lineterminator="\r\n")
    writer.writeheader()
    for study in studies:
        for row in _rows(study, depth):
            writer.writerow({column: spreadsheet_cell(cell) for column, cell in row.items()})
    for name in not_found:
        row = {"record": "listed", "verdict": NOWHERE, "name": name}
        writer.writerow({column: spreadsheet_cell(cell) for column, cell in row.items()})


def _rows(study: StudyComparison, depth: Depth) -> Iterator[dict[str, str]]:
    uid = {"study_instance_uid": study.study_instance_uid}
    a, b = study.a, study.b
    yield {
        "record": "study",
        "verdict": study.verdict.value,
        "basis": study.basis.value,
        **uid,
        "study_date": (a and a.study_date) or (b and b.study_date) or "",
        "modalities": study.modalities,
        "series_a": _number(a and a.series),
        "series_b": _number(b and b.series),
        "instances_a": _number(a and a.instances),
        "instances_b": _number(b and b.instances),
        "root_a": study.root_a,
        "root_b": study.root_b,
        "reason": study.reason,
    }
    if depth is Depth.STUDY:
        return
    for one in study.series:
        series = {**uid, "series_instance_uid": one.series_instance_uid}
        yield {
            "record": "series",
            "verdict": _series_verdict(one),
            **series,
            "instances_a": str(one.instances_a),
            "instances_b": str(one.instances_b),
        }
        if depth is Depth.INSTANCE:
            for verdict, sop_uids in (
                ("only_a", one.only_a),
                ("only_b", one.only_b),
                (_OTHER_CONTENT, one.other_content),
            ):
                for sop_uid in sop_uids:
                    yield {
                        "record": "instance",
                        "verdict": verdict,
                        **series,
                        "sop_instance_uid": sop_uid,
                    }


def _series_verdict(series: SeriesDifference) -> str:
    if not series.instances_b:
        return "only_a"
    return "different" if series.instances_a else "only_b"


def _number(count: int | None) -> str:
    return "" if count is None else str(count)
