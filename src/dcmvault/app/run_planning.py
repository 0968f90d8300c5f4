"""A run's plan: what is due at each destination is written down as jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice

from dcmvault.app.study_choice import StudyChoice
from dcmvault.model.classification import StudyMarks
from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import DestinationId, RunId, SourceId
from dcmvault.model.job import Job, Priority
from dcmvault.model.plan import (
    DestinationRequest,
    PlanItem,
    PlannedJob,
    RunKind,
    RunRequest,
    Sample,
)
from dcmvault.model.routing import RoutingMode
from dcmvault.model.selection import Selection
from dcmvault.pipeline.classification import Classifier
from dcmvault.pipeline.planning import slice_into_jobs
from dcmvault.pipeline.reverification import choose_oldest
from dcmvault.ports.catalogue import PlanCatalogue
from dcmvault.ports.clock import Clock
from dcmvault.ports.destination import Destination, Probes
from dcmvault.ports.exclusions import ExclusionBook
from dcmvault.ports.reverification import ReverificationCatalogue
from dcmvault.ports.source import MarksStudies, Source
from dcmvault.ports.strategy import RouteBook, StudyFactsCatalogue

#: Jobs written in one transaction, and after how many instances no further one is.
_JOBS_AT_ONCE, _INSTANCES_AT_ONCE = 100, 10_000


@dataclass(slots=True)
class Planned:
    """What planning made, and found: by destination, and of the run as a whole."""

    jobs: list[Job] = field(default_factory=list)
    already_held: dict[DestinationId, int] = field(default_factory=dict)
    levels: dict[DestinationId, Level] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class RunPlanning:
    """Plans runs over the ports of a catalogue."""

    plans: PlanCatalogue
    facts: StudyFactsCatalogue
    routes: RouteBook
    reverification: ReverificationCatalogue
    exclusions: ExclusionBook
    open_destination: Callable[[str], Destination]
    #: Makes the classifier that is in force now.
    classifier: Callable[[], Classifier]
    clock: Clock

    def plan(
        self,
        run_id: RunId,
        request: RunRequest,
        source_id: SourceId,
        marks: Mapping[str, StudyMarks],
        check_stop: Callable[[], None],
    ) -> Planned:
        """Write down as jobs what is due; `check_stop` is called now and then, and may raise."""
        planned = Planned()
        levels: dict[str, Level] = {}
        for wanted in request.destinations:
            destination = self.open_destination(wanted.address)
            destination_id = self.plans.destination(
                destination.name, keeps_versions=destination.keeps_versions
            )
            levels[wanted.address] = wanted.level or destination.default_level
            planned.levels[destination_id] = levels[wanted.address]
        asked = replace(
            request,
            destinations=tuple(
                replace(one, level=levels[one.address]) for one in request.destinations
            ),
        )
        choice = None
        if request.kind is RunKind.BACKUP:
            choice = self.choice(run_id, asked, source_id, marks)
            if choice.is_needed:
                choice.look()
            else:
                choice = None
        for wanted in asked.destinations:
            jobs, held = self._plan_destination(
                run_id, asked, source_id, wanted, choice, check_stop
            )
            planned.jobs += jobs if choice is None else choice.in_order(jobs)
            planned.already_held[self.plans.destination(wanted.address)] = held
        if choice is not None:
            choice.record_routes()
            planned.remarks += choice.remarks()
        if request.kind is RunKind.BACKUP:
            planned.remarks += self.left_out(source_id, request)
        return planned

    def left_out(self, source_id: SourceId, request: RunRequest) -> list[str]:
        """Say how many studies are not backed up because somebody left them out."""
        count = self.exclusions.left_out(source_id, request.selection)
        return [f"studies that are excluded from backups, and left out: {count:,}"] if count else []

    def choice(
        self,
        run_id: RunId | None,
        request: RunRequest,
        source_id: SourceId,
        marks: Mapping[str, StudyMarks],
    ) -> StudyChoice:
        """Make what chooses among the studies that are due."""
        return StudyChoice(
            request=request,
            source_id=source_id,
            plans=self.plans,
            facts=self.facts,
            routes=self.routes,
            make_classifier=self.classifier,
            now=self.clock.now(),
            run_id=run_id,
            marks=marks,
            down=self._down(run_id, request),
        )

    def _down(self, run_id: RunId | None, request: RunRequest) -> dict[str, str]:
        """Find out which destinations cannot be reached, where that decides anything."""
        asked: set[str] = set()
        if request.routing.mode is not RoutingMode.MIRROR:
            asked.update(wanted.address for wanted in request.destinations)
        for rule in request.routing.rules:
            if rule.mode is not RoutingMode.MIRROR:
                asked.update(rule.to)
        known = self.routes.down(run_id) if run_id is not None and asked else {}
        down = {}
        for address in sorted(asked):
            why = known.get(self.plans.destination(address)) or self._why_not(address)
            if why:
                down[address] = why
        return down

    def _why_not(self, address: str) -> str:
        """Say why a destination cannot be reached; empty where it can."""
        destination = self.open_destination(address)
        if not isinstance(destination, Probes):
            return ""
        failed = [step for step in destination.probe() if not step.ok]
        return f"{failed[0].name}: {failed[0].detail}" if failed else ""

    def _plan_destination(
        self,
        run_id: RunId,
        request: RunRequest,
        source_id: SourceId,
        wanted: DestinationRequest,
        choice: StudyChoice | None,
        check_stop: Callable[[], None],
    ) -> tuple[list[Job], int]:
        """Return the jobs at a destination, and how many versions it holds that are in none."""
        destination = self.open_destination(wanted.address)
        destination_id = self.plans.destination(destination.name)
        level = wanted.level or destination.default_level
        items: Iterator[PlanItem]
        held = 0

        def priority_of(study_instance_uid: str) -> Priority:
            return choice.priority_of(study_instance_uid) if choice else request.priority

        if request.kind is RunKind.VERIFY:
            items = self._expected(
                source_id, destination_id, level, wanted.sample, request.selection
            )
        else:
            chosen = request.selection
            held = self.plans.held_versions(source_id, destination_id, level, chosen)
            if choice is not None:
                items = choice.items(wanted)
            else:
                items = self.plans.due(
                    source_id,
                    destination_id,
                    strategy=request.strategy,
                    level=level,
                    run_id=run_id,
                    selection=chosen,
                )
        planned = slice_into_jobs(
            items, priority_of=priority_of, keeps_versions=destination.keeps_versions
        )
        jobs: list[Job] = []
        while some := _written_together(planned):
            jobs += self.plans.add_jobs(run_id, destination_id, some)
            held -= sum(item.reason == request.strategy for job in some for item in job.items)
            check_stop()
        return jobs, held

    def _expected(
        self,
        source_id: SourceId,
        destination_id: DestinationId,
        level: Level,
        sample: Sample | None,
        selection: Selection,
    ) -> Iterator[PlanItem]:
        """List what is verified: everything, the studies that are named, or those of a sample."""
        if sample is None and selection.is_whole:
            return self.plans.expected(source_id, destination_id)
        if sample is None:
            named = self.facts.selected_studies(selection)
            return self.reverification.expected_of(source_id, destination_id, named)
        ages = self.reverification.study_ages(source_id, destination_id, level)
        chosen = choose_oldest(ages, sample, self.clock.now())
        return self.reverification.expected_of(source_id, destination_id, chosen)


def _written_together(planned: Iterator[PlannedJob]) -> list[PlannedJob]:
    """Take the next jobs: not so many that large ones fill the memory."""
    some: list[PlannedJob] = []
    instances = 0
    for job in islice(planned, _JOBS_AT_ONCE):
        some.append(job)
        instances += len(job.items)
        if instances >= _INSTANCES_AT_ONCE:
            break
    return some


def marks_of(source: Source) -> Mapping[str, StudyMarks]:
    """Return what a source's index says of its studies, by UID, as its last listing found."""
    return source.marks() if isinstance(source, MarksStudies) else {}
