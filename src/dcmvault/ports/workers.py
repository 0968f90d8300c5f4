"""Workers that share one database: who is there, and what each has of common limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class WorkerIdentity:
    """Who a worker is: `worker_id` is of this process only, `name` of its host."""

    worker_id: str
    name: str
    #: `serve`, `worker`, or `command`: one that works for as long as it runs.
    role: str
    process: int
    version: str


@dataclass(frozen=True, slots=True)
class Doing:
    """What a worker says of itself; addresses are canonical."""

    #: Runs and bundles of jobs that it carries out now.
    running: int = 0
    #: Bytes sent so far, and associations that stand, by destination.
    moved: Mapping[str, int] = field(default_factory=dict)
    associations: Mapping[str, int] = field(default_factory=dict)
    #: Places that it cannot reach, and why: others are to do what needs them.
    lacks: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class KnownWorker:
    """A worker as others know it."""

    identity: WorkerIdentity
    #: The name under which the durable engine writes down what it does.
    executor: str
    started_at: datetime
    #: By the server's clock; `silent_s` is how long ago that was when it was asked.
    beat_at: datetime
    silent_s: float
    doing: Doing


class WorkerBook(Protocol):
    """Where workers say that they live. All moments are the server's. Raises StateError."""

    def join(self, worker: WorkerIdentity, executor: str) -> None:
        """Say that a worker is there from now on, under this name of the durable engine."""
        ...

    def beat(self, worker_id: str, doing: Doing) -> bool:
        """Say that it lives and what it does; False where others took it for dead meanwhile."""
        ...

    def leave(self, worker_id: str) -> None:
        """Forget a worker that ended, or is dead, and what it had of common limits."""
        ...

    def workers(self) -> Sequence[KnownWorker]:
        """List those that are there, by name and start."""
        ...


class AssociationShares(Protocol):
    """Where workers say how many associations of a destination each of them has."""

    def claim(self, limit: str, holder: str, in_use: int, most: int) -> int:
        """Say how many stand, and return how many may.

        All holders together never have more than `most`. What is granted holds for
        `SHARES_LEASE_S`; then it may be another's. Raises StateError.
        """
        ...

    def give_back(self, holder: str, limit: str) -> None:
        """Have none any more. Raises StateError."""
        ...


class Slots(Protocol):
    """The associations, or connections, of one destination that a worker has. Thread-safe."""

    @property
    def most(self) -> int:
        """As many as are configured, for all workers together."""
        ...

    @property
    def in_use(self) -> int:
        """Count those that stand, the idle ones included."""
        ...

    @property
    def is_wanted(self) -> bool:
        """Whether some are used, or somebody waits for one."""
        ...

    def lease(self, wanted: Callable[[], None], is_over: Callable[[], bool]) -> None:
        """Have none until some are granted; `wanted` is called when somebody waits for one.

        Nobody waits on when it `is_over`: StageInterruption then.
        """
        ...

    def grant(self, most: int) -> None:
        """Have so many at most from now on; those beyond end when their work does."""
        ...

    def settled(self) -> AbstractContextManager[int]:
        """Count those that stand; no more stand until the next grant."""
        ...


@runtime_checkable
class SharesAssociations(Protocol):
    """A destination of which all workers together may have a number of associations."""

    @property
    def name(self) -> str:
        """The canonical address."""
        ...

    @property
    def slots(self) -> Slots:
        """What counts them."""
        ...

    def close_idle(self) -> None:
        """Release those that wait for work."""
        ...


#: Seconds for which associations are granted.
SHARES_LEASE_S = 10.0
