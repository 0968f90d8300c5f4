"""The summary of a run as plain data: what `--json` prints, a documented contract."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

from dcmvault.model.evidence import Level
from dcmvault.model.report import (
    Counts,
    DestinationReport,
    Failure,
    Privacy,
    RunReport,
    StudyReport,
)
from dcmvault.reports.performance import performance_object
from dcmvault.reports.redaction import redacted

#: Stages that every summary has, though nothing may have been spent on them.
STAGES = ("scan", "plan", "read", "encode", "deliver", "verify")


def summary(report: RunReport, privacy: Privacy = Privacy.OFF) -> dict[str, object]:
    """Return a run's summary, ready for JSON.

    Counts and bytes are summed over destinations: an instance for two destinations counts
    twice. `level` is the lowest level asked. Times are ISO 8601 in UTC; `duration_s` and
    `finished_at` are null while the run is not finished; `error` is null unless the run ended
    by one.
    """
    report = redacted(report, privacy)
    return {
        "run": report.run_id,
        "kind": report.request.kind.value,
        "state": report.state.value,
        "source": report.request.source,
        "strategy": report.request.strategy.value,
        "level": lowest_level(report).word,
        "started_at": _time(report.started_at),
        "finished_at": _time(report.finished_at),
        "instances": _instances(report.counts),
        "bytes": {
            "source": sum(part.source_bytes for part in report.destinations),
            "transferred": sum(part.transferred_bytes for part in report.destinations),
        },
        "studies": report.studies,
        "not_dicom": report.not_dicom,
        "gone": report.gone,
        "duration_s": duration_s(report),
        "stages": {
            stage: round(report.stages.get(stage, 0.0), 3)
            for stage in dict.fromkeys((*STAGES, *report.stages))
        },
        "exit_status": report.exit_status,
        "failures": [_failure(failure) for failure in report.failures],
        "warnings": list(report.warnings),
        "diversions": [asdict(diversion) for diversion in report.diversions],
        "warned": [_failure(warned) for warned in report.warned],
        "destinations": [_destination(part) for part in report.destinations],
        "error": _cause(report.error),
        "performance": performance_object(report),
    }


def study_rows(report: RunReport, privacy: Privacy = Privacy.OFF) -> list[dict[str, object]]:
    """Return every study at every destination as evidence stands, ready for JSON."""
    return [_study(study) for study in redacted(report, privacy).study_reports]


def lowest_level(report: RunReport) -> Level:
    """Return the lowest level that the run asked of a destination; NONE before planning."""
    levels = [part.level for part in report.destinations]
    levels = levels or [asked.level for asked in report.request.destinations if asked.level]
    return min(levels, default=Level.NONE)


def duration_s(report: RunReport) -> float | None:
    """Return the seconds that the run took, or None while it is not finished."""
    if report.finished_at is None:
        return None
    return round((report.finished_at - report.started_at).total_seconds(), 3)


def _instances(counts: Counts) -> dict[str, int]:
    return {
        "selected": counts.selected,
        "already_held": counts.already_held,
        "stored": counts.stored,
        "failed": counts.failed,
        "unreadable": counts.unreadable,
        "conflicts": counts.conflicts,
    }


def _destination(part: DestinationReport) -> dict[str, object]:
    return {
        "name": part.name,
        "address": part.address,
        "level": part.level.word,
        "instances": _instances(part.counts),
        "bytes": {"source": part.source_bytes, "transferred": part.transferred_bytes},
        "snapshot": part.snapshot,
        "snapshot_failure": _cause(part.snapshot_failure),
    }


def _failure(failure: Failure) -> dict[str, object]:
    return {
        "sop_instance_uid": failure.sop_instance_uid,
        "study_instance_uid": failure.study_instance_uid,
        "destination": failure.destination,
        "code": failure.code,
        "status": failure.status,
        "message": failure.message,
        "hint": failure.hint,
        "locator": failure.locator,
    }


def _study(study: StudyReport) -> dict[str, object]:
    return {
        "study_instance_uid": study.study_instance_uid,
        "destination": study.destination,
        "study_date": study.study_date,
        "modalities": study.modalities,
        "instances": study.instances,
        "held": study.held,
        "level": study.level.word,
        "verified_at": _time(study.verified_at),
        "drilled_at": _time(study.drilled_at),
        "facts": {level.word: _time(at) for level, at in study.facts.items()},
        "patient_id": study.patient_id,
        "patient_name": study.patient_name,
        "study_description": study.study_description,
        "coercions": [
            {
                "attribute": one.attribute,
                "old": one.old,
                "new": one.new,
                "instances": one.instances,
            }
            for one in study.coercions
        ],
        "coercions_left_out": study.coercions_left_out,
    }


def _cause(error: tuple[str, str, str] | None) -> dict[str, str] | None:
    if error is None:
        return None
    code, message, hint = error
    return {"code": code, "message": message, "hint": hint}


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="milliseconds")
