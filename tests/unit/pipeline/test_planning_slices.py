"""Jobs are one series or a slice of it, never too many instances and never too many bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcmvault.model.identifiers import VersionId
from dcmvault.model.instance import Fingerprint, InstanceEntry, InstanceIdentity, InstanceKind
from dcmvault.model.job import MAX_JOB_BYTES, MAX_JOB_INSTANCES, Priority
from dcmvault.model.plan import PlanItem
from dcmvault.pipeline.planning import slice_into_jobs


def item(
    number: int, study: str, series: str, size: int = 1000, *, conflict: bool = False
) -> PlanItem:
    return PlanItem(
        VersionId(number),
        InstanceEntry(f"{number}.dcm", Fingerprint(size, 1, number)),
        InstanceIdentity(study, series, f"1.2.{number}"),
        InstanceKind("1.2", "1.2"),
        "new",
        conflict=conflict,
    )


@given(
    st.lists(
        st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(0, MAX_JOB_BYTES)), max_size=60
    )
)
def test_slices_keep_order_lose_nothing_and_stay_small(plan: list[tuple[int, int, int]]) -> None:
    items = [item(n, f"1.{s}", f"1.{s}.{r}", size) for n, (s, r, size) in enumerate(sorted(plan))]
    jobs = list(
        slice_into_jobs(items, priority_of=lambda _study: Priority.NORMAL, keeps_versions=False)
    )
    assert [one for job in jobs for one in job.items] == items
    for job in jobs:
        assert 1 <= len(job.items) <= MAX_JOB_INSTANCES
        size = sum(one.entry.fingerprint.size for one in job.items)
        assert size <= MAX_JOB_BYTES or len(job.items) == 1
        assert {one.identity.series_instance_uid for one in job.items} == {job.series_instance_uid}
        assert {one.identity.study_instance_uid for one in job.items} == {job.study_instance_uid}


def test_a_long_series_is_cut() -> None:
    items = [item(n, "1.1", "1.1.1") for n in range(2 * MAX_JOB_INSTANCES + 1)]
    jobs = list(
        slice_into_jobs(items, priority_of=lambda _study: Priority.HIGH, keeps_versions=False)
    )
    assert [len(job.items) for job in jobs] == [MAX_JOB_INSTANCES, MAX_JOB_INSTANCES, 1]
    assert {job.priority for job in jobs} == {Priority.HIGH}


@pytest.mark.parametrize("keeps_versions", [True, False])
def test_two_contents_under_one_uid_conflict_only_where_one_has_a_place(
    keeps_versions: bool,
) -> None:
    jobs = slice_into_jobs(
        [item(1, "1.1", "1.1.1", conflict=True)],
        priority_of=lambda _study: Priority.NORMAL,
        keeps_versions=keeps_versions,
    )
    assert next(jobs).items[0].conflict is not keeps_versions
