"""Lanes: the files of a batch delivered by several deliveries of one destination at once."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from dcmvault.errors import (
    AssociationLostError,
    DcmvaultError,
    DestinationError,
    DestinationStoppedError,
    DestinationUnreachableError,
    InstanceDeferredError,
)
from dcmvault.model.instance import InstanceFile
from dcmvault.model.receipt import Receipt
from dcmvault.pipeline.concurrency import ConcurrencyController, Sample
from dcmvault.ports.clock import Clock
from dcmvault.ports.destination import Delivery

#: What an instance costs a peer besides its bytes, in bytes: small ones are no cheaper than this.
_OVERHEAD_BYTES = 64 << 10
#: A sample spans so many seconds at least, and so many instances for each lane.
_SAMPLE_S = 0.1
_SAMPLE_INSTANCES = 5
#: A sample counts for a number of lanes when on average so many were busy, or nearly.
_NEARLY = 0.3
#: Files opened ahead for each lane.
_AHEAD = 2
#: So many of the files that came last are in use at a time.
KEPT_FILES = 32
#: Seconds between looks at whether the work is being stopped, while a lane is waited for.
_LOOK_S = 0.2

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Delivered(Generic[_T]):
    """What came of one file: the destination's claim, or the error."""

    entry: _T
    file: InstanceFile
    came: Receipt | DcmvaultError


class Files(Generic[_T]):
    """The files of a batch as they come from a source, each with what it is for; some are none.

    They may go when the source's iterator ends. So `next` is asked `count` times and no more, and
    `close` when nobody uses them.
    """

    def __init__(self, count: int, files: Generator[tuple[_T, InstanceFile | None]]) -> None:
        self.count = count
        self._files = files

    def next(self) -> tuple[_T, InstanceFile | None] | None:
        """Return the next one; None if the source ended early."""
        return next(self._files, None)

    def close(self) -> None:
        """Let the files go."""
        self._files.close()


def deliver_one_by_one(
    delivery: Delivery, files: Files[_T], stopping: threading.Event
) -> Iterator[Delivered[_T]]:
    """Deliver files as they come, by one delivery and in the caller's thread.

    After an error that no instance is to blame for nothing more is begun, and it is raised.
    """
    for _number in range(files.count):
        if stopping.is_set() or (coming := files.next()) is None:
            return
        entry, file = coming
        if file is None:
            continue
        came: Receipt | DcmvaultError
        try:
            came = delivery.put(file)
        except DcmvaultError as error:
            came = error
        yield Delivered(entry, file, came)
        if isinstance(came, DestinationUnreachableError | DestinationStoppedError):
            raise came


@dataclass(slots=True)
class LaneGate:
    """How many lanes one destination has, over all batches of a process. Safe for threads."""

    controller: ConcurrencyController
    clock: Clock
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _busy: int = 0
    #: Batches without a lane.
    _waiting: int = 0
    _since: float = 0.0
    _lane_s: float = 0.0
    _moved: float = 0.0
    _instances: int = 0
    _counted_at: float = 0.0

    def enter_first(self, stopping: threading.Event) -> bool:
        """Wait for the lane that every batch needs; False when the work is being stopped."""
        with self._changed:
            self._waiting += 1
            try:
                while self._busy >= self.controller.target:
                    if stopping.is_set():
                        return False
                    self._changed.wait(_LOOK_S)
                self._count(1)
                return True
            finally:
                self._waiting -= 1

    def enter_another(self) -> bool:
        """Take a further lane if there is one that no other batch waits for."""
        with self._changed:
            if self._waiting or self._busy >= self.controller.target:
                return False
            self._count(1)
            return True

    def leave(self) -> None:
        """Give a lane back."""
        with self._changed:
            self._count(-1)
            self._changed.notify_all()

    def is_one_too_many(self) -> bool:
        """Say whether a batch with several lanes should give one back."""
        with self._changed:
            return self._waiting > 0 or self._busy > self.controller.target

    def delivered(self, size: int) -> None:
        """Count an instance that the peer took."""
        with self._changed:
            self._count(0)
            self._moved += size + _OVERHEAD_BYTES
            self._instances += 1
            span_s = self._counted_at - self._since
            lanes = self.controller.target
            if span_s < _SAMPLE_S or self._instances < _SAMPLE_INSTANCES * lanes:
                return
            if abs(self._lane_s / span_s - lanes) <= _NEARLY:
                self.controller.observe(Sample(lanes, self._moved / span_s))
                self._changed.notify_all()
            self._begin_sample()

    def trouble(self) -> None:
        """Have fewer lanes: one was refused or lost, or the peer is out of room."""
        with self._changed:
            self.controller.trouble()
            self._begin_sample()

    def _count(self, change: int) -> None:
        now = self.clock.monotonic()
        if not self._busy:
            # Nothing was being done meanwhile.
            self._counted_at = now
            self._begin_sample()
        self._lane_s += self._busy * (now - self._counted_at)
        self._counted_at = now
        self._busy += change

    def _begin_sample(self) -> None:
        self._since = self._counted_at
        self._lane_s = self._moved = 0.0
        self._instances = 0


@dataclass(frozen=True, slots=True)
class _Ended:
    """A lane takes no more; without an error it was told so."""

    error: BaseException | None = None
    #: The number of the file that it took and said nothing of.
    in_hand: int | None = None


@dataclass(slots=True)
class Lanes(Generic[_T]):
    """Delivers one batch; used by one thread, which feeds the lanes and hears what came of it.

    A lane is a thread with a delivery of its own. After an AssociationLostError or an error of the
    destination nothing more is begun; what other lanes have in hand ends.
    """

    open_delivery: Callable[[], Delivery]
    gate: LaneGate
    stopping: threading.Event
    _work: queue.SimpleQueue[tuple[int, _T, InstanceFile] | None] = field(
        default_factory=queue.SimpleQueue
    )
    #: The number of a file and what came of it: nothing, where it was not begun.
    _heard: queue.SimpleQueue[tuple[int, Delivered[_T] | None] | _Ended] = field(
        default_factory=queue.SimpleQueue
    )
    _threads: list[threading.Thread] = field(default_factory=list)
    #: Lanes that take work.
    _open: int = 0
    #: Files given to the lanes and not heard of, by their number, in order.
    _in_hand: dict[int, None] = field(default_factory=dict)
    #: A lane was told to end, and has not yet.
    _is_closing: bool = False
    #: Why nothing more is begun.
    _failure: BaseException | None = None

    def deliver(self, files: Files[_T]) -> Iterator[Delivered[_T]]:
        """Deliver files as they come; yield each with its receipt or the error it met.

        At most `KEPT_FILES` of them must be there at a time, the last ones that came. In the end
        raises what no instance is to blame for: DestinationUnreachableError (with its subclasses)
        or DestinationStoppedError. Who stops listening finds the rest in `unheard`.
        """
        if not self.gate.enter_first(self.stopping):
            return
        try:
            self._start_lane()
            for number in range(files.count):
                while self._must_hear(number):
                    yield from self._hear()
                if self._failure is not None or self.stopping.is_set():
                    break
                if (coming := files.next()) is None:
                    break
                entry, file = coming
                if file is not None:
                    self._in_hand[number] = None
                    self._work.put((number, entry, file))
                    self._adjust()
            while self._in_hand:
                yield from self._hear()
        finally:
            self._end()
        if self._failure is not None:
            raise self._failure

    def _must_hear(self, number: int) -> bool:
        """Say whether the file with this number has to wait: for a lane, or until one is done."""
        if not self._in_hand:
            return False
        oldest = next(iter(self._in_hand))
        return (
            not self._heard.empty()
            or len(self._in_hand) > _AHEAD * self._open
            or number - oldest >= KEPT_FILES
        )

    def _adjust(self) -> None:
        """Have as many lanes as there is work for, and as the destination's gate allows."""
        if len(self._in_hand) > self._open and self.gate.enter_another():
            self._start_lane()
        elif self._open > 1 and not self._is_closing and self.gate.is_one_too_many():
            self._is_closing = True
            self._open -= 1
            self._work.put(None)

    def _hear(self) -> Iterator[Delivered[_T]]:
        """Wait until a file is done, or a lane has ended."""
        heard = self._heard.get()
        if isinstance(heard, _Ended):
            if heard.in_hand is not None:
                self._in_hand.pop(heard.in_hand, None)
            if heard.error is None:
                self._is_closing = False
            else:
                self._open = max(self._open - 1, 0)
                if not self._open or not isinstance(heard.error, DestinationError):
                    self._begin_nothing_more(heard.error)
            return
        number, delivered = heard
        if delivered is None:  # not begun
            self._in_hand.pop(number, None)
            return
        if self._may_go_elsewhere(delivered.came):
            self._work.put((number, delivered.entry, delivered.file))
            return
        self._in_hand.pop(number, None)
        if isinstance(delivered.came, DestinationUnreachableError | DestinationStoppedError):
            self._begin_nothing_more(delivered.came)
        yield delivered

    def unheard(self) -> Iterator[Delivered[_T]]:
        """Return, when it is over, what came of files and was not told: the consumer gave up."""
        with suppress(queue.Empty):
            while True:
                heard = self._heard.get_nowait()
                if not isinstance(heard, _Ended) and heard[1] is not None:
                    yield heard[1]

    def _may_go_elsewhere(self, came: Receipt | DcmvaultError) -> bool:
        """Say whether a file was not sent for want of an association that other lanes have."""
        return (
            isinstance(came, DestinationUnreachableError)
            and not isinstance(came, AssociationLostError)
            and self._open > 1
            and self._failure is None
        )

    def _begin_nothing_more(self, error: BaseException) -> None:
        self._failure = self._failure or error
        with suppress(queue.Empty):
            while True:
                if (work := self._work.get_nowait()) is not None:
                    self._in_hand.pop(work[0], None)
        for _lane in range(self._open):
            self._work.put(None)
        self._open = 0

    def _start_lane(self) -> None:
        thread = threading.Thread(target=self._run_lane, name="delivery-lane", daemon=True)
        try:
            thread.start()
        except BaseException:
            self.gate.leave()
            raise
        self._open += 1
        self._threads.append(thread)

    def _end(self) -> None:
        with suppress(queue.Empty):
            while True:
                self._work.get_nowait()
        for _thread in self._threads:
            self._work.put(None)
        for thread in self._threads:
            thread.join()

    def _run_lane(self) -> None:
        taken: int | None = None
        try:
            with self.open_delivery() as delivery:
                while (work := self._work.get()) is not None:
                    taken, entry, file = work
                    if self.stopping.is_set():
                        self._heard.put((taken, None))
                        continue
                    came = self._put(delivery, file)
                    self._heard.put((taken, Delivered(entry, file, came)))
                    taken = None
                    if isinstance(came, DestinationUnreachableError | DestinationStoppedError):
                        raise came
            ended = _Ended()
        # Outermost frame of a thread: whoever waits for the lanes must hear of a defect, too.
        except BaseException as error:  # noqa: BLE001
            self.gate.trouble()
            ended = _Ended(error, taken)
        finally:
            self.gate.leave()
        self._heard.put(ended)

    def _put(self, delivery: Delivery, file: InstanceFile) -> Receipt | DcmvaultError:
        try:
            receipt = delivery.put(file)
        except InstanceDeferredError as error:
            self.gate.trouble()
            return error
        except DcmvaultError as error:
            return error
        self.gate.delivered(file.entry.fingerprint.size)
        return receipt
