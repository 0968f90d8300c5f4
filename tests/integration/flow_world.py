"""Runs carried out step by step in this process, by stages that can die at any write."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from dcmvault.app.stages import BackupStages
from dcmvault.catalogue import Catalogue, open_catalogue
from dcmvault.config.addresses import destination_section, source_section
from dcmvault.config.peer_sections import DimseDestinationSection
from dcmvault.config.sections import FolderDestinationSection, FolderSourceSection
from dcmvault.destinations.dimse import DimseDestination
from dcmvault.destinations.folder import FolderDestination
from dcmvault.engine.bundles import bundle_jobs
from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import JobId, RunId
from dcmvault.model.job import Job
from dcmvault.model.plan import DestinationRequest, RunKind, RunRequest, Strategy
from dcmvault.model.report import RunReport
from dcmvault.model.selection import EVERYTHING, Selection
from dcmvault.object_stores.local import LocalStore
from dcmvault.pipeline.classification import Classifier
from dcmvault.pipeline.retry import RetryPolicy
from dcmvault.pipeline.sudden_change import HoldPolicy
from dcmvault.ports.destination import Destination
from dcmvault.ports.source import Source
from dcmvault.sources.folder import FolderSource
from dcmvault.testing.clock import FakeClock
from dcmvault.testing.faulty import CrashError

#: Methods of the catalogue's ports that write.
_WRITES = frozenset(
    {
        "add_jobs",
        "add_seconds_at",
        "add_stage_seconds",
        "drop_unstarted_jobs",
        "finish",
        "finish_run",
        "record",
        "record_closing",
        "record_outcomes",
        "record_down",
        "record_plan",
        "record_routes",
        "record_snapshot",
        "record_verification",
        "release_undelivered",
        "release_waiting",
        "set_digest",
        "set_job_state",
        "set_run_state",
        "set_scanned",
    }
)


class TickingClock(FakeClock):
    """A clock that moves by a second whenever it is looked at: every outcome is written at once."""

    def monotonic(self) -> float:
        """Return the seconds so far, a second later each time."""
        self.advance(1.0)
        return super().monotonic()


@dataclass(slots=True)
class Death:
    """The process dies at the `at`-th write (from 1), before or after it; never for 0."""

    at: int = 0
    after: bool = False
    writes: int = 0
    dead: bool = False

    def guard(self, port: Any) -> Any:
        """Wrap a port of the catalogue."""
        return _Mortal(port, self)


@dataclass(slots=True)
class _Mortal:
    port: Any
    death: Death

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.port, name)
        death = self.death
        if name not in _WRITES and name != "scan":
            return method

        def call(*arguments: Any, **options: Any) -> Any:
            if death.dead:
                raise CrashError(name)
            if name == "scan":
                return death.guard(method(*arguments, **options))
            death.writes += 1
            death.dead = death.writes == death.at
            if death.dead and not death.after:
                raise CrashError(name)
            result = method(*arguments, **options)
            if death.dead:
                raise CrashError(name)
            return result

        return call


@dataclass(slots=True)
class Durable:
    """What the durable engine would remember of a run: results of steps that ended."""

    run_id: RunId
    planned: Sequence[Job] | None = None
    ended: set[JobId] = field(default_factory=set)
    finished: bool = False
    #: Seconds asked for by each wait.
    waits: list[float] = field(default_factory=list)
    steps: int = 0


class Flow:
    """A catalogue, a clock, and destinations by their addresses."""

    def __init__(self, folder: Path, clock: FakeClock | None = None) -> None:
        self.catalogue: Catalogue = open_catalogue(str(folder / "catalogue.sqlite3"))
        self.clock = clock if clock is not None else TickingClock()
        self.policy = RetryPolicy(jitter=0)
        self.hold = HoldPolicy()
        self.destinations: dict[str, Destination] = {}
        #: Sources by their addresses that are no folders.
        self.sources: dict[str, Source] = {}
        self._runs = 0

    def open_destination(self, address: str) -> Destination:
        """Return the destination that was put at an address, or make the usual one."""
        if address in self.destinations:
            return self.destinations[address]
        section = destination_section(address)
        if isinstance(section, DimseDestinationSection):
            # One for all steps, as in the product: it keeps its associations between them.
            made = DimseDestination(section, self.clock)
            return self.destinations.setdefault(section.address, made)
        assert isinstance(section, FolderDestinationSection)
        return FolderDestination(section, LocalStore(section.path, self.clock), self.clock)

    def open_source(self, request: RunRequest) -> Source:
        """Return the source that was put at an address, or make one of the folder."""
        if request.source in self.sources:
            return self.sources[request.source]
        return FolderSource(cast(FolderSourceSection, source_section(request.source)))

    def stages(self, death: Death | None = None) -> BackupStages:
        """Make the stages of a new process."""
        death = death if death is not None else Death()
        catalogue = self.catalogue
        return BackupStages(
            sources=cast(Any, death.guard(catalogue.sources)),
            plans=cast(Any, death.guard(catalogue.plans)),
            jobs=cast(Any, death.guard(catalogue.jobs)),
            runs=cast(Any, death.guard(catalogue.runs)),
            snapshots=cast(Any, death.guard(catalogue.snapshots)),
            reverification=catalogue.reverification,
            exclusions=catalogue.exclusions,
            facts=catalogue.study_facts,
            routes=cast(Any, death.guard(catalogue.routes)),
            classifier=Classifier,
            meter=cast(Any, death.guard(catalogue.statistics)),
            open_source=self.open_source,
            open_destination=self.open_destination,
            policy=self.policy,
            clock=self.clock,
            seal_run=lambda _run_id: None,
            signs=catalogue.signs,
            hold=lambda: self.hold,
        )

    def ask(
        self,
        source: Path | str,
        *destinations: str,
        level: Level | None = None,
        strategy: Strategy = Strategy.INCREMENTAL,
        kind: RunKind = RunKind.BACKUP,
        selection: Selection = EVERYTHING,
    ) -> Durable:
        """Ask for a run."""
        self._runs += 1
        adapters = [self.open_destination(address) for address in destinations]
        request = RunRequest(
            kind,
            str(source),
            tuple(
                DestinationRequest(adapter.name, level or adapter.default_level)
                for adapter in adapters
            ),
            strategy,
            selection=selection,
        )
        run_id = RunId(f"run-{self._runs:03d}")
        return Durable(self.catalogue.runs.ask_for_run(run_id, request, self.clock.now()))

    def carry_out(
        self,
        durable: Durable,
        stages: BackupStages,
        between: Callable[[Job], object] = lambda _job: None,
    ) -> None:
        """Carry a run out from where it stands; CrashError leaves `durable` as the engine would.

        `between` is called before each step of a job.
        """
        while not durable.finished:
            if durable.planned is None:
                durable.planned = stages.plan(durable.run_id)
            open_jobs = [job for job in durable.planned if job.job_id not in durable.ended]
            while open_jobs:
                waits_before = len(durable.waits)
                waited: list[Job] = []
                for bundle in bundle_jobs(open_jobs):
                    waited += self._do_jobs(durable, stages, bundle, between)
                open_jobs = waited
                self.clock.advance(max(durable.waits[waits_before:], default=0.0))
            durable.finished = stages.finish(durable.run_id)
            durable.planned = None

    def _do_jobs(
        self,
        durable: Durable,
        stages: BackupStages,
        bundle: Sequence[Job],
        between: Callable[[Job], object],
    ) -> Iterable[Job]:
        """Do what the engine does with a bundle; return the jobs of it that wait."""
        left, waiting = list(bundle), list[Job]()
        while True:
            for job in left:
                between(job)
            durable.steps += 1
            assert durable.steps < 10_000, "the run does not end"
            batch = stages.deliver([job.job_id for job in left])
            if batch.wait_s is not None:
                durable.waits.append(batch.wait_s)
                waiting += [job for job in left if job.job_id in batch.waiting]
                left = [job for job in left if job.job_id not in batch.waiting]
            if not batch.remaining:
                break
        durable.ended |= {job.job_id for job in left}
        return waiting

    def report(self, durable: Durable) -> RunReport:
        """Return the run's report."""
        return self.catalogue.runs.report(durable.run_id)

    def backup(self, source: Path | str, *destinations: str, **options: Any) -> RunReport:
        """Ask for a run, carry it out without any fault, and return its report."""
        durable = self.ask(source, *destinations, **options)
        self.carry_out(durable, self.stages())
        return self.report(durable)


def counts_of(report: RunReport) -> dict[str, int]:
    """Return the counts that are not zero."""
    counts = report.counts
    return {
        name: getattr(counts, name)
        for name in ("selected", "already_held", "stored", "failed", "unreadable", "conflicts")
        if getattr(counts, name)
    }
