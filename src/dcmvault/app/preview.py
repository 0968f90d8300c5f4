"""What a run would do, and why: the source is listed, and nothing is sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from dcmvault.app.backup import with_remembered_library
from dcmvault.app.run_planning import RunPlanning, marks_of
from dcmvault.app.study_choice import ExplainedStudy, StudyChoice
from dcmvault.app.wiring.workplace import Workplace
from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import SourceId
from dcmvault.model.plan import PlanItem, RunKind, RunRequest
from dcmvault.pipeline.selection import remarks_of, select_from


@dataclass(frozen=True, slots=True)
class PreviewDestination:
    """What a run would do at one destination."""

    name: str
    level: Level
    selected: int
    already_held: int
    bytes: int
    reasons: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Preview:
    """What a run would do, found by reading headers only; nothing is sent or stored."""

    destinations: tuple[PreviewDestination, ...]
    studies: int
    unreadable: int
    not_dicom: int
    warnings: tuple[str, ...]
    items: Callable[[], Iterator[tuple[str, PlanItem]]]
    #: What the rules made of the studies that are due, where that was asked for; what comes first
    #: stands first.
    explained: tuple[ExplainedStudy, ...] = ()


def preview(workplace: Workplace, request: RunRequest, *, explain: bool = False) -> Preview:
    """Look at the source and the catalogue and say what a run would do.

    New headers are read and remembered, so that the run itself need not read them again. With
    `explain` the rules are asked about every study that is due, whatever the strategy.
    """
    request = with_remembered_library(workplace, request)
    request = replace(
        request,
        destinations=tuple(
            replace(one, level=one.level or Level.SENT) for one in request.destinations
        ),
    )
    catalogue = workplace.catalogue
    source = workplace.source(request.source)
    counts = select_from(
        source,
        catalogue.sources,
        None,
        include_other_files=request.include_other_files,
        listed=lambda _entries: None,
        open_other=workplace.source,
        selection=request.selection,
    )
    source_id = catalogue.sources.source(request.source)
    held = _held_versions(workplace, request, source_id)
    planning = RunPlanning(
        catalogue.plans,
        catalogue.study_facts,
        catalogue.routes,
        catalogue.reverification,
        catalogue.exclusions,
        workplace.destination,
        workplace.classifier,
        workplace.clock,
    )
    choice = planning.choice(None, request, source_id, marks_of(source))
    explained: list[ExplainedStudy] = []
    if explain:
        choice.explain = explained.append
    if choice.is_needed:
        choice.look()

    def items() -> Iterator[tuple[str, PlanItem]]:
        yield from _items(workplace, request, source_id, choice)

    left_out = planning.left_out(source_id, request) if request.kind is RunKind.BACKUP else []
    destinations, studies = _counted(request, items, held)
    return Preview(
        destinations=destinations,
        studies=studies,
        unreadable=counts.unreadable,
        not_dicom=counts.not_dicom,
        warnings=(*remarks_of(source).warnings, *choice.remarks(), *left_out),
        items=items,
        explained=tuple(choice.explained_in_order(explained)),
    )


def _counted(
    request: RunRequest,
    items: Callable[[], Iterator[tuple[str, PlanItem]]],
    held: Counter[str],
) -> tuple[tuple[PreviewDestination, ...], int]:
    """Count items by destination and reason, and all studies of which something is due."""
    reasons: dict[str, Counter[str]] = {w.address: Counter() for w in request.destinations}
    sizes: Counter[str] = Counter()
    studies: set[str] = set()
    for address, item in items():
        reasons[address][item.reason] += 1
        held[address] -= item.reason == request.strategy
        sizes[address] += 0 if item.held else item.entry.fingerprint.size
        studies.add(item.identity.study_instance_uid)
    found = tuple(
        PreviewDestination(
            wanted.address,
            wanted.level or Level.SENT,
            reasons[wanted.address].total(),
            held[wanted.address],
            sizes[wanted.address],
            reasons[wanted.address],
        )
        for wanted in request.destinations
    )
    return found, len(studies)


def _items(
    workplace: Workplace, request: RunRequest, source_id: SourceId, choice: StudyChoice
) -> Iterator[tuple[str, PlanItem]]:
    plans = workplace.catalogue.plans
    for wanted in request.destinations:
        if choice.is_needed:
            found = choice.items(wanted)
        else:
            found = plans.due(
                source_id,
                plans.destination(wanted.address),
                strategy=request.strategy,
                level=wanted.level or Level.SENT,
                run_id=None,
                selection=request.selection,
            )
        for item in found:
            yield wanted.address, item


def _held_versions(workplace: Workplace, request: RunRequest, source_id: SourceId) -> Counter[str]:
    """Count by destination what is held of a source at the level that is asked for."""
    plans = workplace.catalogue.plans
    held: Counter[str] = Counter()
    for wanted in request.destinations:
        keeps_versions = workplace.destination(wanted.address).keeps_versions
        destination_id = plans.destination(wanted.address, keeps_versions=keeps_versions)
        level = wanted.level or Level.SENT
        held[wanted.address] = plans.held_versions(
            source_id, destination_id, level, request.selection
        )
    return held
