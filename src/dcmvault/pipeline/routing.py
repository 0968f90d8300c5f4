"""Routing: which destinations a study goes to, a pure function of what is known of them."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from dcmvault.model.routing import Routing, RoutingMode
from dcmvault.pipeline.conditions import StudySeen, met_by


@dataclass(frozen=True, slots=True)
class Route:
    """Where a study may go, the first one first."""

    mode: RoutingMode
    to: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Places:
    """What is known of a study's places when its way is chosen; all by address."""

    #: Where anything of it is due, by the strategy.
    due: Collection[str]
    #: Where anything of it is not held: a full run considers what is held, too.
    lacking: Collection[str]
    #: Destinations that cannot be reached now, and why.
    down: Mapping[str, str]
    #: Which load balancing chose for it before, the latest choice first.
    chosen: Sequence[str] = ()
    #: Which took anything of it.
    taken_by: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Way:
    """Where a study goes now."""

    to: tuple[str, ...] = ()
    #: A choice of load balancing, to be remembered.
    chosen: str = ""
    #: Where it would have gone.
    instead_of: str = ""
    #: Where it is due and cannot go now, though another one holds it meanwhile.
    waits_for: str = ""


def route_of(routing: Routing, destinations: Sequence[str], study: StudySeen) -> Route:
    """Return the route of the first rule that holds for a study, else that of all."""
    for rule in routing.rules:
        if met_by(rule.conditions, study) is not None:
            return Route(rule.mode, rule.to)
    return Route(routing.mode, tuple(destinations))


def way_of(route: Route, study_instance_uid: str, places: Places) -> Way:
    """Say where a study goes.

    Mirror: wherever it is due, reachable or not; each destination fails for itself. Failover: to
    the first that can be reached, as long as it is due at the first of all, which gets it when it
    is back; what another one holds meanwhile is not sent to a third. Load balancing: to one, and
    always the same; another is chosen only while that one cannot be reached and took nothing.
    Where none can be reached, the first (or the chosen) one is tried, and the run says that it
    failed there.
    """
    if route.mode is RoutingMode.FAILOVER:
        return _failover(route, places)
    if route.mode is RoutingMode.LOAD_BALANCE:
        return _balanced(route, study_instance_uid, places)
    return Way(tuple(place for place in route.to if place in places.due))


def has_other_way(route: Route, lost: str, places: Places) -> bool:
    """Say whether what could not be delivered to a lost destination may go elsewhere."""
    if route.mode is RoutingMode.MIRROR or lost not in route.to:
        return False
    if route.mode is RoutingMode.LOAD_BALANCE and lost in places.taken_by:
        return False
    return any(place not in places.down for place in route.to)


def _failover(route: Route, places: Places) -> Way:
    first = route.to[0]
    if first not in places.lacking:
        return Way((first,) if first in places.due else ())
    for place in route.to:
        if place not in places.down:
            if place == first:
                return Way((first,))
            if place in places.lacking:
                return Way((place,), instead_of=first)
            return Way(waits_for=first)
    return Way((first,))


def _balanced(route: Route, study_instance_uid: str, places: Places) -> Way:
    whole = [place for place in route.to if place not in places.lacking]
    if whole:  # one of them holds all of it
        return Way(tuple(place for place in whole if place in places.due))
    before = [*places.chosen, *(place for place in route.to if place in places.taken_by)]
    homes = [place for place in before if place in route.to]
    if homes and (homes[0] not in places.down or homes[0] in places.taken_by):
        return Way((homes[0],))
    reachable = [place for place in route.to if place not in places.down] or route.to
    chosen = max(reachable, key=lambda place: _score(place, study_instance_uid))
    was = homes[0] if homes and homes[0] != chosen else ""
    return Way((chosen,), chosen=chosen, instead_of=was)


def _score(place: str, study_instance_uid: str) -> bytes:
    """Rank a place for a study (rendezvous hashing).

    Evenly spread, and the same everywhere: a further place takes its share from each of the
    others, and nothing moves between these.
    """
    return hashlib.sha256(f"{place}\0{study_instance_uid}".encode()).digest()
