"""Limits as senders meet them: threads that wait, parts that others have, days that change."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from dcmvault.errors import StateError
from dcmvault.model.bandwidth import RateTable, RateWindow
from dcmvault.model.job import Priority
from dcmvault.pipeline.bandwidth import Bandwidth
from dcmvault.pipeline.bandwidth_leases import LEASE_S, Leases
from dcmvault.ports.pacing import Claim, Pacer
from dcmvault.testing.clock import FakeClock, SharedTime

RATE = 1_000_000.0


def pacer_of(
    bandwidth: Bandwidth,
    destination: str = "pacs",
    rate: float | None = None,
    priority: Priority = Priority.NORMAL,
) -> Pacer:
    pacing = bandwidth.pacing(destination, RateTable(rate))
    assert pacing is not None
    return pacing.pacer(priority)


# One process.


def test_without_limits_there_is_nothing_to_ask() -> None:
    clock = FakeClock()
    bandwidth = Bandwidth(RateTable(), clock, clock.advance)
    assert bandwidth.pacing("pacs", RateTable()) is None
    assert bandwidth.pacing("disk", RateTable(RATE)) is not None


def test_bytes_pass_at_the_rate_however_many_are_asked_for() -> None:
    clock = FakeClock()
    pacer = pacer_of(Bandwidth(RateTable(), clock, clock.advance), rate=RATE)
    began = clock.monotonic()
    pacer.take(5_000_000)
    pacer.take(0)
    assert clock.monotonic() - began == pytest.approx(5, rel=0.01)
    assert pacer.piece == 20_000


def test_another_limit_for_all_holds_at_once_also_for_who_sends() -> None:
    clock = FakeClock()
    bandwidth = Bandwidth(RateTable(RATE), clock, clock.advance)
    pacer = pacer_of(bandwidth)
    pacer.take(1_000_000)
    bandwidth.limit_all(RateTable(RATE / 10))
    began = clock.monotonic()
    pacer.take(500_000)
    assert clock.monotonic() - began == pytest.approx(5, rel=0.1)


def test_a_limit_may_come_where_there_was_none() -> None:
    clock = FakeClock()
    bandwidth = Bandwidth(RateTable(), clock, clock.advance)
    bandwidth.limit_all(RateTable(RATE))
    began = clock.monotonic()
    pacer_of(bandwidth).take(5_000_000)
    assert clock.monotonic() - began == pytest.approx(5, rel=0.01)


def test_what_is_saved_up_while_nobody_asks_is_little() -> None:
    clock = FakeClock()
    pacer = pacer_of(Bandwidth(RateTable(RATE), clock, clock.advance))
    pacer.take(1)
    clock.advance(3600)
    began = clock.monotonic()
    pacer.take(2_000_000)
    assert 1.75 < clock.monotonic() - began < 2


def test_a_destination_has_one_limit_whoever_asks() -> None:
    clock = FakeClock()
    bandwidth = Bandwidth(RateTable(), clock, clock.advance)
    began = clock.monotonic()
    for _ in range(4):
        pacer_of(bandwidth, "pacs", RATE).take(500_000)
    assert clock.monotonic() - began == pytest.approx(2, rel=0.02)


def test_both_limits_hold() -> None:
    clock = FakeClock()
    bandwidth = Bandwidth(RateTable(2 * RATE), clock, clock.advance)
    slow, fast = pacer_of(bandwidth, "slow", RATE), pacer_of(bandwidth, "fast")
    began = clock.monotonic()
    slow.take(1_000_000)
    assert clock.monotonic() - began == pytest.approx(1, rel=0.02)
    fast.take(2_000_000)
    assert clock.monotonic() - began == pytest.approx(2, rel=0.15)


def send_all(clock: SharedTime, senders: list[Callable[[], None]]) -> None:
    def send(sender: Callable[[], None]) -> None:
        try:
            sender()
        finally:
            clock.leave()

    with ThreadPoolExecutor(len(senders)) as pool:
        list(pool.map(send, senders))


def test_threads_share_a_limit_exactly_and_to_the_end() -> None:
    """Four senders of mixed sizes: no second holds more than its share, and none holds less."""
    clock = SharedTime(4)
    bandwidth = Bandwidth(RateTable(), clock, clock.sleep)
    passed: list[tuple[float, int]] = []

    def sender(sizes: list[int]) -> Callable[[], None]:
        pacer = pacer_of(bandwidth, rate=2e6)

        def send() -> None:
            for size in sizes:
                left = size
                while left:
                    piece = min(pacer.piece, left)
                    pacer.take(piece)
                    passed.append((clock.monotonic(), piece))
                    left -= piece

        return send

    sizes = [[33_000] * 300, [530_000] * 19, [9_900_000], [1_000_000, 33_000] * 9 + [8_901]]
    send_all(clock, [sender(some) for some in sizes])
    ends_s = max(moment for moment, _size in passed)
    assert sum(size for _moment, size in passed) == sum(map(sum, sizes))
    assert ends_s == pytest.approx(sum(map(sum, sizes)) / 2e6, rel=0.02)
    for second in range(int(ends_s) - 1):
        within = sum(size for moment, size in passed if second <= moment < second + 1)
        assert within == pytest.approx(2e6, rel=0.05)


def test_urgent_work_passes_what_waits() -> None:
    clock = SharedTime(2)
    bandwidth = Bandwidth(RateTable(RATE), clock, clock.sleep)
    ended_s: dict[Priority, float] = {}

    def sender(priority: Priority) -> Callable[[], None]:
        pacer = pacer_of(bandwidth, priority=priority)

        def send() -> None:
            pacer.take(2_000_000)
            ended_s[priority] = clock.monotonic()

        return send

    send_all(clock, [sender(Priority.LOW), sender(Priority.EMERGENCY)])
    assert ended_s[Priority.EMERGENCY] == pytest.approx(2.2, rel=0.05)
    assert ended_s[Priority.LOW] == pytest.approx(4, rel=0.05)


def test_bytes_of_several_deliveries_are_as_urgent_as_the_most_urgent_of_them() -> None:
    ended_s: dict[str, float] = {}

    def sender(clock: SharedTime, name: str, pacer: Pacer) -> Callable[[], None]:
        def send() -> None:
            pacer.take(1_000_000)
            ended_s[name] = clock.monotonic()

        return send

    for expected in (["pacs", "vault"], ["vault", "pacs"]):
        clock = SharedTime(2)
        bandwidth = Bandwidth(RateTable(RATE), clock, clock.sleep)
        vault = bandwidth.pacing("vault", RateTable())
        assert vault is not None
        senders = [
            sender(clock, "vault", vault.joint_pacer()),
            sender(clock, "pacs", pacer_of(bandwidth, priority=Priority.HIGH)),
        ]
        with vault.at_work(Priority.LOW), ExitStack() as more:
            if expected[0] == "vault":
                more.enter_context(vault.at_work(Priority.URGENT))
            send_all(clock, senders)
        assert sorted(ended_s, key=ended_s.__getitem__) == expected


# Local time.


def _tables() -> RateTable:
    office = RateWindow(frozenset(range(5)), 7 * 60, 19 * 60, 1.0)
    night = RateWindow(frozenset({4}), 22 * 60, 6 * 60, 2.0)
    return RateTable(3.0, (office, night))


@pytest.mark.parametrize(
    ("moment", "rate"),
    [
        ((2026, 1, 30, 7, 0), 1.0),  # a Friday
        ((2026, 1, 30, 18, 59), 1.0),
        ((2026, 1, 30, 19, 0), 3.0),
        ((2026, 1, 30, 22, 0), 2.0),
        ((2026, 1, 31, 5, 59), 2.0),
        ((2026, 1, 31, 6, 0), 3.0),
        ((2026, 1, 31, 22, 30), 3.0),
        ((2026, 1, 30, 5, 0), 3.0),
        ((2026, 2, 1, 12, 0), 3.0),
    ],
)
def test_a_window_belongs_to_the_day_on_which_it_begins(
    moment: tuple[int, int, int, int, int], rate: float
) -> None:
    year, month, day, hour, minute = moment
    local = datetime(year, month, day, hour, minute, 59, tzinfo=UTC)
    assert _tables().rate_at(local) == rate


def test_windows_go_by_the_local_clock_across_daylight_saving_time() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    table = RateTable(3.0, (RateWindow(frozenset(range(7)), 2 * 60, 4 * 60, 1.0),))

    def slow_minutes(begin: datetime) -> int:
        moments = (begin + timedelta(minutes=minute) for minute in range(24 * 60))
        return sum(table.rate_at(moment.astimezone(berlin)) == 1.0 for moment in moments)

    assert slow_minutes(datetime(2026, 3, 28, 12, tzinfo=UTC)) == 60  # from 2 to 3 is left out
    assert slow_minutes(datetime(2026, 7, 1, 12, tzinfo=UTC)) == 120
    assert slow_minutes(datetime(2026, 10, 24, 12, tzinfo=UTC)) == 180  # from 2 to 3 comes twice


def test_a_limit_changes_with_the_time_of_day() -> None:
    clock = FakeClock(datetime(2026, 1, 30, 6, 59, 59, tzinfo=UTC))
    window = RateWindow(frozenset(range(7)), 7 * 60, 8 * 60, 100_000.0)
    bandwidth = Bandwidth(RateTable(), clock, clock.advance, local=lambda moment: moment)
    pacing = bandwidth.pacing("pacs", RateTable(RATE, (window,)))
    assert pacing is not None
    began = clock.monotonic()
    pacing.pacer(Priority.NORMAL).take(2_000_000)
    assert clock.monotonic() - began == pytest.approx(1 + 10, rel=0.03)


# Several processes.


class Shares:
    """`BandwidthShares` by the clock of the test."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._until: dict[tuple[str, str], float] = {}
        self.claims = 0
        self.is_broken = False

    def claim(self, limit: str, holder: str, lease_s: float) -> Claim:
        if self.is_broken:
            raise StateError("the catalogue cannot be used")
        self.claims += 1
        now_s = self._clock.monotonic()
        self._until = {key: until for key, until in self._until.items() if until > now_s}
        is_new = (limit, holder) not in self._until
        self._until[limit, holder] = now_s + lease_s
        return Claim(sum(key[0] == limit for key in self._until), is_new)

    def give_back(self, holder: str) -> None:
        if self.is_broken:
            raise StateError("the catalogue cannot be used")
        self._until = {key: until for key, until in self._until.items() if key[1] != holder}


def test_who_is_alone_has_all_at_once() -> None:
    clock = FakeClock()
    shares = Shares(clock)
    leases = Leases(shares, "a", clock)
    assert leases.part("pacs") == 1
    assert leases.part("pacs") == 1
    assert shares.claims == 1


def test_parts_never_make_more_than_the_whole() -> None:
    """Three workers come and go and are late, at all sorts of moments."""
    clock = FakeClock()
    shares = Shares(clock)
    workers = [Leases(shares, name, clock) for name in "abc"]
    held = [0.0, 0.0, 0.0]
    seen: set[tuple[float, ...]] = set()
    for step in range(4000):
        clock.advance(0.05)
        for number, worker in enumerate(workers):
            # Each is away for a while now and then; what it was told before still counts.
            if (step + number * 131) % 700 < 450:
                held[number] = worker.part("pacs")
            elif (step + number * 131) % 700 == 450:
                worker.give_back()
                held[number] = 0.0
        assert sum(held) <= 1 + 1e-9
        seen.add(tuple(sorted(held)))
    assert {(0.0, 0.0, 1.0), (0.0, 0.5, 0.5)} <= seen


def test_a_newcomer_waits_until_all_others_know() -> None:
    clock = FakeClock()
    shares = Shares(clock)
    first, second = Leases(shares, "a", clock), Leases(shares, "b", clock)
    assert first.part("pacs") == 1
    assert second.part("pacs") == 0
    clock.advance(LEASE_S - 0.01)
    assert second.part("pacs") == 0
    assert first.part("pacs") == 0.5
    clock.advance(0.02)
    assert second.part("pacs") == 0.5


def test_who_was_away_too_long_begins_anew() -> None:
    clock = FakeClock()
    shares = Shares(clock)
    first, second = Leases(shares, "a", clock), Leases(shares, "b", clock)
    assert first.part("pacs") == 1
    clock.advance(LEASE_S + 1)
    assert second.part("pacs") == 1
    assert first.part("pacs") == 0


def test_a_part_that_is_given_back_is_anothers_soon() -> None:
    clock = FakeClock()
    shares = Shares(clock)
    first, second = Leases(shares, "a", clock), Leases(shares, "b", clock)
    assert (first.part("pacs"), second.part("pacs")) == (1, 0)
    first.give_back()
    for _ in range(4):
        clock.advance(LEASE_S / 3)
        part = second.part("pacs")
    assert part == 1


def test_workers_of_one_database_keep_a_limit_together() -> None:
    clock = SharedTime(2)
    shares = Shares(clock)
    passed: list[tuple[float, int]] = []

    def worker(name: str, size: int) -> Callable[[], None]:
        bandwidth = Bandwidth(RateTable(), clock, clock.sleep, leases=Leases(shares, name, clock))
        pacer = pacer_of(bandwidth, rate=RATE)

        def send() -> None:
            for _ in range(size // 10_000):
                pacer.take(10_000)
                passed.append((clock.monotonic(), 10_000))
            bandwidth.give_back()

        return send

    send_all(clock, [worker("a", 12_000_000), worker("b", 4_000_000)])
    ends_s = int(max(moment for moment, _size in passed))
    for second in range(ends_s):
        within = sum(size for moment, size in passed if second <= moment < second + 1)
        assert within <= RATE * 1.25
    # All of the rate is used, but for the moments in which one came or went.
    assert sum(size for _moment, size in passed) >= RATE * (ends_s - 2 * LEASE_S)


def test_who_cannot_ask_for_its_part_says_so_and_can_still_stop() -> None:
    clock = FakeClock()
    shares = Shares(clock)
    bandwidth = Bandwidth(RateTable(RATE), clock, clock.advance, leases=Leases(shares, "a", clock))
    pacer = pacer_of(bandwidth)
    pacer.take(10_000)
    shares.is_broken = True
    clock.advance(LEASE_S)
    with pytest.raises(StateError):
        pacer.take(10_000)
    bandwidth.give_back()
    shares.is_broken = False
    began = clock.monotonic()
    pacer.take(10_000)
    # Its old row may still be there: it begins as a newcomer would.
    assert clock.monotonic() - began <= LEASE_S + 0.2
