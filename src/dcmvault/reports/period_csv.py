"""A report of a period as CSV: the total, each run at each destination, evidence, and causes."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import datetime

from dcmvault.model.report import Counts, DestinationReport
from dcmvault.model.statistics import CauseRow, EvidenceRow, PeriodReport, RunRow
from dcmvault.reports.escaping import spreadsheet_cell

#: The columns, in order. New ones are only ever added at the end.
#: `record` is `total`, `run`, `evidence` or `cause`; what a record does not have is empty.
COLUMNS = (
    "record",
    "since",
    "until",
    "run",
    "kind",
    "source",
    "destination",
    "strategy",
    "state",
    "started_at",
    "finished_at",
    "duration_s",
    "exit_status",
    "runs",
    "studies",
    "selected",
    "already_held",
    "stored",
    "failed",
    "unreadable",
    "conflicts",
    "source_bytes",
    "transferred_bytes",
    "bytes_per_s",
    "success",
    "level",
    "instances",
    "held",
    "claimed",
    "studies_protected",
    "oldest_evidence_at",
    "code",
    "status",
)

_Row = dict[str, object]


def render(report: PeriodReport) -> str:
    """Render by RFC 4180 (CRLF, quotes where needed); no cell is ever a formula."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, restval="", lineterminator="\r\n")
    writer.writeheader()
    for row in _rows(report):
        writer.writerow({column: spreadsheet_cell(_text(cell)) for column, cell in row.items()})
    return stream.getvalue()


def _rows(report: PeriodReport) -> Iterator[_Row]:
    yield {
        "record": "total",
        "since": report.since,
        "until": report.until,
        "destination": report.destination,
        "runs": len(report.runs),
        "studies": report.studies,
        **_counts(report.counts),
        "source_bytes": report.source_bytes,
        "transferred_bytes": report.transferred_bytes,
        "bytes_per_s": report.bytes_per_s,
        "success": report.success,
    }
    for run in report.runs:
        for part in run.parts:
            yield _run(run, part)
    yield from map(_evidence, report.evidence)
    yield from map(_cause, report.causes)


def _run(run: RunRow, part: DestinationReport) -> _Row:
    seconds = run.duration_s
    return {
        "record": "run",
        "run": run.run_id,
        "kind": run.kind,
        "source": run.source,
        "destination": part.name,
        "strategy": run.strategy,
        "state": run.state.value,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "duration_s": seconds,
        "exit_status": run.exit_status,
        "studies": run.studies,
        **_counts(part.counts),
        "source_bytes": part.source_bytes,
        "transferred_bytes": part.transferred_bytes,
        "bytes_per_s": part.transferred_bytes / seconds if seconds else None,
        "level": part.level.word,
    }


def _evidence(row: EvidenceRow) -> _Row:
    return {
        "record": "evidence",
        "source": row.source,
        "destination": row.destination,
        "studies": row.studies,
        "instances": row.instances,
        "held": row.held,
        "claimed": row.claimed,
        "studies_protected": row.studies_protected,
        "oldest_evidence_at": row.oldest_evidence_at,
        "level": "; ".join(
            f"{level.word} {count}" for level, count in sorted(row.by_level.items())
        ),
    }


def _cause(cause: CauseRow) -> _Row:
    return {
        "record": "cause",
        "destination": cause.destination,
        "code": cause.code,
        "status": cause.status,
        "instances": cause.instances,
        "runs": cause.runs,
    }


def _counts(counts: Counts) -> _Row:
    names = ("selected", "already_held", "stored", "failed", "unreadable", "conflicts")
    return {name: getattr(counts, name) for name in names}


def _text(cell: object) -> str:
    if cell is None:
        return ""
    if isinstance(cell, datetime):
        return f"{cell:%Y-%m-%dT%H:%M:%SZ}"
    return f"{cell:.3f}" if isinstance(cell, float) else str(cell)
