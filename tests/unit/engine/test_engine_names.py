"""Names of durable work."""

from __future__ import annotations

from dcmvault.engine.names import (
    destination_of,
    destination_queue,
    job_prefix,
    job_workflow_id,
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
    names = {job_workflow_id(JobId("j"), planning, n) for planning in (1, 2) for n in (1, 2, 12)}
    assert len(names) == 6
    assert all(name.startswith(job_prefix(JobId("j"))) for name in names)
    assert not job_workflow_id(JobId("j2"), 1, 1).startswith(job_prefix(JobId("j")))


def test_higher_priority_is_a_smaller_order_from_one() -> None:
    assert [queue_order(priority) for priority in sorted(Priority, reverse=True)] == [1, 2, 3, 4, 5]
