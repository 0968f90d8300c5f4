"""Samples: what probes say, turned into rates and forecasts; nothing here asks a clock."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol

from dcmvault.model.alert import Subject, SubjectKind
from dcmvault.model.identifiers import DestinationId, RunId
from dcmvault.model.job import JobState
from dcmvault.model.report import RunState
from dcmvault.model.sample import Figure, Sample
from dcmvault.model.thinning import begin_of
from dcmvault.ports.samples import RunFigures
from dcmvault.telemetry.machine import DiskSpace

#: Seconds of the past that a forecast goes by.
PACE_S = 60.0

#: What jobs of a state are counted as.
JOB_FIGURES = {
    JobState.PENDING: Figure.JOBS_PENDING,
    JobState.QUEUED: Figure.JOBS_QUEUED,
    JobState.IN_PROGRESS: Figure.JOBS_IN_PROGRESS,
    JobState.VERIFYING: Figure.JOBS_VERIFYING,
    JobState.RETRYING: Figure.JOBS_RETRYING,
}


class Probes(Protocol):
    """What is looked at for a sample. Destinations and disks are named as subjects are."""

    def machine(self) -> Mapping[Figure, float]:
        """Return figures of the machine and of this process."""
        ...

    def disks(self) -> Mapping[str, DiskSpace]:
        """Return the room of each disk that is written to."""
        ...

    def moved(self) -> Mapping[str, int]:
        """Return the bytes that went to each destination so far, counted in this process."""
        ...

    def associations(self) -> Mapping[str, int]:
        """Return how many deliveries are at work at each destination."""
        ...

    def runs(self) -> Sequence[RunFigures]:
        """Return how far unfinished runs have come."""
        ...

    def jobs(self) -> Mapping[DestinationId, Mapping[JobState, int]]:
        """Count the jobs that have not ended."""
        ...

    def name_of(self, destination_id: DestinationId) -> str:
        """Return how a destination is called."""
        ...


@dataclass(frozen=True, slots=True)
class Look:
    """What all probes said at one moment."""

    at: datetime
    machine: Mapping[Figure, float] = field(default_factory=dict)
    disks: Mapping[str, DiskSpace] = field(default_factory=dict)
    moved: Mapping[str, int] = field(default_factory=dict)
    associations: Mapping[str, int] = field(default_factory=dict)
    runs: Sequence[RunFigures] = ()
    jobs: Mapping[str, Mapping[JobState, int]] = field(default_factory=dict)
    #: What `runs` calls destinations.
    names: Mapping[DestinationId, str] = field(default_factory=dict)


def look(now: datetime, probes: Probes) -> Look:
    """Ask all probes."""
    runs, jobs = probes.runs(), probes.jobs()
    ids = {run.destination_id for run in runs} | set(jobs)
    names = {one: probes.name_of(one) for one in ids}
    return Look(
        at=now,
        machine=probes.machine(),
        disks=probes.disks(),
        moved=probes.moved(),
        associations=probes.associations(),
        runs=runs,
        jobs={names[one]: counts for one, counts in jobs.items()},
        names=names,
    )


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of some work, and how much was done."""

    done: int = 0
    done_bytes: int = 0
    items: int = 0
    bytes: int = 0

    @classmethod
    def of(cls, runs: Iterable[RunFigures]) -> Left:
        """Sum up runs; what is delivered is done, though it is not verified yet."""
        total = cls()
        for run in runs:
            done = min(run.settled + run.sent, run.items)
            by_count = run.bytes * done // run.items if run.items else 0
            total = replace(
                total,
                done=total.done + done,
                done_bytes=total.done_bytes + max(run.settled_bytes, by_count),
                items=total.items + run.items,
                bytes=total.bytes + run.bytes,
            )
        return total


class Forecast:
    """Tells from what was done lately how long the rest takes."""

    def __init__(self) -> None:
        self._past: deque[tuple[datetime, Left]] = deque()

    def figures(self, now: datetime, left: Left) -> dict[Figure, float]:
        """Take in what is left now; return that, the rate, and the seconds until it is done."""
        if self._past and (now <= self._past[-1][0] or left.done < self._past[-1][1].done):
            self._past.clear()  # the clock was set back, or other runs are counted
        self._past.append((now, left))
        while len(self._past) > 2 and (now - self._past[1][0]).total_seconds() >= PACE_S:
            self._past.popleft()
        then, past = self._past[0]
        figures = {
            Figure.INSTANCES_LEFT: float(left.items - left.done),
            Figure.BYTES_LEFT: float(max(left.bytes - left.done_bytes, 0)),
        }
        elapsed_s = (now - then).total_seconds()
        if elapsed_s > 0:
            done, done_bytes = left.done - past.done, left.done_bytes - past.done_bytes
            figures[Figure.INSTANCES_PER_S] = done / elapsed_s
            share = max(
                done / left.items if left.items else 0.0,
                done_bytes / left.bytes if left.bytes else 0.0,
            )
            if share > 0:
                rest = 1 - (left.done_bytes / left.bytes if left.bytes else left.done / left.items)
                figures[Figure.ETA_S] = rest / share * elapsed_s
        return figures


class Sampler:
    """Turns looks into samples: the sampler of one process, whose state is the looks before."""

    def __init__(self) -> None:
        self._before: Look | None = None
        self._forecasts: dict[Subject, Forecast] = {}

    def samples(self, seen: Look) -> list[Sample]:
        """Return one sample per subject, of the whole second in which the look was."""
        figures: dict[Subject, dict[Figure, float]] = defaultdict(dict)
        figures[Subject(SubjectKind.MACHINE)].update(seen.machine)
        for name, disk in seen.disks.items():
            figures[Subject(SubjectKind.DISK, name)] |= {
                Figure.DISK_FREE_BYTES: float(disk.free),
                Figure.DISK_TOTAL_BYTES: float(disk.total),
            }
        destinations = {*seen.moved, *seen.associations, *seen.jobs, *seen.names.values()}
        for name in sorted(destinations):
            figures[Subject(SubjectKind.DESTINATION, name)] |= self._destination(name, seen)
        self._add_runs(figures, seen)
        self._forecasts = {one: f for one, f in self._forecasts.items() if one in figures}
        self._before = seen
        at = begin_of(seen.at, 1)
        return [Sample(at, subject, some) for subject, some in sorted(figures.items())]

    def _destination(self, name: str, seen: Look) -> dict[Figure, float]:
        counts = seen.jobs.get(name, {})
        figures: dict[Figure, float] = {
            figure: float(counts.get(state, 0)) for state, figure in JOB_FIGURES.items()
        }
        figures[Figure.BYTES_PER_S] = self._bytes_per_s(name, seen)
        if name in seen.associations:
            figures[Figure.ASSOCIATIONS] = float(seen.associations[name])
        return figures

    def _bytes_per_s(self, name: str, seen: Look) -> float:
        before = self._before
        if before is None:
            return 0.0
        elapsed_s = (seen.at - before.at).total_seconds()
        moved = seen.moved.get(name, 0) - before.moved.get(name, 0)
        return moved / elapsed_s if elapsed_s > 0 and moved > 0 else 0.0

    def _add_runs(self, figures: dict[Subject, dict[Figure, float]], seen: Look) -> None:
        """Add what is left: of each run, and at each destination."""
        groups: dict[Subject, list[RunFigures]] = defaultdict(list)
        for run in seen.runs:
            if run.state is RunState.RUNNING:
                groups[Subject(SubjectKind.RUN, run.run_id)].append(run)
                name = seen.names[run.destination_id]
                groups[Subject(SubjectKind.DESTINATION, name)].append(run)
        for subject, some in groups.items():
            forecast = self._forecasts.setdefault(subject, Forecast())
            figures[subject] |= forecast.figures(seen.at, Left.of(some))


def progress_marks(seen: Look) -> Mapping[RunId, tuple[int, ...]]:
    """Return for each run at work what changes whenever it gets on, be it by a single byte."""
    marks: dict[RunId, Counter[str]] = defaultdict(Counter)
    for run in seen.runs:
        name = seen.names[run.destination_id]
        at_work = seen.jobs.get(name, {}).get(JobState.IN_PROGRESS, 0)
        if run.state is RunState.RUNNING and run.settled < run.items and at_work:
            marks[run.run_id].update(
                settled=run.settled, sent=run.sent, moved=seen.moved.get(name, 0)
            )
    return {
        run_id: (mark["settled"], mark["sent"], mark["moved"]) for run_id, mark in marks.items()
    }
