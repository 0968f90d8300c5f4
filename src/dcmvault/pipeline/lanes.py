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
from dcmvault.ports.destination import Delivery, Pipelined

#: What an instance costs a peer besides its bytes, in bytes: small ones are no cheaper than this.
_OVERHEAD_BYTES = 64 << 10
#: A sample spans so many seconds at least, and so many instances for each lane.
_SAMPLE_S = 0.1
_SAMPLE_INSTANCES = 5
#: A sample counts for a number of lanes when on average so many were busy, or nearly.
_NEARLY = 0.3
#: Files that each lane has in hand and opened ahead, for each that it may have on its way.
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
        self._ahead: list[tuple[_T, InstanceFile | None] | None] = []

    def look_ahead(self) -> None:
        """Open the next file now, and keep it for `next`."""
        self._ahead.append(next(self._files, None))

    def next(self) -> tuple[_T, InstanceFile | None] | None:
        """Return the next one; None if the source ended early."""
        return self._ahead.pop(0) if self._ahead else next(self._files, None)

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
        if (failure := _fatal(came)) is not None:
            raise failure


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

    @property
    def busy(self) -> int:
        """How many lanes are in use now."""
        with self._changed:
            return self._busy

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


@dataclass(frozen=True, slots=True, eq=False)
class _Work(Generic[_T]):
    """One file for a lane, and its number."""

    number: int
    entry: _T
    file: InstanceFile


@dataclass(frozen=True, slots=True)
class _Begun:
    """A file was read to its end, and is on its way."""

    number: int


@dataclass(frozen=True, slots=True)
class _Ended:
    """A lane takes no more; without an error it was told so."""

    error: BaseException | None = None
    #: The numbers of the files that it took and said nothing of.
    in_hand: tuple[int, ...] = ()


@dataclass(slots=True)
class _Lane(Generic[_T]):
    """Takes files, delivers them by one delivery, and tells what came of each."""

    gate: LaneGate
    stopping: threading.Event
    work: queue.SimpleQueue[_Work[_T] | None]
    heard: queue.SimpleQueue[tuple[int, Delivered[_T] | None] | _Begun | _Ended]
    #: Files that were taken and not told of.
    hand: list[_Work[_T]] = field(default_factory=list)

    def deliver_each(self, delivery: Delivery) -> None:
        """Deliver one file after the other, until told to end or nothing more can succeed."""
        while (work := self.work.get()) is not None:
            if not self._take(work):
                continue
            came: Receipt | DcmvaultError
            try:
                came = delivery.put(work.file)
            except DcmvaultError as error:
                came = error
            self._tell(work, came)
            if (failure := _fatal(came)) is not None:
                raise failure

    def deliver_several(self, delivery: Pipelined) -> None:
        """Have files on their way, until told to end or nothing more can succeed.

        All that were begun are finished in any case.
        """
        failure: DcmvaultError | None = None
        is_ending = False
        while True:
            if not is_ending and failure is None and len(self.hand) < delivery.window:
                try:
                    # Without a file on its way there is nothing else to do than to wait for one.
                    work = self.work.get(block=not self.hand)
                except queue.Empty:
                    pass
                else:
                    is_ending = work is None
                    if work is not None and self._take(work):
                        failure = self._begin(delivery, work)
                    continue
            if not self.hand:
                break
            failure = self._finish(delivery) or failure
        if failure is not None:
            raise failure

    def _take(self, work: _Work[_T]) -> bool:
        """Take a file in hand, unless the work is being stopped."""
        if self.stopping.is_set():
            self.heard.put((work.number, None))
            return False
        self.hand.append(work)
        return True

    def _begin(self, delivery: Pipelined, work: _Work[_T]) -> DcmvaultError | None:
        """Begin one file; return the error after which nothing more can succeed."""
        try:
            delivery.begin(work.file)
        except DcmvaultError as error:
            came = error
        else:
            self.heard.put(_Begun(work.number))
            return None
        if _fatal(came) is not None:
            # Those before it first: it may be their loss that this one cannot be begun.
            while len(self.hand) > 1:
                self._finish(delivery)
        self._tell(work, came)
        return _fatal(came)

    def _finish(self, delivery: Pipelined) -> DcmvaultError | None:
        """Finish one file; return the error after which nothing more can succeed."""
        file, came = delivery.finish()
        self._tell(next(work for work in self.hand if work.file is file), came)
        return _fatal(came)

    def _tell(self, work: _Work[_T], came: Receipt | DcmvaultError) -> None:
        if isinstance(came, Receipt):
            self.gate.delivered(work.file.fingerprint.size)
        elif isinstance(came, InstanceDeferredError):
            self.gate.trouble()
        self.hand.remove(work)
        self.heard.put((work.number, Delivered(work.entry, work.file, came)))


def _fatal(came: Receipt | DcmvaultError) -> DcmvaultError | None:
    """Return the error after which nothing more can succeed, if it is one."""
    if isinstance(came, DestinationUnreachableError | DestinationStoppedError):
        return came
    return None


@dataclass(slots=True)
class Lanes(Generic[_T]):
    """Delivers one batch; used by one thread, which feeds the lanes and hears what came of it.

    A lane is a thread with a delivery of its own. After an AssociationLostError or an error of the
    destination nothing more is begun; what other lanes have in hand ends.
    """

    open_delivery: Callable[[], Delivery]
    gate: LaneGate
    stopping: threading.Event
    _work: queue.SimpleQueue[_Work[_T] | None] = field(default_factory=queue.SimpleQueue)
    #: The number of a file and what came of it: nothing, where it was not begun.
    _heard: queue.SimpleQueue[tuple[int, Delivered[_T] | None] | _Begun | _Ended] = field(
        default_factory=queue.SimpleQueue
    )
    _threads: list[threading.Thread] = field(default_factory=list)
    #: Lanes that take work.
    _open: int = 0
    #: Files given to the lanes and not heard of, by their number, in order.
    _in_hand: dict[int, None] = field(default_factory=dict)
    #: Those of them that are not read to their end, as far as was heard.
    _to_read: dict[int, None] = field(default_factory=dict)
    #: Files that each lane may have on their way at once.
    _window: int = 1
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
                    self._in_hand[number] = self._to_read[number] = None
                    self._work.put(_Work(number, entry, file))
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
        oldest = next(iter(self._to_read), number)
        return (
            not self._heard.empty()
            or len(self._in_hand) > _AHEAD * self._window * self._open
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
        if isinstance(heard, _Begun):
            self._to_read.pop(heard.number, None)
            return
        if isinstance(heard, _Ended):
            self._forget(*heard.in_hand)
            if heard.error is None:
                self._is_closing = False
            else:
                self._open = max(self._open - 1, 0)
                if not self._open or not isinstance(heard.error, DestinationError):
                    self._begin_nothing_more(heard.error)
            return
        number, delivered = heard
        if delivered is None:  # not begun
            self._forget(number)
            return
        if number in self._to_read and self._may_go_elsewhere(delivered.came):
            self._work.put(_Work(number, delivered.entry, delivered.file))
            return
        self._forget(number)
        if (failure := _fatal(delivered.came)) is not None:
            self._begin_nothing_more(failure)
        yield delivered

    def _forget(self, *numbers: int) -> None:
        for number in numbers:
            self._in_hand.pop(number, None)
            self._to_read.pop(number, None)

    def unheard(self) -> Iterator[Delivered[_T]]:
        """Return, when it is over, what came of files and was not told: the consumer gave up."""
        with suppress(queue.Empty):
            while True:
                heard = self._heard.get_nowait()
                if isinstance(heard, tuple) and heard[1] is not None:
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
                    self._forget(work.number)
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
        lane = _Lane(self.gate, self.stopping, self._work, self._heard)
        try:
            with self.open_delivery() as delivery:
                if isinstance(delivery, Pipelined) and delivery.window > 1:
                    self._window = delivery.window
                    lane.deliver_several(delivery)
                else:
                    lane.deliver_each(delivery)
            ended = _Ended()
        # Outermost frame of a thread: whoever waits for the lanes must hear of a defect, too.
        except BaseException as error:  # noqa: BLE001
            self.gate.trouble()
            ended = _Ended(error, tuple(work.number for work in lane.hand))
        finally:
            self.gate.leave()
        self._heard.put(ended)
