"""The number of deliveries at once, on made-up links."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dcmvault.pipeline.concurrency import ConcurrencyController, Sample

#: Goodput of a number of deliveries.
Link = Callable[[int], float]


def far(latency_s: float = 0.05, line: float = 1e12) -> Link:
    """Return a link where each delivery waits most of the time, until the line is full."""
    return lambda deliveries: min(deliveries * 1e5 / latency_s, line)


def crowded(best: int) -> Link:
    """Return a peer that gets slower with more deliveries than it likes."""
    return lambda deliveries: (
        1e8
        * (min(deliveries, best) if deliveries <= best else best / (1 + 0.2 * (deliveries - best)))
    )


def settle(controller: ConcurrencyController, link: Link, samples: int = 200) -> list[int]:
    targets = []
    for _ in range(samples):
        deliveries = controller.target
        targets.append(controller.observe(Sample(deliveries, link(deliveries))))
    return targets


def test_all_are_used_while_each_brings_its_share() -> None:
    controller = ConcurrencyController(start=2, most=8)
    assert settle(controller, far(), 6) == [3, 4, 5, 6, 7, 8]
    assert set(settle(controller, far())) == {8}


@pytest.mark.parametrize("start", [1, 2, 3, 6])
def test_one_is_enough_for_a_full_line(start: int) -> None:
    controller = ConcurrencyController(start=1, most=8)
    assert settle(controller, lambda _: 1e7)[-1] == 1
    controller = ConcurrencyController(start=start, most=8)
    targets = settle(controller, far(line=4e6))
    # Two fill the line; a third is tried now and then.
    assert max(targets[-150:]) <= 3
    assert targets.count(2) > 0.8 * len(targets)


@pytest.mark.parametrize("best", [2, 3, 4, 5])
def test_a_peer_gets_as_many_as_it_likes(best: int) -> None:
    controller = ConcurrencyController(start=2, most=8)
    targets = settle(controller, crowded(best))
    assert sum(abs(target - best) <= 1 for target in targets) > 0.9 * len(targets)
    mean = sum(map(crowded(best), targets)) / len(targets)
    assert mean > 0.95 * crowded(best)(best)


def test_trouble_halves_and_is_not_sought_again_at_once() -> None:
    controller = ConcurrencyController(start=6, most=8)
    assert controller.trouble() == 3
    assert max(settle(controller, far(), 16)) == 5
    assert controller.trouble() in (2, 1)


def test_trouble_leaves_one() -> None:
    controller = ConcurrencyController(start=1, most=4)
    assert [controller.trouble() for _ in range(3)] == [1, 1, 1]


def test_a_line_that_became_slower_is_learned_anew() -> None:
    controller = ConcurrencyController(start=2, most=8)
    settle(controller, far())
    assert controller.target == 8
    settle(controller, far(latency_s=0.5))
    assert controller.target == 8


def test_samples_of_other_numbers_are_passed_over() -> None:
    controller = ConcurrencyController(start=2, most=8)
    assert controller.observe(Sample(5, 1e9)) == 2
    assert controller.observe(Sample(2, 0.0)) == 2
    assert controller.observe(Sample(2, 1e9)) == 3


def test_start_is_within_the_limit() -> None:
    assert ConcurrencyController(start=6, most=4).target == 4
    assert ConcurrencyController(start=0, most=4).target == 1
