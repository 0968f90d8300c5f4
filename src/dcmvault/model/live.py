"""What goes on now: a lane for each destination, what moves in it, and what just failed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from dcmvault.model.overview import Pause


@dataclass(frozen=True, slots=True)
class Slowed:
    """A limit that somebody set for a while; it ends by itself."""

    bytes_per_s: float
    until: datetime


@dataclass(frozen=True, slots=True)
class Window:
    """The hours of a destination: whether it is open, and when that changes (None: never)."""

    is_open: bool
    changes_at: datetime | None


@dataclass(frozen=True, slots=True)
class EtaRange:
    """In how many seconds all is done: by the best and the worst pace of the last minutes."""

    least_s: float
    most_s: float


@dataclass(frozen=True, slots=True)
class Lane:
    """One destination: how fast bytes go there, what waits, and what keeps it."""

    #: A configured name, or `#` and a number.
    name: str
    #: How a command names it; empty where it was never sent to.
    address: str
    bytes_per_s: float
    #: The rates of the last minutes, second by second, the newest last.
    rates: tuple[float, ...]
    #: The limit of now; None where there is none.
    limit_bytes_per_s: float | None
    slowed: Slowed | None
    associations: int | None
    #: Jobs that wait, and that are at work.
    waiting: int
    running: int
    instances_left: int
    bytes_left: int
    eta: EtaRange | None
    pause: Pause | None
    window: Window | None
    down_since: datetime | None


@dataclass(frozen=True, slots=True)
class Transfer:
    """A job at work. The study is named by its UID only: names are shown where they may be."""

    job_id: str
    run_id: str
    destination: str
    study_instance_uid: str
    series_instance_uid: str
    state: str
    priority: str
    instances: int
    #: Of these, delivered (and perhaps verified), and failed.
    delivered: int
    failed: int
    bytes: int
    attempt: int

    @property
    def share(self) -> float:
        """How much of it is delivered, from 0 to 1."""
        return min(1.0, self.delivered / self.instances) if self.instances else 0.0


@dataclass(frozen=True, slots=True)
class RecentFailure:
    """What failed by one cause at one destination, in a run of late."""

    run_id: str
    destination: str
    code: str
    status: str
    message: str
    hint: str
    instances: int
    studies: int


@dataclass(frozen=True, slots=True)
class RunningRun:
    """A run that has not ended, summed over destinations."""

    run_id: str
    plan: str
    state: str
    instances: int
    settled: int
    failed: int
    bytes: int
    settled_bytes: int
    scanned: int


@dataclass(frozen=True, slots=True)
class Live:
    """Everything that the live page shows."""

    at: datetime
    #: Whether a process works and says what it does.
    is_worked: bool
    lanes: tuple[Lane, ...]
    runs: tuple[RunningRun, ...]
    transfers: tuple[Transfer, ...]
    failures: tuple[RecentFailure, ...]
