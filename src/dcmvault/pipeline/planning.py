"""Planning: what is due at one destination becomes jobs, each one series or a slice of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from dcmvault.model.job import MAX_JOB_BYTES, MAX_JOB_INSTANCES, Priority
from dcmvault.model.plan import PlanItem, PlannedJob


def slice_into_jobs(
    items: Iterable[PlanItem], *, priority_of: Callable[[str], Priority], keeps_versions: bool
) -> Iterator[PlannedJob]:
    """Cut items, ordered by study and series, into jobs, each with its study's priority.

    Where the destination keeps versions, two contents under one UID are no conflict.
    """
    part: list[PlanItem] = []
    part_bytes = 0

    def job() -> PlannedJob:
        identity = part[0].identity
        study = identity.study_instance_uid
        return PlannedJob(study, identity.series_instance_uid, tuple(part), priority_of(study))

    for due in items:
        item = replace(due, conflict=False) if due.conflict and keeps_versions else due
        size = item.entry.fingerprint.size
        if part and (
            _series(part[0]) != _series(item)
            or len(part) == MAX_JOB_INSTANCES
            or part_bytes + size > MAX_JOB_BYTES
        ):
            yield job()
            part, part_bytes = [], 0
        part.append(item)
        part_bytes += size
    if part:
        yield job()


def _series(item: PlanItem) -> tuple[str, str]:
    return (item.identity.study_instance_uid, item.identity.series_instance_uid)
