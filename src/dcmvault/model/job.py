"""Jobs: one series (or slice of it) on its way to one destination, and its life as a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from types import MappingProxyType

from dcmvault.model.identifiers import DestinationId, JobId, RunId

#: A job carries at most this much, so that its progress is visible and its loss small.
MAX_JOB_INSTANCES = 500
MAX_JOB_BYTES = 1 << 30
#: Instances handed to one durable step, at most. What became of them is written down more often,
#: as each destination asks for (`flush_interval_s`): so much, and no more, is done again after a
#: crash.
BATCH_INSTANCES = 400


class Priority(IntEnum):
    """Order in a destination's queue."""

    LOW = 0
    NORMAL = 1
    HIGH = 2
    URGENT = 3
    EMERGENCY = 4


class JobState(StrEnum):
    """The life of a job."""

    PENDING = "pending"
    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    VERIFYING = "verifying"
    RETRYING = "retrying"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


_S = JobState
#: Which states may follow which. A state may always be written again (steps repeat after a crash).
JOB_TRANSITIONS: Mapping[JobState, frozenset[JobState]] = MappingProxyType(
    {
        _S.PENDING: frozenset({_S.QUEUED, _S.IN_PROGRESS, _S.FAILED, _S.CANCELLED}),
        _S.QUEUED: frozenset({_S.IN_PROGRESS, _S.FAILED, _S.CANCELLED}),
        _S.IN_PROGRESS: frozenset({_S.VERIFYING, _S.RETRYING, _S.FAILED, _S.CANCELLED}),
        _S.VERIFYING: frozenset({_S.COMPLETED, _S.RETRYING, _S.FAILED, _S.CANCELLED}),
        _S.RETRYING: frozenset({_S.QUEUED, _S.IN_PROGRESS, _S.FAILED, _S.CANCELLED}),
        _S.COMPLETED: frozenset(),
        _S.FAILED: frozenset(),
        _S.CANCELLED: frozenset(),
    }
)


class ItemState(StrEnum):
    """Where one instance of a run stands at one destination."""

    #: To be delivered (or, in a verification run, to be verified).
    DUE = "due"
    #: Refused for now; due again after the job's wait.
    WAITING = "waiting"
    #: The destination claims it; nothing verified yet.
    SENT = "sent"
    #: Evidence of the asked level exists.
    HELD = "held"
    FAILED = "failed"
    #: The source could not give the bytes.
    UNREADABLE = "unreadable"
    #: Other content under the same UID has the place that a PACS gives only once.
    CONFLICT = "conflict"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the queue and the worker know it; its items live in the catalogue."""

    job_id: JobId
    run_id: RunId
    destination_id: DestinationId
    study_instance_uid: str
    series_instance_uid: str
    state: JobState
    priority: Priority
    instances: int
    bytes: int  #: of the source files
    #: Deliveries tried so far, this one included.
    attempt: int


@dataclass(frozen=True, slots=True)
class Batch:
    """What one durable step did to the jobs that it was given.

    `remaining` counts items that are due now, of jobs that do not wait. `waiting` names jobs of
    which nothing is due now but something is WAITING: enqueue them again after `wait_s` seconds.
    """

    remaining: int
    wait_s: float | None = None
    waiting: tuple[JobId, ...] = ()
