"""The comparison as a pure function: against sets, whatever the two sides hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dcmvault.model.comparison import (
    Basis,
    Contents,
    HeldStudy,
    StudyComparison,
    StudySummary,
    Tally,
    Verdict,
)
from dcmvault.pipeline.comparison import compare_study, paired

#: No test asserts how long it takes.
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
UIDS = st.sampled_from([f"1.2.{number}" for number in range(6)])
CONTENTS = st.frozensets(st.sampled_from([b"x" * 32, b"y" * 32]), max_size=2)
SERIES = st.dictionaries(UIDS, st.dictionaries(UIDS, CONTENTS, min_size=1, max_size=5), max_size=4)


def held(series: Mapping[str, Mapping[str, Contents]], uid: str = "1.2.3") -> HeldStudy:
    count = sum(map(len, series.values()))
    return HeldStudy(StudySummary(uid, len(series), count), series)


def pairs_of(study: HeldStudy) -> set[tuple[str, str]]:
    return {(one, sop_uid) for one, sops in (study.series or {}).items() for sop_uid in sops}


def told(compared: StudyComparison, side: str) -> set[tuple[str, str]]:
    return {
        (one.series_instance_uid, sop_uid)
        for one in compared.series
        for sop_uid in getattr(one, side)
    }


def mirrored(compared: StudyComparison) -> StudyComparison:
    """Say the same of A and B, told the other way round."""
    turned = {Verdict.ONLY_A: Verdict.ONLY_B, Verdict.ONLY_B: Verdict.ONLY_A}
    return replace(
        compared,
        verdict=turned.get(compared.verdict, compared.verdict),
        a=compared.b,
        b=compared.a,
        root_a=compared.root_b,
        root_b=compared.root_a,
        series=tuple(
            replace(
                one,
                instances_a=one.instances_b,
                instances_b=one.instances_a,
                only_a=one.only_b,
                only_b=one.only_a,
            )
            for one in compared.series
        ),
    )


@QUICK
@given(SERIES, SERIES)
def test_what_is_told_is_what_sets_say(
    here: dict[str, dict[str, Contents]], there: dict[str, dict[str, Contents]]
) -> None:
    a, b = held(here), held(there)
    found = compare_study("1.2.3", a, b)
    assert told(found, "only_a") == pairs_of(a) - pairs_of(b)
    assert told(found, "only_b") == pairs_of(b) - pairs_of(a)
    other = {
        (one, sop_uid)
        for one, sop_uid in pairs_of(a) & pairs_of(b)
        if here[one][sop_uid] and there[one][sop_uid] and here[one][sop_uid] != there[one][sop_uid]
    }
    assert told(found, "other_content") == other
    same = pairs_of(a) == pairs_of(b) and not other
    assert found.verdict is (Verdict.SAME if same else Verdict.DIFFERENT)
    assert (found.root_a == found.root_b) == (pairs_of(a) == pairs_of(b))
    assert found.is_whole_in_b == (pairs_of(a) <= pairs_of(b) and not other)


@QUICK
@given(SERIES, SERIES)
def test_content_is_claimed_only_where_both_know_all_of_it(
    here: dict[str, dict[str, Contents]], there: dict[str, dict[str, Contents]]
) -> None:
    found = compare_study("1.2.3", held(here), held(there))
    known = all(all(sops.values()) for side in (here, there) for sops in side.values())
    assert (found.basis is Basis.CONTENT) == known


@QUICK
@given(st.none() | SERIES, st.none() | SERIES, st.booleans(), st.booleans())
def test_it_is_the_same_the_other_way_round(
    here: dict[str, dict[str, Contents]] | None,
    there: dict[str, dict[str, Contents]] | None,
    counts_here: bool,
    doubted: bool,
) -> None:
    a = None if here is None else held(here)
    b = None if there is None else held(there)
    if a is None and b is None:
        return
    if a is not None and counts_here:
        a = replace(a, series=None)
    if b is not None and doubted:
        b = replace(b, doubt="it answers in part")
    assert compare_study("1.2.3", b, a) == mirrored(compare_study("1.2.3", a, b))


@QUICK
@given(SERIES, SERIES)
def test_what_a_side_may_not_have_told_is_never_missing_there(
    here: dict[str, dict[str, Contents]], there: dict[str, dict[str, Contents]]
) -> None:
    b = replace(held(there), doubt="it answers in part")
    found = compare_study("1.2.3", held(here), b)
    assert not told(found, "only_a")
    assert found.verdict in (Verdict.UNKNOWN, Verdict.DIFFERENT)
    assert not found.is_whole_in_b


@QUICK
@given(st.integers(0, 3), st.integers(0, 3), st.none() | st.integers(0, 3))
def test_counts_are_never_more_than_counts(series: int, here: int, there: int | None) -> None:
    a = HeldStudy(StudySummary("1.2.3", series, here))
    b = HeldStudy(StudySummary("1.2.3", None, there))
    found = compare_study("1.2.3", a, b)
    if there is None:
        assert (found.verdict, found.basis) == (Verdict.UNKNOWN, Basis.NONE)
    else:
        expected = Verdict.SAME if here == there else Verdict.DIFFERENT
        assert (found.verdict, found.basis) == (expected, Basis.COUNT)


@QUICK
@given(st.sets(UIDS), st.sets(UIDS))
def test_every_study_of_either_side_is_compared_once(here: set[str], there: set[str]) -> None:
    def side(uids: set[str]) -> list[HeldStudy]:
        return [held({"1.9": {"1.9.1": frozenset()}}, uid) for uid in sorted(uids)]

    tally = Tally()
    met = []
    for uid, a, b in paired(iter(side(here)), iter(side(there))):
        met.append(uid)
        assert (a is not None) == (uid in here)
        assert (b is not None) == (uid in there)
        tally.add(compare_study(uid, a, b))
    assert met == sorted(here | there)
    assert tally.verdicts[Verdict.SAME] == len(here & there)
    assert tally.verdicts[Verdict.ONLY_A] == tally.not_whole_in_b == len(here - there)
    assert tally.total.studies_b == len(there)
    assert tally.is_same == (here == there)
