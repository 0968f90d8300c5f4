"""Small jobs that follow each other travel together; nothing else does."""

from __future__ import annotations

from dcmvault.engine.bundles import (
    LEAST_FULL_BYTES,
    LEAST_FULL_INSTANCES,
    MAX_BUNDLE_BYTES,
    MAX_BUNDLE_INSTANCES,
    bundle_jobs,
)
from dcmvault.model.identifiers import DestinationId, JobId, RunId
from dcmvault.model.job import Job, JobState, Priority


def _job(
    name: str,
    instances: int = 1,
    size: int = 1,
    *,
    destination: int = 1,
    priority: Priority = Priority.NORMAL,
) -> Job:
    return Job(
        JobId(name),
        RunId("run"),
        DestinationId(destination),
        "1.2",
        "1.2.3",
        JobState.PENDING,
        priority,
        instances,
        size,
        0,
    )


def _names(*jobs: Job) -> list[str]:
    return [" ".join(job.job_id for job in bundle) for bundle in bundle_jobs(jobs)]


def test_small_jobs_travel_together_until_the_bundle_is_full() -> None:
    assert _names() == []
    assert _names(_job("a"), _job("b"), _job("c")) == ["a b c"]
    half = LEAST_FULL_INSTANCES // 2
    assert _names(_job("a", half), _job("b", half), _job("c")) == ["a b", "c"]
    large = LEAST_FULL_BYTES // 2 + 1
    assert _names(_job("a", size=large), _job("b", size=large), _job("c")) == ["a", "b c"]


def test_of_much_the_bundles_are_larger() -> None:
    jobs = [_job(f"j{number}", 50) for number in range(32)]
    assert [len(bundle) for bundle in bundle_jobs(jobs)] == [4] * 8
    very_many = [_job(f"j{number}", 50, 1 << 20) for number in range(3200)]
    assert {len(bundle) for bundle in bundle_jobs(very_many)} == {MAX_BUNDLE_INSTANCES // 50}
    heavy = [_job(f"j{number}", 1, 8 << 20) for number in range(3200)]
    assert {len(bundle) for bundle in bundle_jobs(heavy)} <= {MAX_BUNDLE_BYTES // (8 << 20), 8}


def test_for_several_workers_the_bundles_are_smaller() -> None:
    """None has a large one to do, alone, when there is nothing left for the others."""
    jobs = [_job(f"j{number}", 50) for number in range(32)]
    assert [len(bundle) for bundle in bundle_jobs(jobs, 2)] == [2] * 16
    few = [_job(f"j{number}", 5) for number in range(40)]
    assert [len(bundle) for bundle in bundle_jobs(few, 2)] == [10] * 4
    assert list(bundle_jobs(few, 100)) == list(bundle_jobs(few, 4))


def test_another_destination_s_work_makes_no_bundle_larger() -> None:
    few = [_job(f"few{number}", 50) for number in range(4)]
    many = [_job(f"many{number}", 50, destination=2) for number in range(320)]
    assert [len(bundle) for bundle in bundle_jobs([*few, *many])][:2] == [2, 2]


def test_a_large_job_is_alone() -> None:
    large = _job("large", MAX_BUNDLE_INSTANCES + 1)
    assert _names(_job("a"), large, _job("b"), _job("c")) == ["a", "large", "b c"]
    heavy = _job("heavy", size=MAX_BUNDLE_BYTES + 1)
    assert _names(heavy, heavy) == ["heavy", "heavy"]


def test_other_places_and_other_urgency_do_not_mix() -> None:
    assert _names(_job("a"), _job("b", destination=2), _job("c")) == ["a", "b", "c"]
    assert _names(_job("a", priority=Priority.HIGH), _job("b")) == ["a", "b"]
