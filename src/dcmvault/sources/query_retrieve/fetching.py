"""Fetching instances from a PACS: several batches at once, handed out in the order asked."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

from dcmvault.config.peer_sections import DimseSourceSection
from dcmvault.dicom.channel import Peer, resolve
from dcmvault.dicom.intake import IncomingFile, Received, Room
from dcmvault.dicom.move_receiver import MoveReceiver
from dcmvault.errors import (
    ConfigurationError,
    DestinationError,
    DestinationUnreachableError,
    EntryUnreadableError,
)
from dcmvault.model.instance import (
    Fingerprint,
    InstanceEntry,
    InstanceFile,
    InstanceIdentity,
    UnreadableEntry,
)
from dcmvault.sources.fetched_files import FetchedFiles
from dcmvault.sources.query_retrieve.lane import Batch, Lane, Outcome
from dcmvault.sources.query_retrieve.listing import identity_in

_MIB = 1 << 20
#: Instances asked for at once, at first and at most, and the bytes that they should have together.
_FIRST_BATCH, _LONGEST_BATCH, _BATCH_BYTES = 25, 100, 64 * _MIB
#: Connections that may fail one after the other before no further one is tried.
_MAX_FAILURES = 3


def fetch(
    section: DimseSourceSection, peer: Peer, entries: Iterable[InstanceEntry], kept: int
) -> Iterator[InstanceFile | UnreadableEntry]:
    """Make entries readable, in the order given, one answer each (`ports.source.Source.read`)."""
    room = Room(section.max_waiting_mib * _MIB)
    longest = section.max_instance_mib * _MIB
    with ExitStack() as stack:
        files = stack.enter_context(FetchedFiles(kept=kept, longest_file=longest))
        retrieval = _Retrieval(section, peer, files, room)
        # Ends before the files are removed: nothing is written any more then.
        stack.callback(retrieval.end)
        in_use: deque[tuple[Room, int]] = deque()
        for entry, outcome in retrieval.answers(entries):
            if isinstance(outcome, UnreadableEntry):
                yield outcome
                continue
            files.hand_out(outcome.path)
            status = outcome.path.stat()
            in_use.append((outcome.room, status.st_size))
            while len(in_use) > kept:
                counted_in, size = in_use.popleft()
                counted_in.give_back(size)
            shown = Fingerprint(status.st_size, status.st_mtime_ns, status.st_ino)
            yield InstanceFile(entry, outcome.path, outcome.header, fetched=shown)


@dataclass(slots=True)
class _Retrieval:
    """Batches on their way over several associations."""

    section: DimseSourceSection
    peer: Peer
    files: FetchedFiles
    room: Room
    _lanes: queue.SimpleQueue[Lane] = field(default_factory=queue.SimpleQueue)
    _all_lanes: list[Lane] = field(default_factory=list)
    _pool: ThreadPoolExecutor | None = None
    _receiving: ExitStack = field(default_factory=ExitStack)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    #: What came so far: how large batches may be depends on it.
    _instances: int = 0
    _bytes: int = 0
    _failures: int = 0
    _failure: DestinationError | ConfigurationError | None = None
    #: The entry that is to be handed out next; all before it were.
    _next: InstanceEntry | None = None
    _is_over: bool = False
    _turn: threading.Condition = field(default_factory=threading.Condition)

    def answers(self, entries: Iterable[InstanceEntry]) -> Iterator[tuple[InstanceEntry, Outcome]]:
        """Give each entry its answer, in order; batches that follow are on their way meanwhile."""
        batches = self._batches(iter(entries))
        ahead: deque[tuple[Batch, Future[None]]] = deque()
        while True:
            while len(ahead) <= self.section.max_associations and (batch := next(batches, None)):
                ahead.append((batch, self._begin(batch)))
            if not ahead:
                return
            batch, job = ahead.popleft()
            for entry in batch.entries:
                with self._turn:
                    self._next = entry
                    self._turn.notify_all()
                outcome = batch.outcome(entry).result()
                if isinstance(outcome, Received):
                    self._instances += 1
                    self._bytes += outcome.path.stat().st_size
                yield entry, outcome
            job.result()  # a defect of ours is heard of

    def _batches(self, entries: Iterator[InstanceEntry]) -> Iterator[Batch]:
        """Gather entries that follow one another in one series; what is no entry of ours alone."""
        batch: Batch | None = None
        for entry in entries:
            identity = identity_in(entry.locator)
            if batch is not None and (
                not batch.can_take(identity) or len(batch.entries) >= self._batch_size()
            ):
                yield batch
                batch = None
            if batch is None:
                batch = Batch(identity or InstanceIdentity("", "", ""))
            batch.add(entry, identity)
        if batch is not None:
            yield batch

    def _batch_size(self) -> int:
        if not self._instances:
            return _FIRST_BATCH
        suitable = _BATCH_BYTES * self._instances // max(self._bytes, 1)
        return max(1, min(suitable, _LONGEST_BATCH))

    def _begin(self, batch: Batch) -> Future[None]:
        if not batch.identity.study_instance_uid:
            batch.refuse_rest(
                EntryUnreadableError.code,
                "The PACS refuses to list this study."
                if batch.names_study
                else "No instance of a PACS has this locator.",
            )
            done: Future[None] = Future()
            done.set_result(None)
            return done
        if self._pool is None:
            self._prepare()
        assert self._pool is not None
        return self._pool.submit(self._fetch, batch)

    def _prepare(self) -> None:
        """Make as many lanes as there may be associations; nothing is connected yet."""
        most = self.section.max_associations
        self._pool = ThreadPoolExecutor(most, thread_name_prefix="retrieval")
        receiver = self._receiver() if self.section.retrieve == "move" else None
        move_to = self.section.move_to or self.section.calling_ae_title
        for _number in range(most):
            lane = Lane(self.peer, self._new_file, self.room, receiver, move_to)
            self._all_lanes.append(lane)
            self._lanes.put(lane)

    def _receiver(self) -> MoveReceiver | None:
        """Open the port for what the PACS sends; a failure is told of every instance."""
        section = self.section
        try:
            senders = {str(address[0]) for _family, address in resolve(self.peer)}
            return self._receiving.enter_context(
                MoveReceiver(
                    section.move_to or section.calling_ae_title,
                    section.move_host,
                    section.move_port,
                    senders,
                    section.dimse_timeout_s,
                )
            )
        except (ConfigurationError, DestinationError) as error:
            self._failure, self._failures = error, _MAX_FAILURES
            return None

    def _new_file(self) -> IncomingFile:
        with self._lock:
            return self.files.new()

    def _fetch(self, batch: Batch) -> None:
        """Fetch a batch, in a thread of its own; each of its entries has an answer afterwards."""
        try:
            self._by_a_lane(
                batch,
                lambda lane: lane.fetch(batch, beside_others=self._others_stand(lane)),
            )
            for uid in batch.short_of_room():
                # No lane is held meanwhile: what comes before this one may need it.
                if not self._comes_next(batch.entry_of(uid)):
                    break
                self._by_a_lane(batch, partial(Lane.fetch_alone, batch=batch, uid=uid))
        finally:
            batch.refuse_rest(
                EntryUnreadableError.code, "The PACS sends too little of what it is asked for."
            )

    def _by_a_lane(self, batch: Batch, work: Callable[[Lane], None]) -> None:
        """Let a lane work on a batch, another one where it fails, until the PACS is given up."""
        while not self._is_given_up(batch):
            lane = self._lanes.get()
            try:
                work(lane)
            except DestinationUnreachableError as error:
                if not self._goes_on_without(lane):
                    self._failed(error)
            except BaseException:
                # Whoever waits for a lane would wait for ever.
                self._lanes.put(lane)
                raise
            else:
                self._failures = 0
                self._lanes.put(lane)
                return

    def _comes_next(self, entry: InstanceEntry) -> bool:
        """Wait until all before an entry were handed out; False when nobody reads any more."""
        with self._turn:
            self._turn.wait_for(lambda: self._is_over or self._next is entry)
            return not self._is_over

    def _others_stand(self, lane: Lane) -> bool:
        return any(other.stands for other in list(self._all_lanes) if other is not lane)

    def _goes_on_without(self, lane: Lane) -> bool:
        """Give up a lane that the PACS refuses while others stand: it serves no more at once."""
        with self._lock:
            if self._others_stand(lane):
                self._all_lanes.remove(lane)
                return True
        self._lanes.put(lane)
        return False

    def _failed(self, error: DestinationError) -> None:
        with self._lock:
            self._failures += 1
            self._failure = error

    def _is_given_up(self, batch: Batch) -> bool:
        failure = self._failure
        if failure is None or self._failures < _MAX_FAILURES:
            return False
        message = failure.message.rstrip(".")
        batch.refuse_rest(EntryUnreadableError.code, f"The PACS cannot be read: {message}.")
        return True

    def end(self) -> None:
        """Stop what is on its way; waits for the threads."""
        with self._turn:
            self._is_over = True
            self._turn.notify_all()
        if self._pool is not None:
            for lane in self._all_lanes:
                lane.stop()
            self._receiving.close()
            self._pool.shutdown(cancel_futures=True)
            for lane in self._all_lanes:
                lane.close()
