"""Several deliveries at once: everything is heard of, whatever happens to one of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from dcmvault.errors import (
    AssociationLostError,
    DestinationStoppedError,
    DestinationUnreachableError,
    InstanceDeferredError,
    InstanceRefusedError,
)
from dcmvault.model.instance import Fingerprint, InstanceEntry, InstanceFile
from dcmvault.model.receipt import Receipt
from dcmvault.pipeline.concurrency import ConcurrencyController
from dcmvault.pipeline.lanes import KEPT_FILES, Delivered, Files, LaneGate, Lanes
from dcmvault.ports.destination import Delivery
from dcmvault.testing.clock import FakeClock

Put = Callable[[int], None]


class _Place:
    """Counts its deliveries; `put` does as it is told for the number of a file."""

    def __init__(self, put: Put = lambda _number: None) -> None:
        self.put = put
        self.lock = threading.Lock()
        self.opened = self.standing = self.most = 0
        #: Openings that fail, by their number.
        self.closed_to: dict[int, DestinationUnreachableError] = {}

    def open(self) -> Delivery:
        with self.lock:
            self.opened += 1
            if error := self.closed_to.get(self.opened):
                raise error
            self.standing += 1
            self.most = max(self.most, self.standing)
        return _Delivery(self)


class _Delivery:
    def __init__(self, place: _Place) -> None:
        self._place = place

    def put(self, file: InstanceFile) -> Receipt:
        self._place.put(int(file.path.name))
        return Receipt(
            locator=file.entry.locator,
            fingerprint=file.entry.fingerprint,
            file_sha256=b"",
            status="0000",
            object_key="",
            transferred_bytes=1,
            received_at=FakeClock().now(),
        )

    def flush(self) -> int:
        return 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._place.lock:
            self._place.standing -= 1


def files(count: int) -> Files[int]:
    return Files(count, some(count))


def some(count: int) -> Generator[tuple[int, InstanceFile | None]]:
    for number in range(count):
        entry = InstanceEntry(str(number), Fingerprint(1, 0, 0))
        yield number, InstanceFile(entry, Path(str(number)))


def gate(start: int = 3, most: int = 3) -> LaneGate:
    return LaneGate(ConcurrencyController(start, most), FakeClock())


def lanes(place: _Place, doorkeeper: LaneGate | None = None) -> Lanes[int]:
    return Lanes(place.open, doorkeeper or gate(), threading.Event())


def deliver(several: Lanes[int], count: int) -> dict[int, Delivered[int]]:
    return {one.entry: one for one in several.deliver(files(count))}


def test_all_arrive_over_several_lanes() -> None:
    place = _Place(lambda _: time.sleep(0.001))
    found = deliver(lanes(place), 200)
    assert sorted(found) == list(range(200))
    assert all(isinstance(one.came, Receipt) for one in found.values())
    assert 1 < place.most <= 3
    assert place.standing == 0


def test_one_file_opens_one_lane() -> None:
    place = _Place()
    assert list(deliver(lanes(place), 1)) == [0]
    assert place.opened == 1


def test_files_are_not_used_longer_than_they_are_kept() -> None:
    taken: list[int] = []
    handed = 0
    late: list[int] = []

    def put(number: int) -> None:
        if number == 5:
            time.sleep(0.2)
        late.extend([number] if handed - number > KEPT_FILES else [])
        taken.append(number)

    def coming() -> Generator[tuple[int, InstanceFile | None]]:
        nonlocal handed
        for one in some(300):
            handed += 1
            yield one

    assert len(list(lanes(_Place(put)).deliver(Files(300, coming())))) == 300
    assert not late
    assert taken.index(5) > 5


@pytest.mark.parametrize("number", [0, 7, 99])
def test_after_a_lost_association_nothing_more_is_begun(number: int) -> None:
    def put(one: int) -> None:
        if one == number:
            raise AssociationLostError("gone")

    place = _Place(put)
    found: dict[int, Delivered[int]] = {}

    def collect() -> None:
        for one in lanes(place).deliver(files(100)):
            found[one.entry] = one

    with pytest.raises(AssociationLostError):
        collect()
    assert isinstance(found[number].came, AssociationLostError)
    # Everything that was begun is heard of.
    assert all(isinstance(one.came, Receipt) for entry, one in found.items() if entry != number)
    assert len(found) <= number + 10
    assert place.standing == 0


def test_a_stopped_destination_ends_the_batch() -> None:
    def put(number: int) -> None:
        if number >= 10:
            raise DestinationStoppedError("full")

    with pytest.raises(DestinationStoppedError, match="full"):
        deliver(lanes(_Place(put)), 100)


def test_refused_instances_spare_the_others() -> None:
    def put(number: int) -> None:
        if number % 3 == 0:
            raise InstanceRefusedError("no", status="C000")
        if number % 3 == 1:
            raise InstanceDeferredError("later", status="A700")

    doorkeeper = gate()
    found = deliver(lanes(_Place(put), doorkeeper), 90)
    assert len(found) == 90
    assert sum(isinstance(one.came, Receipt) for one in found.values()) == 30
    assert doorkeeper.controller.target == 1


def test_a_further_lane_that_is_refused_leaves_the_work_to_the_first() -> None:
    place = _Place(lambda _: time.sleep(0.001))
    place.closed_to = {n: DestinationUnreachableError("busy") for n in range(2, 50)}
    assert len(deliver(lanes(place), 100)) == 100


def test_a_destination_that_is_not_there_fails_as_a_whole() -> None:
    place = _Place()
    place.closed_to = {n: DestinationUnreachableError("nobody") for n in range(50)}
    with pytest.raises(DestinationUnreachableError, match="nobody"):
        deliver(lanes(place), 100)


def test_a_defect_is_heard_of() -> None:
    def put(number: int) -> None:
        if number == 20:
            raise ZeroDivisionError

    place = _Place(put)
    with pytest.raises(ZeroDivisionError):
        deliver(lanes(place), 100)
    assert place.standing == 0


def test_an_abandoned_batch_leaves_no_lane_behind() -> None:
    place, doorkeeper = _Place(), gate(1, 1)
    delivering = lanes(place, doorkeeper).deliver(files(100))
    next(delivering)
    delivering.close()  # type: ignore[attr-defined]  # a generator
    assert place.standing == 0
    assert len(deliver(lanes(place, doorkeeper), 5)) == 5


def test_batches_share_the_lanes() -> None:
    place, doorkeeper = _Place(lambda _: time.sleep(0.001)), gate(2, 2)
    found: list[int] = []

    def batch() -> None:
        found.append(len(deliver(lanes(place, doorkeeper), 60)))

    threads = [threading.Thread(target=batch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [60] * 4
    assert place.most <= 2


def test_who_waits_for_a_lane_hears_of_the_stop() -> None:
    doorkeeper, stopping = gate(1, 1), threading.Event()
    assert doorkeeper.enter_first(stopping)
    stopping.set()
    idle: Lanes[int] = Lanes(_Place().open, doorkeeper, stopping)
    assert list(idle.deliver(files(3))) == []


def test_samples_teach_the_controller() -> None:
    clock = FakeClock()
    doorkeeper = LaneGate(ConcurrencyController(1, 3), clock)
    assert doorkeeper.enter_first(threading.Event())
    for _ in range(8):
        clock.advance(0.1)
        doorkeeper.delivered(1000)
    assert doorkeeper.controller.target == 2
    assert doorkeeper.enter_another()
    assert not doorkeeper.enter_another()
    doorkeeper.trouble()
    assert doorkeeper.is_one_too_many()


def test_files_are_there_until_everybody_is_done() -> None:
    gone = False
    late: list[int] = []

    def put(number: int) -> None:
        time.sleep(0.01)
        if gone:
            late.append(number)

    def coming() -> Generator[tuple[int, InstanceFile | None]]:
        nonlocal gone
        try:
            yield from some(40)
        finally:
            gone = True

    coming_files = Files(40, coming())
    assert len(list(lanes(_Place(put)).deliver(coming_files))) == 40
    assert not late
    assert not gone
    coming_files.close()
    assert gone


def test_what_is_no_file_counts_among_those_that_are_kept() -> None:
    asked = 0
    most_ahead = 0

    def put(number: int) -> None:
        nonlocal most_ahead
        time.sleep(0.05 if number == 0 else 0)
        most_ahead = max(most_ahead, asked - number)

    def coming() -> Generator[tuple[int, InstanceFile | None]]:
        nonlocal asked
        for number, file in some(200):
            asked += 1
            yield number, file if number % 50 == 0 else None

    assert len(list(lanes(_Place(put), gate(1, 1)).deliver(Files(200, coming())))) == 4
    assert most_ahead <= KEPT_FILES


def test_nothing_is_begun_after_the_stop() -> None:
    stopping, begun = threading.Event(), []

    def put(number: int) -> None:
        begun.append(number)
        stopping.set()
        time.sleep(0.05)

    stopped: Lanes[int] = Lanes(_Place(put).open, gate(1, 1), stopping)
    assert [one.entry for one in stopped.deliver(files(50))] == [0]
    assert begun == [0]


def test_a_file_whose_lane_lost_its_way_takes_another() -> None:
    failed = threading.Event()

    def put(number: int) -> None:
        time.sleep(0.005)
        if number == 10 and not failed.is_set():
            failed.set()
            raise DestinationUnreachableError("no association for it")

    found = deliver(lanes(_Place(put)), 60)
    assert len(found) == 60
    assert all(isinstance(one.came, Receipt) for one in found.values())


def test_what_came_while_nobody_listened_is_kept() -> None:
    several = lanes(_Place(lambda _: time.sleep(0.01)))
    delivering = several.deliver(files(20))
    heard = {next(delivering).entry}
    delivering.close()  # type: ignore[attr-defined]  # a generator
    rest = {one.entry for one in several.unheard()}
    assert rest
    assert not heard & rest


def test_a_lane_that_cannot_start_leaves_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    doorkeeper = gate(1, 1)

    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="start new thread"):
            deliver(lanes(_Place(), doorkeeper), 5)
    assert len(deliver(lanes(_Place(), doorkeeper), 5)) == 5
