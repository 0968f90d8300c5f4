"""Where a study goes, by its route and by what is known of the places."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcmvault.model.classification import Conditions, StudyFacts
from dcmvault.model.routing import Routing, RoutingMode, RoutingRule
from dcmvault.pipeline.conditions import StudySeen
from dcmvault.pipeline.routing import Places, Route, Way, has_other_way, route_of, way_of

A, B, C = "a", "b", "c"
NOW = datetime(2026, 3, 10, tzinfo=UTC)
FAILOVER = Route(RoutingMode.FAILOVER, (A, B, C))
BALANCED = Route(RoutingMode.LOAD_BALANCE, (A, B, C))
EVERYWHERE = frozenset({A, B, C})


def down(*places: str) -> dict[str, str]:
    return dict.fromkeys(places, "refused")


def test_the_first_rule_that_holds_says_where_to() -> None:
    routing = Routing(
        RoutingMode.FAILOVER,
        (
            RoutingRule(Conditions(modality=("US",)), (B,)),
            RoutingRule(Conditions(modality=("US", "CT")), (C, A), RoutingMode.LOAD_BALANCE),
        ),
    )

    def route(modality: str) -> Route:
        facts = StudyFacts("2.25.1", frozenset({modality}))
        return route_of(routing, [A, B], StudySeen(facts, NOW))

    assert route("US") == Route(RoutingMode.MIRROR, (B,))
    assert route("CT") == Route(RoutingMode.LOAD_BALANCE, (C, A))
    assert route("MR") == Route(RoutingMode.FAILOVER, (A, B))


def test_a_mirror_asks_nobody() -> None:
    route = Route(RoutingMode.MIRROR, (A, B))
    assert way_of(route, "1", Places({A, B}, {A, B}, down(A))).to == (A, B)
    assert way_of(route, "1", Places({B}, {B}, {})).to == (B,)


@pytest.mark.parametrize(
    ("due", "away", "way"),
    [
        ({A, B, C}, (), Way((A,))),
        ({A, B, C}, (A,), Way((B,), instead_of=A)),
        ({A, B, C}, (A, B), Way((C,), instead_of=A)),
        ({A, B, C}, (B,), Way((A,))),
        # None can be reached: the first one is tried, and says so.
        ({A, B, C}, (A, B, C), Way((A,))),
        # The first one holds it.
        ({B, C}, (), Way()),
        ({B, C}, (A,), Way()),
        # The second one took it the last time.
        ({A, C}, (A,), Way(waits_for=A)),
        ({A, C}, (), Way((A,))),
    ],
)
def test_a_failover_is_a_detour(due: set[str], away: tuple[str, ...], way: Way) -> None:
    assert way_of(FAILOVER, "2.25.1", Places(due, due, down(*away))) == way


@given(st.integers(1, 1 << 64))
def test_balancing_is_stable(number: int) -> None:
    uid = f"2.25.{number}"
    way = way_of(BALANCED, uid, Places(EVERYWHERE, EVERYWHERE, {}))
    (home,) = way.to
    assert way.chosen == home
    # The order of places does not matter, and one that goes moves only what it had.
    other = Route(RoutingMode.LOAD_BALANCE, (C, B, A))
    assert way_of(other, uid, Places(EVERYWHERE, EVERYWHERE, {})).to == (home,)
    for gone in (A, B, C):
        left = tuple(place for place in (A, B, C) if place != gone)
        rest = way_of(
            Route(RoutingMode.LOAD_BALANCE, left), uid, Places(EVERYWHERE, EVERYWHERE, {})
        ).to
        assert gone == home or rest == (home,)


def test_balancing_is_even() -> None:
    homes = [
        way_of(BALANCED, f"2.25.{number}", Places(EVERYWHERE, EVERYWHERE, {})).to[0]
        for number in range(3000)
    ]
    assert all(900 < homes.count(place) < 1100 for place in (A, B, C))


def test_balancing_keeps_what_was_chosen() -> None:
    for chosen in (A, B, C):
        way = way_of(
            BALANCED, "2.25.1", Places(EVERYWHERE, EVERYWHERE, {}, chosen=[chosen, "gone"])
        )
        assert way == Way((chosen,))
        taken = way_of(BALANCED, "2.25.1", Places(EVERYWHERE, EVERYWHERE, {}, taken_by={chosen}))
        assert taken == Way((chosen,))


def test_balancing_waits_for_a_place_that_has_a_part() -> None:
    away = Places(EVERYWHERE, EVERYWHERE, down(A), chosen=[A], taken_by={A})
    assert way_of(BALANCED, "2.25.1", away) == Way((A,))
    empty = Places(EVERYWHERE, EVERYWHERE, down(A), chosen=[A])
    way = way_of(BALANCED, "2.25.1", empty)
    assert way.to[0] in {B, C}
    assert (way.chosen, way.instead_of) == (way.to[0], A)


def test_balancing_sends_nothing_to_a_second_place() -> None:
    assert way_of(BALANCED, "2.25.1", Places({A, C}, {A, C}, {}, taken_by={B})) == Way()


def test_what_may_go_elsewhere() -> None:
    assert has_other_way(FAILOVER, A, Places((), (), down(A)))
    assert not has_other_way(FAILOVER, A, Places((), (), down(A, B, C)))
    assert not has_other_way(Route(RoutingMode.MIRROR, (A, B)), A, Places((), (), down(A)))
    assert has_other_way(BALANCED, A, Places((), (), down(A)))
    assert not has_other_way(BALANCED, A, Places((), (), down(A), taken_by={A}))


def test_a_full_run_looks_at_what_is_held_where_it_is() -> None:
    """What one of them holds is considered there, and sent to no other one."""
    held_at_a = Places(EVERYWHERE, {B, C}, down(A))
    assert way_of(FAILOVER, "2.25.1", held_at_a) == Way((A,))
    assert way_of(BALANCED, "2.25.1", held_at_a) == Way((A,))
    diverted_to_b = Places(EVERYWHERE, {A, C}, {})
    assert way_of(FAILOVER, "2.25.1", diverted_to_b) == Way((A,))
