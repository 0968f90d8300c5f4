"""Bundles: small jobs are carried out together, because each alone costs more than its work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dcmvault.model.job import BATCH_INSTANCES, Job

#: A bundle is one step's work. The more there is to do, the larger its bundles are: what each
#: costs (a flush, a pack that is not full) is spread over more. But these make it ...
BUNDLES_OF_MUCH = 8
#: ... unless it is so little that more of them pay less than they cost, ...
LEAST_FULL_INSTANCES, LEAST_FULL_BYTES = 100, 64 << 20
#: ... or so much that a step would be longer than anybody waits for.
MAX_BUNDLE_INSTANCES, MAX_BUNDLE_BYTES = BATCH_INSTANCES, 192 << 20
#: Several workers get so many each, up to so many workers: else one would still have a large one
#: to do, alone, when there is nothing left for the others.
MOST_WORKERS = 4


def bundle_jobs(jobs: Sequence[Job], workers: int = 1) -> Iterator[list[Job]]:
    """Put jobs that follow each other in bundles; a job that is no small one is alone."""
    shares = min(max(workers, 1), MOST_WORKERS)
    much = {destination: _Much(shares) for destination in {job.destination_id for job in jobs}}
    for job in jobs:
        much[job.destination_id].instances += job.instances
        much[job.destination_id].bytes += job.bytes
    bundle: list[Job] = []
    instances = size = 0
    for job in jobs:
        instances += job.instances
        size += job.bytes
        fits = much[job.destination_id].fits_one_bundle(instances, size)
        if bundle and not (fits and _alike(bundle[0], job)):
            yield bundle
            bundle, instances, size = [], job.instances, job.bytes
        bundle.append(job)
    if bundle:
        yield bundle


@dataclass(slots=True)
class _Much:
    """All that there is to do for one destination, and how many workers there are for it."""

    workers: int
    instances: int = 0
    bytes: int = 0

    def fits_one_bundle(self, instances: int, size: int) -> bool:
        """Say whether so much still is one bundle."""
        bundles = BUNDLES_OF_MUCH * self.workers
        least, least_bytes = LEAST_FULL_INSTANCES // self.workers, LEAST_FULL_BYTES // self.workers
        most = min(max(self.instances // bundles, least), MAX_BUNDLE_INSTANCES)
        most_bytes = min(max(self.bytes // bundles, least_bytes), MAX_BUNDLE_BYTES)
        return instances <= most and size <= most_bytes


def _alike(one: Job, other: Job) -> bool:
    """Say whether two jobs may travel together: equally urgent, to the same place."""
    return (one.run_id, one.destination_id, one.priority) == (
        other.run_id,
        other.destination_id,
        other.priority,
    )
