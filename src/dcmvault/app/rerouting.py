"""Failover in the middle of a run: what a destination could not take goes to the next one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from dcmvault.errors import (
    DestinationStoppedError,
    DestinationUnreachableError,
    InstanceQuarantinedError,
)
from dcmvault.model.classification import StudyFacts
from dcmvault.model.identifiers import DestinationId, RunId
from dcmvault.model.plan import RunKind, RunRequest
from dcmvault.pipeline.conditions import StudySeen
from dcmvault.pipeline.routing import Places, has_other_way, route_of
from dcmvault.ports.catalogue import PlanCatalogue
from dcmvault.ports.clock import Clock
from dcmvault.ports.strategy import RouteBook, StudyFactsCatalogue


def _lost_codes() -> frozenset[str]:
    """Return the codes of errors that are about a destination as a whole."""
    kinds: list[type[DestinationUnreachableError | DestinationStoppedError]] = [
        DestinationUnreachableError,
        DestinationStoppedError,
    ]
    found = set()
    while kinds:
        kind = kinds.pop()
        if kind is not InstanceQuarantinedError:
            found.add(kind.code)
        kinds += kind.__subclasses__()
    return frozenset(found)


#: Errors that are about a destination as a whole, and about no study.
LOST_CODES = _lost_codes()


@dataclass(frozen=True, slots=True)
class Rerouting:
    """Looks at a run whose jobs have ended for what may still go elsewhere."""

    plans: PlanCatalogue
    facts: StudyFactsCatalogue
    routes: RouteBook
    clock: Clock

    def divert(self, run_id: RunId, request: RunRequest) -> bool:
        """Take what may go elsewhere out of the run, and say whether there is anything to plan.

        Every such pass finds at least one further destination down, so that passes come to an end:
        a destination that was lost before in this run, and was tried again because no other one
        could be reached, is not left a second time.
        """
        if request.routing.is_plain or request.kind is not RunKind.BACKUP:
            return False
        lost: dict[DestinationId, dict[str, str]] = defaultdict(dict)
        for destination_id, study, why in self.routes.undelivered(run_id, LOST_CODES):
            lost[destination_id][study] = why
        if not lost:
            return False
        names = {self.plans.destination(w.address): w.address for w in request.destinations}
        known = self.routes.down(run_id)
        down = {names[key]: why for key, why in known.items() if key in names}
        down |= {names[key]: next(iter(studies.values())) for key, studies in lost.items()}
        diverted = False
        for destination_id, studies in lost.items():
            if destination_id in known:
                continue
            name = names[destination_id]
            moved = [study for study in studies if self._may_go(study, name, request, down, names)]
            if moved:
                self.routes.record_down(run_id, {destination_id: down[name]})
                self.routes.release_undelivered(
                    run_id, destination_id, moved, LOST_CODES, self.clock.now()
                )
                diverted = True
        return diverted

    def _may_go(
        self,
        study: str,
        lost: str,
        request: RunRequest,
        down: Mapping[str, str],
        names: Mapping[DestinationId, str],
    ) -> bool:
        key = self.facts.study_key(study)
        facts = StudyFacts(study)
        if key is not None:
            facts = self.facts.study_facts([key]).get(key, facts)
        route = route_of(
            request.routing,
            [wanted.address for wanted in request.destinations],
            StudySeen(facts, self.clock.now()),
        )
        taken_by = {names[key] for key in facts.taken_by if key in names}
        return has_other_way(route, lost, Places((), (), down, taken_by=taken_by))
