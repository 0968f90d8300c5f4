"""A comparison, and a certificate of one, as JSON objects (docs/reference/comparison.md)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import IO

from dcmvault.model.certificate import (
    Certificate,
    Delivered,
    ListReport,
    Sample,
    SampledStudy,
    SideReport,
)
from dcmvault.model.comparison import (
    Basis,
    SideCounts,
    StudyComparison,
    StudySummary,
    Tally,
    Verdict,
)

#: Names the layout of a certificate; a new number when a reader would have to change.
CERTIFICATE_FORMAT = "dcmvault-migration-certificate-1"


def tally_object(tally: Tally) -> dict[str, object]:
    """Return all counts."""
    return {
        "studies": {
            "a": tally.total.studies_a,
            "b": tally.total.studies_b,
            **{verdict.value: tally.verdicts[verdict] for verdict in Verdict},
            "same_by": {
                basis.value: tally.same_by[basis] for basis in Basis if basis is not Basis.NONE
            },
        },
        "instances": {
            "a": tally.total.instances_a,
            "b": tally.total.instances_b,
            "only_a": tally.instances_only_a,
            "only_b": tally.instances_only_b,
            "other_content": tally.other_content,
        },
        "not_whole_in_b": tally.not_whole_in_b,
    }


def study_object(study: StudyComparison, *, with_instances: bool) -> dict[str, object]:
    """Return what is true of one study."""
    return {
        "study_instance_uid": study.study_instance_uid,
        "verdict": study.verdict.value,
        "basis": study.basis.value,
        "a": _summary(study.a, study.root_a),
        "b": _summary(study.b, study.root_b),
        "series": [
            {
                "series_instance_uid": one.series_instance_uid,
                "instances_a": one.instances_a,
                "instances_b": one.instances_b,
                "only_a": list(one.only_a) if with_instances else len(one.only_a),
                "only_b": list(one.only_b) if with_instances else len(one.only_b),
                "other_content": list(one.other_content)
                if with_instances
                else len(one.other_content),
            }
            for one in study.series
        ],
        "reason": study.reason,
    }


def side_object(side: SideReport) -> dict[str, object]:
    """Return what there is to say of one side."""
    return {
        "address": side.address,
        "digest": side.digest,
        "unreadable": side.unreadable,
        "not_instances": side.not_instances,
        "remarks": list(side.remarks),
    }


def sample_object(sample: Sample | None) -> dict[str, object] | None:
    """Return what was read back."""
    if sample is None:
        return None
    return {
        "method": "the studies whose SHA-256 of SEED:STUDY_INSTANCE_UID is smallest",
        "seed": sample.seed,
        "candidates": sample.candidates,
        "read": len(sample.studies),
        "proven": sample.proven,
        "studies": [_sampled(study) for study in sample.studies],
    }


def listed_object(listed: ListReport | None) -> dict[str, object] | None:
    """Return the list that limited the comparison."""
    if listed is None:
        return None
    return {
        "names": listed.names,
        "sha256": listed.sha256,
        "not_found": list(listed.not_found),
    }


def delivered_objects(delivered: Sequence[Delivered]) -> list[dict[str, object]]:
    """Return the runs that delivered what was missing."""
    return [
        {"run": one.run, "studies": one.studies, "exit_status": one.exit_status}
        for one in delivered
    ]


def write_certificate(
    stream: IO[str], certificate: Certificate, studies: Iterable[StudyComparison]
) -> None:
    """Write a certificate with every study of the comparison, one after the other."""
    head = {
        "format": CERTIFICATE_FORMAT,
        "complete": certificate.is_complete,
        "question": certificate.question,
        "depth": certificate.depth.value,
        "began_at": _time(certificate.began_at),
        "ended_at": _time(certificate.ended_at),
        "operator": certificate.operator,
        "machine": certificate.machine,
        "versions": dict(certificate.versions),
        "a": side_object(certificate.a),
        "b": side_object(certificate.b),
        **tally_object(certificate.tally),
        "by_month": [
            {"month": month, "modalities": modalities, **_counts(counts)}
            for (month, modalities), counts in sorted(certificate.tally.by_month.items())
        ],
        "listed": listed_object(certificate.listed),
        "sample": sample_object(certificate.sample),
        "delivered": delivered_objects(certificate.delivered),
    }
    objects = (study_object(study, with_instances=True) for study in studies)
    write_object(stream, head, "compared", objects)


def write_object(
    stream: IO[str], head: Mapping[str, object], last: str, items: Iterable[Mapping[str, object]]
) -> None:
    """Write one JSON object whose `last` member is a list that need not fit into memory."""
    text = json.dumps(dict(head), indent=2)
    stream.write(f'{text.removesuffix("}").rstrip()},\n  "{last}": [')
    for number, item in enumerate(items):
        stream.write(f"{',' if number else ''}\n    {json.dumps(item)}")
    stream.write("\n  ]\n}\n")


def _summary(summary: StudySummary | None, root: str) -> dict[str, object] | None:
    if summary is None:
        return None
    return {
        "series": summary.series,
        "instances": summary.instances,
        "study_date": summary.study_date,
        "modalities": list(summary.modalities),
        "root": root,
    }


def _sampled(study: SampledStudy) -> dict[str, object]:
    return {
        "study_instance_uid": study.study_instance_uid,
        "proven": study.is_proven,
        "instances": study.instances,
        "identical": study.identical,
        "equal": study.equal,
        "transcoded": study.transcoded,
        "coerced": study.coerced,
        "different": study.different,
        "unreadable": study.unreadable,
        "missing_in_b": study.missing_in_b,
        "extra_in_b": study.extra_in_b,
        "coerced_attributes": list(study.coerced_attributes),
        "reasons": list(study.reasons),
        "reasons_left_out": study.reasons_left_out,
    }


def _counts(counts: SideCounts) -> dict[str, object]:
    return {
        "studies_a": counts.studies_a,
        "studies_b": counts.studies_b,
        "instances_a": counts.instances_a,
        "instances_b": counts.instances_b,
    }


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
