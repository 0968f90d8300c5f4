"""Samples: what was measured of the machine, of disks, destinations and runs, second by second."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from dcmvault.model.alert import Subject


class Figure(StrEnum):
    """What is measured: names of the columns of the catalogue and of CSV; units in the names."""

    #: Bytes per second that went on their way to a destination.
    BYTES_PER_S = "bytes_per_s"
    #: Instances per second that reached an end: held, or failed.
    INSTANCES_PER_S = "instances_per_s"
    #: Associations (or connections) that deliver now.
    ASSOCIATIONS = "associations"
    #: Jobs by their state.
    JOBS_PENDING = "jobs_pending"
    JOBS_QUEUED = "jobs_queued"
    JOBS_IN_PROGRESS = "jobs_in_progress"
    JOBS_VERIFYING = "jobs_verifying"
    JOBS_RETRYING = "jobs_retrying"
    #: What is left to be done.
    INSTANCES_LEFT = "instances_left"
    BYTES_LEFT = "bytes_left"
    #: Seconds until that is done, at the pace of the last minute.
    ETA_S = "eta_s"
    #: Of all processors together, and of this process alone; 1 is all of them.
    CPU_SHARE = "cpu_share"
    PROCESS_CPU_SHARE = "process_cpu_share"
    #: The resident memory of this process, and what the machine could still give.
    MEMORY_BYTES = "memory_bytes"
    MEMORY_AVAILABLE_BYTES = "memory_available_bytes"
    #: What a file system has room for, for us, and in all.
    DISK_FREE_BYTES = "disk_free_bytes"
    DISK_TOTAL_BYTES = "disk_total_bytes"


class Thinning(StrEnum):
    """How several samples become one."""

    MEAN = "mean"
    LAST = "last"
    LEAST = "least"
    MOST = "most"


#: Rates are averaged; of what is there at a moment the last counts, of what may run out the least.
THINNED_BY: Mapping[Figure, Thinning] = {
    Figure.BYTES_PER_S: Thinning.MEAN,
    Figure.INSTANCES_PER_S: Thinning.MEAN,
    Figure.ASSOCIATIONS: Thinning.MEAN,
    Figure.JOBS_PENDING: Thinning.LAST,
    Figure.JOBS_QUEUED: Thinning.LAST,
    Figure.JOBS_IN_PROGRESS: Thinning.LAST,
    Figure.JOBS_VERIFYING: Thinning.LAST,
    Figure.JOBS_RETRYING: Thinning.LAST,
    Figure.INSTANCES_LEFT: Thinning.LAST,
    Figure.BYTES_LEFT: Thinning.LAST,
    Figure.ETA_S: Thinning.LAST,
    Figure.CPU_SHARE: Thinning.MEAN,
    Figure.PROCESS_CPU_SHARE: Thinning.MEAN,
    Figure.MEMORY_BYTES: Thinning.MOST,
    Figure.MEMORY_AVAILABLE_BYTES: Thinning.LEAST,
    Figure.DISK_FREE_BYTES: Thinning.LEAST,
    Figure.DISK_TOTAL_BYTES: Thinning.LAST,
}


@dataclass(frozen=True, slots=True)
class Sample:
    """What was measured of one thing at a whole second, or over the `span_s` seconds from it on."""

    at: datetime
    subject: Subject
    figures: Mapping[Figure, float] = field(default_factory=dict)
    span_s: int = 1
