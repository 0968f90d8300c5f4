"""The comparison itself, a pure function: two sides' studies by UID, and what is true of each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace

from dcmvault.dicom.digest import merkle_root
from dcmvault.model.comparison import (
    Basis,
    Contents,
    HeldStudy,
    SeriesDifference,
    StudyComparison,
    StudySummary,
    Verdict,
)

_Series = Mapping[str, Mapping[str, Contents]]


def paired(
    a: Iterator[HeldStudy], b: Iterator[HeldStudy]
) -> Iterator[tuple[str, HeldStudy | None, HeldStudy | None]]:
    """Bring the studies of two sides together; both come in ascending order of their UIDs.

    Memory is one study of each side.
    """
    one, other = next(a, None), next(b, None)
    while one is not None or other is not None:
        here = "" if one is None else one.summary.study_instance_uid
        there = "" if other is None else other.summary.study_instance_uid
        if other is None or (one is not None and here < there):
            yield here, one, None
            one = next(a, None)
        elif one is None or there < here:
            yield there, None, other
            other = next(b, None)
        else:
            yield here, one, other
            one, other = next(a, None), next(b, None)


def compare_study(uid: str, a: HeldStudy | None, b: HeldStudy | None) -> StudyComparison:
    """Say what is true of one study; None is a side that certainly does not have it.

    Where both sides list instances these decide, else the counts. What a side may not have told
    is no difference; where nothing else is one, the study is UNKNOWN.
    """
    if a is None or b is None:
        held = a or b
        assert held is not None, "a study that neither side has"
        found = StudyComparison(
            uid,
            Verdict.ONLY_A if b is None else Verdict.ONLY_B,
            Basis.COUNT if held.series is None else Basis.INSTANCES,
        )
    elif a.series is None or b.series is None:
        found = _by_count(uid, a, b)
    else:
        found = _by_instances(uid, a, a.series, b, b.series)
    return replace(
        found,
        a=a.summary if a else None,
        b=b.summary if b else None,
        root_a=_root(uid, a),
        root_b=_root(uid, b),
    )


def counts_agree(a: StudySummary, b: StudySummary) -> bool | None:
    """Say whether both tell the same numbers; None where one of them does not tell."""
    if a.instances is None or b.instances is None:
        return None
    # Who tells no number of series still tells that of the instances.
    series_agree = a.series == b.series or a.series is None or b.series is None
    return a.instances == b.instances and series_agree


def instances_root(uid: str, series: _Series) -> str:
    """Return the Merkle root over a study's instances: equal roots are equal sets of UIDs.

    A leaf is the SHA-256 of study, series and SOP Instance UID with a line feed after each.
    """
    leaves = (
        hashlib.sha256(f"{uid}\n{series_uid}\n{sop_uid}\n".encode("utf-8", "replace")).digest()
        for series_uid, instances in series.items()
        for sop_uid in instances
    )
    return merkle_root(leaves).hex()


def _root(uid: str, held: HeldStudy | None) -> str:
    return "" if held is None or held.series is None else instances_root(uid, held.series)


def _by_count(uid: str, a: HeldStudy, b: HeldStudy) -> StudyComparison:
    agree = counts_agree(a.summary, b.summary)
    reason = a.doubt or b.doubt
    if agree is None:
        reason = reason or "one side does not say how many instances it has"
    if reason:
        return StudyComparison(uid, Verdict.UNKNOWN, reason=reason)
    return StudyComparison(uid, Verdict.SAME if agree else Verdict.DIFFERENT, Basis.COUNT)


def _by_instances(
    uid: str, a: HeldStudy, series_a: _Series, b: HeldStudy, series_b: _Series
) -> StudyComparison:
    differences = tuple(
        difference
        for series_uid in sorted({*series_a, *series_b})
        if (
            difference := _series_difference(
                series_uid,
                series_a.get(series_uid, {}),
                series_b.get(series_uid, {}),
                a_tells_all=not a.doubt,
                b_tells_all=not b.doubt,
            )
        )
    )
    doubt = "; ".join(dict.fromkeys(one for one in (a.doubt, b.doubt) if one))
    if doubt and not differences:
        return StudyComparison(uid, Verdict.UNKNOWN, reason=doubt)
    known = _contents_are_known(series_a) and _contents_are_known(series_b)
    return StudyComparison(
        uid,
        Verdict.DIFFERENT if differences else Verdict.SAME,
        Basis.CONTENT if known else Basis.INSTANCES,
        series=differences,
        reason=doubt,
    )


def _series_difference(
    uid: str,
    a: Mapping[str, Contents],
    b: Mapping[str, Contents],
    *,
    a_tells_all: bool,
    b_tells_all: bool,
) -> SeriesDifference | None:
    """Return what certainly differs: who did not tell all may have what it did not name."""
    only_a = tuple(sorted(a.keys() - b.keys())) if b_tells_all else ()
    only_b = tuple(sorted(b.keys() - a.keys())) if a_tells_all else ()
    other = tuple(
        sorted(one for one in a.keys() & b.keys() if a[one] and b[one] and a[one] != b[one])
    )
    if not (only_a or only_b or other):
        return None
    return SeriesDifference(uid, len(a), len(b), only_a, only_b, other)


def _contents_are_known(series: _Series) -> bool:
    return all(all(instances.values()) for instances in series.values())
