"""Which originals may be deleted, for programs: one JSON object, or CSV by study."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import timedelta

from dcmvault.model.deletion import (
    DeletionPolicy,
    DeletionReport,
    DeletionVerdict,
    Reason,
    SourceVerdicts,
)
from dcmvault.reports.deletion_words import reason_in_english
from dcmvault.reports.escaping import spreadsheet_cell

#: The columns, in order. New ones are only ever added at the end.
COLUMNS = (
    "source",
    "study_instance_uid",
    "safe",
    "reasons",
    "why_not_yet",
    "study_date",
    "modalities",
    "instances",
    "bytes",
    "copies_that_count",
)
_DAY = timedelta(days=1)


def as_object(report: DeletionReport) -> dict[str, object]:
    """Return what `--json` prints."""
    return {
        "deletes_nothing": "dcmvault never deletes at a source",
        "policy": _policy(report.policy),
        "sources": [_source(one) for one in report.sources],
        "exit_status": report.exit_status,
    }


def as_csv(report: DeletionReport) -> str:
    """Render by RFC 4180 (CRLF, quotes where needed); no cell is ever a formula."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for source in report.sources:
        for verdict in source.verdicts:
            writer.writerow(spreadsheet_cell(cell) for cell in _row(source, verdict))
    return stream.getvalue()


def _row(source: SourceVerdicts, verdict: DeletionVerdict) -> Sequence[str]:
    study = verdict.facts
    return (
        source.facts.source,
        study.study_instance_uid,
        "yes" if verdict.is_safe else "not yet",
        " ".join(_once(reason.kind.value for reason in verdict.reasons)),
        " ".join(map(reason_in_english, verdict.reasons)),
        study.study_date,
        study.modalities,
        str(study.instances),
        str(study.bytes),
        " ".join(verdict.counting),
    )


def _once(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(words))


def _policy(policy: DeletionPolicy) -> dict[str, object]:
    return {
        "copies": policy.copies,
        "level": policy.level.word,
        "levels": {name: level.word for name, level in policy.levels.items()},
        "immutable": policy.immutable,
        "evidence_max_age_days": policy.evidence_max_age // _DAY,
        "min_age_days": policy.min_age // _DAY,
        "require_unchanged": policy.require_unchanged,
    }


def _source(source: SourceVerdicts) -> dict[str, object]:
    error = None
    if source.error is not None:
        code, message, hint = source.error
        error = {"code": code, "message": message, "hint": hint}
    return {
        "source": source.facts.source,
        "looked_at": source.looked_at.isoformat(timespec="milliseconds"),
        "error": error,
        "studies": len(source.verdicts),
        "safe": source.safe,
        "by_reason": {kind.value: count for kind, count in source.by_reason().items()},
        "verdicts": [_verdict(one) for one in source.verdicts],
    }


def _verdict(verdict: DeletionVerdict) -> dict[str, object]:
    study = verdict.facts
    return {
        "study_instance_uid": study.study_instance_uid,
        "safe": verdict.is_safe,
        "study_date": study.study_date,
        "modalities": study.modalities,
        "instances": study.instances,
        "bytes": study.bytes,
        "copies_that_count": list(verdict.counting),
        "not_yet": [_reason(reason) for reason in verdict.reasons],
    }


def _reason(reason: Reason) -> dict[str, object]:
    return {
        "code": reason.kind.value,
        "destination": reason.destination,
        "count": reason.count,
        "wanted": reason.wanted,
        "message": reason_in_english(reason),
    }
