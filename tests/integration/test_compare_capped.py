"""Archives that tell only a part: nothing is called missing that is there."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from typing import Any

import pytest
from tests.integration.test_query_retrieve_inventory import archived

from dcmvault.app.compare import CompareRequest, comparison
from dcmvault.app.study_list import StudyList
from dcmvault.config.settings import Settings
from dcmvault.model.comparison import Basis, Depth, StudyComparison, Tally, Verdict
from dcmvault.testing.capping_archive import ArchivedStudy, CappingArchive

#: Keys by which a list is divided: date, time, modality, patient.
EVERY_KEY = {(0x0008, 0x0020), (0x0008, 0x0030), (0x0008, 0x0061), (0x0010, 0x0020)}


def address(archive: CappingArchive) -> str:
    return f"dicom://CAPPING@127.0.0.1:{archive.port}"


def compared(
    a: CappingArchive, b: CappingArchive, depth: Depth = Depth.STUDY, only: StudyList | None = None
) -> tuple[Tally, list[StudyComparison]]:
    request = CompareRequest(address(a), address(b), depth, only)
    with comparison(Settings(), request, lambda _progress: None) as outcome:
        return outcome.compared.tally, list(outcome.exceptions())


def whole(count: int, **fixed: Any) -> list[ArchivedStudy]:
    return archived(count, series=2, instances=3, **fixed)


def test_what_a_capped_archive_leaves_out_is_not_missing() -> None:
    studies = whole(300)
    with CappingArchive(studies) as a, CappingArchive(studies, cap=100) as b:
        tally, exceptions = compared(a, b)
    assert (tally.is_same, exceptions) == (True, [])
    assert tally.same_by[Basis.COUNT] == 300


def test_a_study_that_no_list_names_is_asked_for_by_its_uid() -> None:
    studies = whole(30)
    hidden = [studies[3].study_instance_uid, studies[20].study_instance_uid]
    with CappingArchive(studies) as a, CappingArchive(studies[:-1], hidden=hidden) as b:
        tally, exceptions = compared(a, b)
        assert [one.study_instance_uid for one in exceptions] == [studies[-1].study_instance_uid]
        assert tally.verdicts[Verdict.SAME] == 29
        tally, exceptions = compared(b, a)
        assert [one.verdict for one in exceptions] == [Verdict.ONLY_B]


def test_an_instance_that_no_list_names_is_asked_for_by_its_uid() -> None:
    studies = whole(4)
    uid = studies[0].study_instance_uid
    hidden = [f"{uid}.1.2", f"{uid}.2.3"]
    lost = replace(studies[1], instances=2)
    with (
        CappingArchive(studies) as a,
        CappingArchive([studies[0], lost, *studies[2:]], hidden=hidden) as b,
    ):
        for depth in (Depth.INSTANCE, Depth.SERIES):
            tally, [found] = compared(a, b, depth)
            assert found.study_instance_uid == lost.study_instance_uid
            assert [len(one.only_a) for one in found.series] == [1, 1]
            assert tally.same_by[Basis.INSTANCES] == 3


def test_counts_that_a_peer_makes_otherwise_are_looked_into() -> None:
    studies = whole(5)
    with (
        CappingArchive(studies) as a,
        CappingArchive([replace(one, miscounted=7) for one in studies]) as b,
    ):
        tally, exceptions = compared(a, b)
    assert not exceptions
    assert tally.same_by[Basis.INSTANCES] == 5


def test_where_nobody_counts_the_instances_decide() -> None:
    studies = whole(5)
    with (
        CappingArchive(studies, tells_counts=False) as a,
        CappingArchive(studies[1:], tells_counts=False) as b,
    ):
        tally, [found] = compared(a, b)
    assert found.verdict is Verdict.ONLY_A
    assert found.a is not None
    assert found.a.instances == 6
    assert tally.same_by[Basis.INSTANCES] == 4


def test_a_study_that_a_peer_has_and_does_not_list_is_not_known() -> None:
    studies = whole(3)
    uid = studies[1].study_instance_uid
    with CappingArchive(studies) as a, CappingArchive(studies, breaks_at=[uid]) as b:
        tally, [found] = compared(a, b, Depth.INSTANCE)
    assert (found.study_instance_uid, found.verdict) == (uid, Verdict.UNKNOWN)
    assert found.reason
    assert tally.not_whole_in_b == 1


def test_where_only_patients_can_be_asked_for_what_is_not_listed_is_not_known() -> None:
    """A question by UID alone is none that a Patient Root archive must answer."""
    studies = whole(6)
    with CappingArchive(studies) as a, CappingArchive(studies[2:], models="P") as b:
        tally, exceptions = compared(a, b)
    assert [one.verdict for one in exceptions] == [Verdict.UNKNOWN] * 2
    assert tally.verdicts[Verdict.SAME] == 4


def test_a_list_of_uids_asks_for_nothing_else() -> None:
    studies = whole(400)
    only = StudyList(frozenset(one.study_instance_uid for one in studies[:5]) | {"1.2.3.4.5"})
    with CappingArchive(studies) as a, CappingArchive(studies[2:]) as b:
        tally, exceptions = compared(a, b, only=only)
        assert a.asked + b.asked <= 20
    assert tally.verdicts[Verdict.SAME] == 3
    assert len(exceptions) == 2


@pytest.mark.nightly
def test_many_studies_take_little_memory() -> None:
    """Of a study that is the same nothing is kept; the peers' lists are, while they are told."""
    studies = whole(5_003)  # a round number would be looked into as if it were a cap
    with CappingArchive(studies) as a, CappingArchive(studies[:-10]) as b:
        tracemalloc.start()
        try:
            tally, exceptions = compared(a, b)
            _now, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert tally.verdicts[Verdict.SAME] == 4_993
    assert len(exceptions) == 10
    assert most < 64 << 20


def test_what_two_archives_may_both_leave_out_is_not_the_same() -> None:
    """Both tell the same hundred of three hundred, however they are asked."""
    studies = whole(300, study_date="20200102", study_time="101112")
    with (
        CappingArchive(studies, cap=100, ignores=EVERY_KEY) as a,
        CappingArchive(studies, cap=100, ignores=EVERY_KEY) as b,
    ):
        request = CompareRequest(address(a), address(b))
        with comparison(Settings(), request, lambda _progress: None) as outcome:
            assert outcome.compared.tally.is_same
            assert outcome.notes_a.may_have_more
            assert outcome.exit_status == 3


def test_a_study_under_two_patients_is_not_believed_by_count() -> None:
    """Its two answers count as much as the only one of the other archive."""
    studies = whole(5)
    twice = [*studies, replace(studies[2], patient_id="TEST-0002")]
    with CappingArchive(twice) as a, CappingArchive(studies) as b:
        tally, exceptions = compared(a, b)
    assert not exceptions
    assert tally.same_by == {
        Basis.NONE: 0,
        Basis.COUNT: 4,
        Basis.INSTANCES: 1,
        Basis.CONTENT: 0,
    }
