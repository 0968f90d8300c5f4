"""A report of a period as JSON: statistics from recorded outcomes, for programs."""

from __future__ import annotations

import json
from datetime import datetime

from dcmvault.model.report import Counts, DestinationReport
from dcmvault.model.statistics import CauseRow, EvidenceRow, PeriodReport, RunRow


def render(report: PeriodReport) -> str:
    """Render indented ASCII."""
    return json.dumps(period_object(report), indent=2) + "\n"


def period_object(report: PeriodReport) -> dict[str, object]:
    """Return the report, ready for JSON. Times are ISO 8601 in UTC; sizes are bytes."""
    return {
        "since": _time(report.since),
        "until": _time(report.until),
        "made_at": _time(report.made_at),
        "destination": report.destination,
        "statistics": {
            "runs": len(report.runs),
            "studies": report.studies,
            "instances": _counts(report.counts),
            "bytes": {"source": report.source_bytes, "transferred": report.transferred_bytes},
            "bytes_per_s": _rounded(report.bytes_per_s),
            "success": _rounded(report.success),
        },
        "runs": [_run(run) for run in report.runs],
        "evidence": [_evidence(row) for row in report.evidence],
        "causes": [_cause(cause) for cause in report.causes],
    }


def _run(run: RunRow) -> dict[str, object]:
    return {
        "run": run.run_id,
        "kind": run.kind,
        "source": run.source,
        "strategy": run.strategy,
        "state": run.state.value,
        "started_at": _time(run.started_at),
        "finished_at": _time(run.finished_at),
        "duration_s": _rounded(run.duration_s),
        "exit_status": run.exit_status,
        "studies": run.studies,
        "instances": _counts(run.counts),
        "bytes_per_s": _rounded(run.bytes_per_s),
        "stages": {stage: _rounded(seconds) for stage, seconds in run.stages.items()},
        "destinations": [_part(part) for part in run.parts],
    }


def _part(part: DestinationReport) -> dict[str, object]:
    return {
        "name": part.name,
        "level": part.level.word,
        "instances": _counts(part.counts),
        "bytes": {"source": part.source_bytes, "transferred": part.transferred_bytes},
    }


def _evidence(row: EvidenceRow) -> dict[str, object]:
    return {
        "source": row.source,
        "destination": row.destination,
        "studies": row.studies,
        "studies_protected": row.studies_protected,
        "instances": row.instances,
        "held": row.held,
        "claimed": row.claimed,
        "by_level": {level.word: count for level, count in sorted(row.by_level.items())},
        "oldest_evidence_at": _time(row.oldest_evidence_at),
    }


def _cause(cause: CauseRow) -> dict[str, object]:
    return {
        "destination": cause.destination,
        "code": cause.code,
        "status": cause.status,
        "instances": cause.instances,
        "runs": cause.runs,
    }


def _counts(counts: Counts) -> dict[str, int]:
    names = ("selected", "already_held", "stored", "failed", "unreadable", "conflicts")
    return {name: getattr(counts, name) for name in names}


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="milliseconds")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
