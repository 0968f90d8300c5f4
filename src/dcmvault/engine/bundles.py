"""Bundles: small jobs are carried out together, because each alone costs more than its work."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dcmvault.model.job import BATCH_INSTANCES, Job

#: A bundle is one step's work: it is repeated as a whole after a crash.
MAX_BUNDLE_INSTANCES = BATCH_INSTANCES
MAX_BUNDLE_BYTES = 64 << 20


def bundle_jobs(jobs: Iterable[Job]) -> Iterator[list[Job]]:
    """Put jobs that follow each other in bundles; a job that is no small one is alone."""
    bundle: list[Job] = []
    instances = size = 0
    for job in jobs:
        instances += job.instances
        size += job.bytes
        fits = instances <= MAX_BUNDLE_INSTANCES and size <= MAX_BUNDLE_BYTES
        if bundle and not (fits and _alike(bundle[0], job)):
            yield bundle
            bundle, instances, size = [], job.instances, job.bytes
        bundle.append(job)
    if bundle:
        yield bundle


def _alike(one: Job, other: Job) -> bool:
    """Say whether two jobs may travel together: equally urgent, to the same place."""
    return (one.run_id, one.destination_id, one.priority) == (
        other.run_id,
        other.destination_id,
        other.priority,
    )
