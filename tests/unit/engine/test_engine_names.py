"""Names of durable work."""

from __future__ import annotations

from dcmvault.engine.names import (
    destination_of,
    destination_queue,
    job_prefix,
    jobs_workflow_id,
    queue_order,
)
from dcmvault.model.identifiers import DestinationId, JobId
from dcmvault.model.job import Priority


def test_queue_names_lead_back_to_their_destination() -> None:
    assert destination_queue(DestinationId(12)) == "destination:12"
    assert destination_of("destination:12") == 12
    for other in ("runs", "destination:", "destination:x", "other:12", "12", ""):
        assert destination_of(other) is None


def test_attempts_at_a_job_have_their_own_names_under_its_prefix() -> None:
    names = {jobs_workflow_id([JobId("j")], planning, n) for planning in (1, 2) for n in (1, 2, 12)}
    assert len(names) == 6
    assert all(name.startswith(job_prefix(JobId("j"))) for name in names)
    assert not jobs_workflow_id([JobId("j2")], 1, 1).startswith(job_prefix(JobId("j")))


def test_attempts_at_a_bundle_are_found_under_no_job_s_prefix() -> None:
    bundle = [JobId("j1"), JobId("j2"), JobId("j3")]
    names = {jobs_workflow_id(some, 1, 1) for some in (bundle, bundle[:2], bundle[:1], bundle[1:])}
    assert len(names) == 4
    for name in names - {"j1/1.1"}:
        assert not any(name.startswith(job_prefix(job)) for job in bundle)


def test_higher_priority_is_a_smaller_order_from_one() -> None:
    assert [queue_order(priority) for priority in sorted(Priority, reverse=True)] == [1, 2, 3, 4, 5]
