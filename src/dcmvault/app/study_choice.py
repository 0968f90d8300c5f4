"""Which studies go where in a run, in which order, and why: rules, routes and limits at work."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from dcmvault.app.rerouting import LOST_CODES
from dcmvault.config.addresses import source_section
from dcmvault.config.peer_sections import DimseSourceSection
from dcmvault.model.classification import NO_MARKS, Classification, StudyFacts, StudyMarks
from dcmvault.model.evidence import Level
from dcmvault.model.identifiers import DestinationId, RunId, SourceId
from dcmvault.model.job import Job, Priority
from dcmvault.model.plan import DestinationRequest, PlanItem, RunRequest, Strategy
from dcmvault.pipeline.classification import Classifier
from dcmvault.pipeline.conditions import StudySeen
from dcmvault.pipeline.routing import Places, Route, Way, route_of, way_of
from dcmvault.ports.catalogue import PlanCatalogue
from dcmvault.ports.strategy import RouteBook, RouteTaken, StudyFactsCatalogue

#: Studies looked at in one go.
_AT_ONCE = 500
#: Sorts after every place in an auto-clean's order.
_SPARED = 1 << 62

#: What comes first: urgent, then what has no copy, then what a viewer would delete, then the
#: source's own order.
_Rank = tuple[int, bool, int, int]


@dataclass(frozen=True, slots=True)
class ExplainedStudy:
    """A study that is due, what the rules made of it, and where it goes."""

    study_instance_uid: str
    classification: Classification
    destinations: tuple[str, ...]
    instead_of: str = ""


@dataclass(slots=True)
class StudyChoice:
    """Chooses among the studies that are due in one plan of a run.

    Only those are looked at, some hundred at a time; of each a rank is kept, and no more.
    """

    request: RunRequest
    source_id: SourceId
    plans: PlanCatalogue
    facts: StudyFactsCatalogue
    routes: RouteBook
    #: Makes the classifier that is in force now.
    make_classifier: Callable[[], Classifier]
    now: datetime
    run_id: RunId | None = None
    marks: Mapping[str, StudyMarks] = field(default_factory=dict)
    #: Destinations that cannot be reached now, by address, and why.
    down: Mapping[str, str] = field(default_factory=dict)
    #: Told of every study, in the order of keys, where somebody wants to know.
    explain: Callable[[ExplainedStudy], object] | None = None
    _classifier: Classifier | None = None
    _ids: dict[str, DestinationId] = field(default_factory=dict)
    _keys: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    _ranks: dict[int, _Rank] = field(default_factory=dict)
    _key_of: dict[str, int] = field(default_factory=dict)
    _ways: dict[str, Way] = field(default_factory=dict)
    _planned: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    #: Studies that another destination holds until theirs can be reached, by its address.
    _waiting: Counter[str] = field(default_factory=Counter)
    #: Studies that are left for later, by address.
    left: Counter[str] = field(default_factory=Counter)

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to choose; else everything goes everywhere, as it comes."""
        request = self.request
        return (
            request.strategy is Strategy.SMART
            or not request.routing.is_plain
            or request.max_studies > 0
            or self.explain is not None
        )

    def look(self) -> None:
        """Look at all studies that are due at any destination of the run."""
        if self.request.strategy is Strategy.SMART or self.explain is not None:
            self._classifier = self.make_classifier()
        self._ids = {
            w.address: self.plans.destination(w.address) for w in self.request.destinations
        }
        due = lacking = self._due(self.request.strategy)
        if self.request.strategy.considers_held and not self.request.routing.is_plain:
            lacking = self._due(Strategy.INCREMENTAL)
        ordered = sorted(due)
        called = _called_ae_title(self.request.source)
        for start in range(0, len(ordered), _AT_ONCE):
            some = ordered[start : start + _AT_ONCE]
            found = self.facts.study_facts(some, self.source_id)
            chosen = self._chosen(found.values())
            for key in some:
                facts = found.get(key, StudyFacts(""))
                facts = replace(
                    facts,
                    ae_titles=facts.ae_titles | called,
                    marks=self.marks.get(facts.study_instance_uid, NO_MARKS),
                )
                places = Places(
                    due[key],
                    lacking.get(key, ()),
                    self.down,
                    chosen.get(facts.study_instance_uid, ()),
                    self._taken_by(facts),
                )
                self._choose(key, facts, places)
        for place, keys_there in self._keys.items():
            keys_there.sort(key=self._ranks.__getitem__)
            if self.request.max_studies:
                keys_there.sort(key=self._failed_before(place).__contains__)

    def _failed_before(self, place: str) -> frozenset[int]:
        """Return what failed for itself in the run before: with a limit it would be in the way.

        It is tried again when others had their turn, so that no study waits for ever.
        """
        failed = self.routes.failed_before(
            self.source_id, self._ids[place], self.run_id, LOST_CODES
        )
        return frozenset(self._key_of[uid] for uid in failed if uid in self._key_of)

    def _due(self, strategy: Strategy) -> dict[int, list[str]]:
        """Return where anything of each study is due by a strategy."""
        due: dict[int, list[str]] = defaultdict(list)
        for wanted in self.request.destinations:
            keys = self.facts.due_studies(
                self.source_id,
                self._ids[wanted.address],
                strategy=strategy,
                level=wanted.level or Level.SENT,
                run_id=self.run_id,
                selection=self.request.selection,
            )
            for key in keys:
                due[key].append(wanted.address)
        return due

    def items(self, wanted: DestinationRequest) -> Iterator[PlanItem]:
        """List what is planned for a destination: at most as many studies as the run may have."""
        keys = self._keys.get(wanted.address, [])
        planned = self._planned[wanted.address] = set()
        most = self.request.max_studies or len(keys)
        at = 0
        while at < len(keys) and len(planned) < most:
            # Of some studies nothing may be due after all; then there is room for others.
            some = keys[at : at + most - len(planned)]
            at += len(some)
            for item in self.plans.due(
                self.source_id,
                self._ids[wanted.address],
                strategy=self.request.strategy,
                level=wanted.level or Level.SENT,
                run_id=self.run_id,
                selection=self.request.selection,
                study_keys=some,
            ):
                planned.add(item.identity.study_instance_uid)
                yield item
        self.left[wanted.address] = len(keys) - at

    def priority_of(self, study_instance_uid: str) -> Priority:
        """Return the priority of a study's jobs: with other strategies, that of the run."""
        asked = self.request.priority
        if self.request.strategy is not Strategy.SMART:
            return asked
        own = Priority(-self._ranks[self._key_of[study_instance_uid]][0])
        return max(own, asked) if asked > Priority.NORMAL else own

    def in_order(self, jobs: Sequence[Job]) -> list[Job]:
        """Put the jobs of one destination in the order in which they are carried out."""
        return sorted(jobs, key=lambda job: self._ranks[self._key_of[job.study_instance_uid]])

    def explained_in_order(self, explained: Iterable[ExplainedStudy]) -> list[ExplainedStudy]:
        """Put explanations in the order of the studies; those left for later are left out."""
        planned = set().union(*self._planned.values())
        return sorted(
            (one for one in explained if one.study_instance_uid in planned),
            key=lambda one: self._ranks[self._key_of[one.study_instance_uid]],
        )

    def record_routes(self) -> None:
        """Write down which of the studies that were planned go where, and why."""
        if self.run_id is None or self.request.routing.is_plain:
            return
        chosen, diverted = [], []
        for uid, way in self._ways.items():
            if not any(uid in self._planned[place] for place in way.to):
                continue
            taken = RouteTaken(uid, self._ids[way.to[0]])
            if way.chosen:
                chosen.append(taken)
            if way.instead_of:
                instead = self._ids[way.instead_of]
                why = self.down.get(way.instead_of, "")
                diverted.append(replace(taken, instead_of=instead, why=why))
        self.routes.record_routes(self.run_id, chosen, diverted)

    def remarks(self) -> list[str]:
        """Say, of the run as a whole, what went elsewhere and what is left for later."""
        diverted: Counter[tuple[str, str, bool]] = Counter()
        for uid, way in self._ways.items():
            if way.instead_of and uid in self._planned[way.to[0]]:
                diverted[way.to[0], way.instead_of, bool(way.chosen)] += 1
        said = []
        for (place, instead, for_good), number in diverted.items():
            why = self.down.get(instead, "")
            if for_good:
                said.append(
                    f"studies that {place} has from now on, because {instead} could not be reached"
                    f" ({why}): {number:,}"
                )
            else:
                said.append(
                    f"studies that went to {place}, because {instead} could not be reached ({why})"
                    f" and gets them in a later run: {number:,}"
                )
        said += [
            f"studies that are due at {place}, which could not be reached"
            f" ({self.down.get(place, '')}), and that another destination holds: {number:,}"
            for place, number in self._waiting.items()
            if number
        ]
        most = self.request.max_studies
        said += [
            f"the run was limited to {most:,} studies: {left:,} more are due at {place}, and come"
            " in later runs"
            for place, left in self.left.items()
            if left
        ]
        return said

    def _chosen(self, studies: Collection[StudyFacts]) -> Mapping[str, Sequence[str]]:
        if self.request.routing.is_plain:
            return {}
        names = {destination_id: address for address, destination_id in self._ids.items()}
        found = self.routes.chosen([one.study_instance_uid for one in studies])
        return {
            uid: [names[place] for place in places if place in names]
            for uid, places in found.items()
        }

    def _choose(self, key: int, facts: StudyFacts, places: Places) -> None:
        uid = facts.study_instance_uid
        way = way_of(self._route(facts), uid, places)
        self._waiting[way.waits_for] += bool(way.waits_for)
        if not way.to:
            return
        rank: _Rank = (0, False, 0, key)
        if self._classifier is not None:
            found = self._classifier.classify(facts, self.now)
            if self.request.strategy is Strategy.SMART:
                clean = facts.marks.auto_clean_rank
                rank = (
                    -found.priority,
                    bool(facts.taken_by),
                    _SPARED if clean is None else clean,
                    key,
                )
            if self.explain is not None:
                self.explain(ExplainedStudy(uid, found, way.to, way.instead_of))
        self._ranks[key] = rank
        self._key_of[uid] = key
        if way.chosen or way.instead_of:
            self._ways[uid] = way
        for place in way.to:
            self._keys[place].append(key)

    def _route(self, facts: StudyFacts) -> Route:
        destinations = [wanted.address for wanted in self.request.destinations]
        return route_of(self.request.routing, destinations, StudySeen(facts, self.now))

    def _taken_by(self, facts: StudyFacts) -> frozenset[str]:
        return frozenset(
            wanted.address
            for wanted in self.request.destinations
            if self._ids[wanted.address] in facts.taken_by
        )


def _called_ae_title(source: str) -> frozenset[str]:
    """Return the AE title of the peer that a source is, if it is one."""
    if not source.startswith(("dicom:", "dicoms:")):
        return frozenset()
    section = source_section(source)
    return frozenset([section.called_ae_title] if isinstance(section, DimseSourceSection) else [])
