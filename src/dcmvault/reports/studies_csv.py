"""Studies of the matrix as CSV: one row for each study, some columns for each destination."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from dcmvault.model.study_matrix import CopyCounts, StudyLine
from dcmvault.reports.escaping import spreadsheet_cell

#: The first columns. Those of patients are there only where they were asked for.
_COLUMNS = (
    "study_instance_uid",
    "study_date",
    "modalities",
    "state",
    "level",
    "series",
    "instances",
    "bytes",
    "unreadable",
    "sources",
    "legal_hold",
    "excluded",
)
_PATIENT_COLUMNS = ("patient_name", "patient_id", "accession_number", "study_description")
#: Of each destination, behind its address.
_COPY_COLUMNS = ("state", "level", "expected", "held", "unverified", "missing", "damaged", "since")


def render_lines(
    lines: Iterable[StudyLine], destinations: Sequence[str], *, patients: bool
) -> Iterator[str]:
    """Yield lines by RFC 4180 (CRLF, quotes where needed); no cell is ever a formula."""
    head = [*_COLUMNS, *(_PATIENT_COLUMNS if patients else ())]
    head += [f"{column} at {name}" for name in destinations for column in _COPY_COLUMNS]
    yield _row(head)
    for line in lines:
        cells = _study(line)
        if patients:
            cells += [
                line.patient_name,
                line.patient_id,
                line.accession_number,
                line.study_description,
            ]
        for name in destinations:
            cells += _copy(line.copies.get(name))
        yield _row(cells)


def _row(cells: Sequence[str]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\r\n").writerow([spreadsheet_cell(one) for one in cells])
    return stream.getvalue()


def _study(line: StudyLine) -> list[str]:
    return [
        line.study_instance_uid,
        line.study_date,
        " ".join(line.modalities),
        line.state.word,
        line.level.word,
        str(line.series),
        str(line.instances),
        str(line.bytes),
        str(line.unreadable),
        "; ".join(line.sources),
        "; ".join(line.held_in),
        "yes" if line.is_excluded else "no",
    ]


def _copy(copy: CopyCounts | None) -> list[str]:
    if copy is None:
        return [""] * len(_COPY_COLUMNS)
    return [
        copy.state.word,
        copy.level.word,
        *(str(n) for n in (copy.expected, copy.held, copy.unverified, copy.missing, copy.damaged)),
        _time(copy.oldest_evidence_at),
    ]


def _time(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%dT%H:%M:%SZ}"
