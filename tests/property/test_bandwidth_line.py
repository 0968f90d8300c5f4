"""Whatever is asked for, by whomever, in whatever order: the limits hold and nothing is wasted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from dcmvault.model.bandwidth import RateTable, RateWindow
from dcmvault.model.job import Priority
from dcmvault.pipeline.bandwidth_line import Bucket, Line, Turn

START = datetime(2026, 1, 31, 2, 0, tzinfo=UTC)
#: Rounding, in bytes.
NEARLY = 1.0

rates = st.one_of(st.none(), st.integers(8_000, 50_000_000).map(float))


@dataclass(frozen=True)
class Wish:
    """Somebody asks for bytes so many seconds after the one before."""

    after_s: float
    destination: int
    priority: Priority
    size: int


wishes = st.lists(
    st.builds(
        Wish,
        after_s=st.one_of(st.just(0.0), st.floats(0.0, 3.0)),
        destination=st.integers(0, 2),
        priority=st.sampled_from(Priority),
        size=st.integers(1, 60_000),
    ),
    min_size=1,
    max_size=40,
)


@dataclass(frozen=True)
class Grant:
    """What passed when."""

    at_s: float
    order: int
    wish: Wish


def serve_all(
    line: Line, buckets: list[Bucket], asked: list[Wish], late_s: float = 0.0
) -> list[Grant]:
    """Let time go on until everything has passed; wake-ups come late by up to `late_s`."""
    grants: list[Grant] = []
    turns: list[tuple[Turn, int]] = []
    at_s, due_s, coming = 0.0, 0.0, list(enumerate(asked))
    while coming or turns:
        while coming and due_s + coming[0][1].after_s <= at_s:
            order, wish = coming.pop(0)
            due_s += wish.after_s
            turns.append((Turn(buckets[wish.destination], wish.priority, wish.size), order))
            line.join(turns[-1][0])
        wait_s = line.serve(at_s, START + timedelta(seconds=at_s))
        grants += [Grant(at_s, n, asked[n]) for turn, n in turns if turn.is_granted]
        turns = [pair for pair in turns if not pair[0].is_granted]
        next_s = at_s + wait_s + late_s
        if coming:
            next_s = min(next_s, max(at_s, due_s + coming[0][1].after_s))
        assert next_s > at_s or coming, "it must go on"
        at_s = next_s
    return grants


def require_limit(grants: list[Grant], rate: float | None, burst: float) -> None:
    """No interval, between whichever two grants, may hold more than the limit lets through."""
    if rate is None:
        return
    for first in range(len(grants)):
        passed = 0
        for grant in grants[first:]:
            passed += grant.wish.size
            allowed = rate * (grant.at_s - grants[first].at_s) + max(burst, grant.wish.size)
            # A turn larger than a burst passes on credit, and what follows pays for it.
            allowed += max(0, grants[first].wish.size - burst)
            assert passed <= allowed + NEARLY


@settings(max_examples=150, deadline=None)
@given(rates, st.lists(rates, min_size=3, max_size=3), wishes, st.sampled_from([0.0, 0.03]))
def test_no_limit_is_exceeded_over_any_time(
    overall: float | None, own: list[float | None], asked: list[Wish], late_s: float
) -> None:
    line = Line(Bucket(RateTable(overall)))
    buckets = [Bucket(RateTable(rate)) for rate in own]
    grants = serve_all(line, buckets, asked, late_s)
    assert sorted(grant.order for grant in grants) == list(range(len(asked)))
    require_limit(grants, overall, line.overall.burst)
    for number, bucket in enumerate(buckets):
        mine = [grant for grant in grants if grant.wish.destination == number]
        require_limit(mine, own[number], bucket.burst)


@settings(max_examples=150, deadline=None)
@given(rates, st.lists(rates, min_size=3, max_size=3), wishes)
def test_nobody_waits_while_there_is_something_for_him(
    overall: float | None, own: list[float | None], asked: list[Wish]
) -> None:
    """All ask at once: the last byte passes no later than the tightest limit demands."""
    at_once = [Wish(0.0, wish.destination, wish.priority, wish.size) for wish in asked]
    line = Line(Bucket(RateTable(overall)))
    buckets = [Bucket(RateTable(rate)) for rate in own]
    grants = serve_all(line, buckets, at_once)
    needs_s = []
    for number, rate in enumerate(own):
        if rate is not None:
            wanted = sum(wish.size for wish in asked if wish.destination == number)
            needs_s.append(wanted / rate)
    if overall is not None:
        needs_s.append(sum(wish.size for wish in asked) / overall)
    # Two limits in a row can each make one turn wait; never more than their sum.
    assert grants[-1].at_s <= sum(needs_s) + 1e-6
    if len(needs_s) == 1:
        assert grants[-1].at_s <= needs_s[0] + 1e-6


@settings(max_examples=100, deadline=None)
@given(st.integers(8_000, 50_000_000).map(float), wishes)
def test_who_asked_first_passes_first_within_a_priority(rate: float, asked: list[Wish]) -> None:
    line = Line(Bucket(RateTable(rate)))
    grants = serve_all(line, [Bucket(RateTable()) for _ in range(3)], asked)
    for priority in Priority:
        for number in range(3):
            orders = [
                grant.order
                for grant in grants
                if (grant.wish.priority, grant.wish.destination) == (priority, number)
            ]
            assert orders == sorted(orders)


def flow(
    rate: float, wanted: dict[Priority, int], size: int, seconds: float
) -> dict[Priority, int]:
    """Count the bytes that pass for senders who always ask for more, `wanted` of each priority."""
    line = Line(Bucket(RateTable(rate)))
    bucket = Bucket(RateTable())
    passed = dict.fromkeys(wanted, 0)
    turns = [
        Turn(bucket, priority, size) for priority, count in wanted.items() for _ in range(count)
    ]
    for turn in turns:
        line.join(turn)
    at_s = 0.0
    while at_s < seconds:
        wait_s = line.serve(at_s, START)
        for turn in [turn for turn in turns if turn.is_granted]:
            turns.remove(turn)
            passed[turn.priority] += size
            turns.append(Turn(bucket, turn.priority, size))
            line.join(turns[-1])
        at_s += min(wait_s, 0.05) or 1e-9
    return passed


def test_the_more_urgent_get_their_share_first_and_nobody_starves() -> None:
    passed = flow(
        2e6, {Priority.EMERGENCY: 1, Priority.NORMAL: 3, Priority.LOW: 2}, 40_000, seconds=30
    )
    whole = sum(passed.values())
    assert whole >= 2e6 * 30 * 0.98
    assert passed[Priority.EMERGENCY] >= whole * 0.88
    assert passed[Priority.NORMAL] >= whole * 0.04
    assert passed[Priority.LOW] >= whole * 0.04


def test_equals_share_equally() -> None:
    line = Line(Bucket(RateTable(1e6)))
    busy, other = Bucket(RateTable()), Bucket(RateTable())
    passed = {busy: 0, other: 0}
    turns = [Turn(bucket, Priority.NORMAL, 20_000) for bucket in (busy, other)]
    for turn in turns:
        line.join(turn)
    at_s = 0.0
    while at_s < 10:
        at_s += line.serve(at_s, START)
        for turn in [turn for turn in turns if turn.is_granted]:
            turns.remove(turn)
            passed[turn.bucket] += turn.size
            turns.append(Turn(turn.bucket, turn.priority, turn.size))
            line.join(turns[-1])
        at_s += 1e-9
    assert abs(passed[busy] - passed[other]) <= 40_000


def test_a_slow_destination_holds_no_other_up() -> None:
    line = Line(Bucket(RateTable(10e6)))
    slow, fast = Bucket(RateTable(8_000.0)), Bucket(RateTable())
    waiting = Turn(slow, Priority.EMERGENCY, 4096)
    line.join(waiting)
    line.serve(0.0, START)
    turn = Turn(fast, Priority.LOW, 40_000)
    line.join(turn)
    line.serve(0.01, START)
    assert turn.is_granted
    assert not waiting.is_granted


def test_the_rate_follows_the_time_of_day() -> None:
    noon = datetime(2026, 2, 2, 11, 59, 30, tzinfo=UTC)  # a Monday
    window = RateWindow(frozenset({0}), 12 * 60, 13 * 60, 100_000.0)
    bucket = Bucket(RateTable(1_000_000.0, (window,)))
    line = Line(bucket)
    passed: list[tuple[float, int]] = []
    at_s = 0.0
    while at_s < 60:
        turn = Turn(Bucket(RateTable()), Priority.NORMAL, bucket.piece)
        line.join(turn)
        while (wait_s := line.serve(at_s, noon + timedelta(seconds=at_s))) < math.inf:
            at_s += min(wait_s, 0.1)
        passed.append((at_s, turn.size))
    before = sum(size for moment, size in passed if moment < 30)
    after = sum(size for moment, size in passed if 30 <= moment < 60)
    assert abs(before - 30e6) < 0.02 * 30e6
    # What was asked for at the higher rate just before still passes.
    assert abs(after - 3e6) < 0.02 * 3e6


def test_what_an_unlimited_time_let_through_is_not_saved_up() -> None:
    night = RateWindow(frozenset(range(7)), 0, 6 * 60, None)
    bucket = Bucket(RateTable(8_000.0, (night,)))
    bucket.fill(0.0, START)
    assert bucket.wait_for(1 << 20) == 0
    bucket.pay(1 << 20)
    morning = START.replace(hour=6)
    bucket.fill(100.0, morning)
    assert bucket.wait_for(4096) > 0.4


def test_bytes_asked_for_at_a_higher_rate_pass_at_a_lower_one() -> None:
    bucket = Bucket(RateTable(8_000.0))
    line = Line(bucket)
    turn = Turn(Bucket(RateTable()), Priority.NORMAL, 1 << 20)
    line.join(turn)
    wait_s = line.serve(0.0, START)
    assert 0 < wait_s < 2
    line.serve(wait_s + 0.001, START)
    assert turn.is_granted
    # And are paid for before anything else passes.
    line.join(Turn(bucket, Priority.NORMAL, 4096))
    assert line.serve(wait_s + 0.002, START) > 100
