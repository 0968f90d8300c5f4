"""Delivery: one batch of jobs goes to its destination, and every outcome is written down."""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

from dcmvault.errors import (
    AssociationLostError,
    DcmvaultError,
    DestinationError,
    DestinationStoppedError,
    DestinationUnreachableError,
    EntryUnreadableError,
    InstanceDeferredError,
    InstanceRefusedError,
    InstanceUnsendableError,
    Retry,
)
from dcmvault.model.evidence import Finding
from dcmvault.model.identifiers import JobId
from dcmvault.model.instance import InstanceFile, InstanceKind, ScannedEntry, UnreadableEntry
from dcmvault.model.job import ItemState, Job, JobState
from dcmvault.model.receipt import Receipt
from dcmvault.model.snapshot import Origin
from dcmvault.pipeline.examination import examine_planned
from dcmvault.pipeline.lanes import (
    KEPT_FILES,
    Delivered,
    Files,
    LaneGate,
    Lanes,
    deliver_one_by_one,
)
from dcmvault.pipeline.presence import Presence
from dcmvault.pipeline.quarantine import after_loss, travelling_together
from dcmvault.pipeline.retry import CircuitBreaker, RetryPolicy
from dcmvault.ports.catalogue import Item, ItemCatalogue, Outcome
from dcmvault.ports.clock import Clock
from dcmvault.ports.destination import Delivery, Destination, Listable
from dcmvault.ports.source import IndexMayErr, Source

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _WantedJobs:
    """Which jobs were not cancelled meanwhile; each is asked about once between two flushes."""

    jobs: ItemCatalogue
    looked_at: set[JobId]
    cancelled: set[JobId] = field(default_factory=set)

    def includes(self, job_id: JobId) -> bool:
        if job_id not in self.looked_at:
            self.looked_at.add(job_id)
            if self.jobs.job(job_id).state is JobState.CANCELLED:
                self.cancelled.add(job_id)
        return job_id not in self.cancelled

    def look_again(self) -> None:
        self.looked_at.clear()


@dataclass(slots=True)
class BatchDelivery:
    """Carries one batch of due items, of one job or several, to one destination.

    `sent_is_held` is set when the asked level is SENT: then a receipt ends an item.
    After `stopping` is set no further instance is begun.
    """

    source: Source
    origin: Origin
    destination: Destination
    jobs: ItemCatalogue
    policy: RetryPolicy
    breaker: CircuitBreaker
    clock: Clock
    stopping: threading.Event
    sent_is_held: bool
    #: Of a destination that takes several deliveries at once.
    gate: LaneGate | None = None
    presence: Presence = field(default_factory=Presence)
    #: Seconds spent on opening and parsing files before they were sent, so far.
    read_s: float = 0.0
    _pending: list[Outcome] = field(default_factory=list)
    _noted: set[int] = field(default_factory=set)
    #: What reading files found, by item, until it is written with the item's outcome.
    _found: dict[int, ScannedEntry] = field(default_factory=dict)
    #: Whose item it is.
    _job_of: dict[int, Job] = field(default_factory=dict)
    _wanted: _WantedJobs = field(init=False)
    _written_at: float = 0.0
    #: An association was lost.
    _is_lost: bool = False

    def run(self, batch: Sequence[tuple[Job, Sequence[Item]]]) -> None:
        """Deliver the items of these jobs; each has an outcome afterwards, or is still due."""
        self._written_at = self.clock.monotonic()
        self._job_of = {item.item_id: job for job, items in batch for item in items}
        self._wanted = _WantedJobs(self.jobs, {job.job_id for job, _items in batch})
        due = self._without_unfit([item for _job, items in batch for item in items])
        try:
            if due and self.breaker.is_open:
                # Not a failure of its own: that would keep the destination alone for ever.
                self._destination_failed(due, self.breaker.refusal())
                return
            due = self._without_present(due)
            if due:
                due = travelling_together(due)
                self._deliver(due)
        except AssociationLostError as error:
            _log.warning("%s: association lost", self.destination.name)
            self.presence.forget(self._job_of.values())
            if not self._is_lost:
                # No instance was in flight. Without an attempt for each, this would go on for ever.
                self.breaker.failed(error)
                away = DestinationUnreachableError(error.message, hint=error.hint)
                self._destination_failed(due, away)
            # Else its instance knows, and what is still due is taken up by the next batch.
        except (DestinationUnreachableError, DestinationStoppedError) as error:
            self.breaker.failed(error)
            self.presence.forget(self._job_of.values())
            self._destination_failed(due, error)
        finally:
            self._write()

    def _without_unfit(self, items: Sequence[Item]) -> list[Item]:
        """Fail at once what this destination can never take: opaque files at a PACS."""
        fit: list[Item] = []
        for item in items:
            if item.plan.opaque_reason and not self.destination.takes_opaque_files:
                self._note(
                    item,
                    ItemState.FAILED,
                    code="not_dicom",
                    message=f"this file cannot go to a PACS: {item.plan.opaque_reason}",
                    hint="A folder or vault destination keeps such files byte for byte.",
                )
            else:
                fit.append(item)
        return fit

    def _without_present(self, items: Sequence[Item]) -> list[Item]:
        """Leave out what the peer already has; it goes on to verification without a delivery.

        Not asked when receipts are all that is wanted: what a peer lists is not a receipt.
        An instance whose content changed, or whose copy was found damaged, is sent again whatever
        the peer lists. What only an index named that may err is looked at first.
        """
        if self.sent_is_held or not items or not isinstance(self.destination, Listable):
            return list(items)
        there = {
            job: self.presence.instances(self.destination, job)
            for job in dict.fromkeys(self._job_of[item.item_id] for item in items)
        }
        absent: list[Item] = []
        present: list[Item] = []
        for item in items:
            uid = item.plan.identity.sop_instance_uid
            is_there = uid in there[self._job_of[item.item_id]]
            is_other = item.plan.earlier_version_there or item.code == Finding.DAMAGED
            (present if is_there and not is_other else absent).append(item)
        for item in self._confirmed(present):
            self._note(item, ItemState.SENT)
        return absent

    def _confirmed(self, items: Sequence[Item]) -> Iterator[Item]:
        """Yield the items that are what was planned, as far as their source leaves any doubt."""
        doubted: dict[str, Item] = {}
        index_may_err = isinstance(self.source, IndexMayErr) and self.source.index_may_err
        for item in items:
            if index_may_err and not (item.plan.kind.is_known or item.plan.opaque_reason):
                doubted[item.plan.entry.locator] = item
            else:
                yield item
        if doubted:
            for item, file in self._files(doubted, set()):
                if file is not None:
                    yield item

    def _deliver(self, items: Sequence[Item]) -> None:
        kinds = {item.plan.kind for item in items if item.plan.kind.is_known}
        by_locator = {item.plan.entry.locator: item for item in items}
        files = Files(len(by_locator), self._files(by_locator, kinds))

        def open_delivery() -> Delivery:
            # Files that come meanwhile add their kinds; a copy is made at once.
            return self.destination.open(sorted(list(kinds)), self.origin)  # noqa: C414

        with closing(files):
            if not kinds:
                # An index did not tell; the first file does, which mostly is like the others.
                files.look_ahead()
            if self.gate is not None:
                self._deliver_in_lanes(Lanes(open_delivery, self.gate, self.stopping), files)
                return
            with open_delivery() as delivery:
                for delivered in deliver_one_by_one(delivery, files, self.stopping):
                    self._settle(delivered)
                    self._write_now_and_then(delivery)
                self._flush_and_write(delivery)

    def _deliver_in_lanes(self, lanes: Lanes[Item], files: Files[Item]) -> None:
        """Deliver to a destination whose receipts stand for themselves, without a flush."""
        try:
            for delivered in lanes.deliver(files):
                self._settle(delivered)
                self._write_now_and_then(None)
        finally:
            # Where this ended early: what the peer took meanwhile must be known.
            for delivered in lanes.unheard():
                self._settle(delivered)

    def _files(
        self, by_locator: Mapping[str, Item], kinds: set[InstanceKind]
    ) -> Generator[tuple[Item, InstanceFile | None]]:
        """Open the items' files: an answer for each, without a file where there is none to send.

        What kinds they are is added to `kinds`.
        """
        began = self.clock.monotonic()
        entries = [item.plan.entry for item in by_locator.values()]
        for answer in self.source.read(entries, kept=KEPT_FILES):
            item = by_locator[answer.entry.locator]
            opened: InstanceFile | UnreadableEntry | None = None
            if self._wanted.includes(self._job_of[item.item_id].job_id):
                examined = examine_planned(item.plan, answer)
                opened = examined.file
                if examined.found is not None:
                    self._found[item.item_id] = examined.found
            self.read_s += self.clock.monotonic() - began
            if isinstance(opened, UnreadableEntry):
                self._note(item, ItemState.UNREADABLE, code=opened.code, message=opened.message)
                opened = None
            elif opened is not None and opened.header is not None:
                kinds.add(opened.header.kind)
            yield item, opened
            began = self.clock.monotonic()

    def _settle(self, delivered: Delivered[Item]) -> None:
        """Note what came of one file."""
        item, came = delivered.entry, delivered.came
        if isinstance(came, Receipt):
            self.breaker.succeeded()
            self._received(item, delivered.file, came)
        elif isinstance(came, EntryUnreadableError):
            self._note(item, ItemState.UNREADABLE, code=came.code, message=came.message)
        elif isinstance(came, InstanceDeferredError):
            self.breaker.succeeded()
            self._attempt_failed(item, came, status=came.status)
        elif isinstance(came, InstanceRefusedError):
            if not isinstance(came, InstanceUnsendableError):
                self.breaker.succeeded()
            self._note(
                item,
                ItemState.FAILED,
                code=came.code,
                status=came.status,
                message=came.message,
                hint=came.hint,
            )
        elif isinstance(came, AssociationLostError):
            # What was in flight is unknown; only these instances count an attempt. Several tell
            # of the same event.
            if not self._is_lost:
                self.breaker.failed(came)
                self._is_lost = True
            self._attempt_failed(item, after_loss(item, came))
        elif not isinstance(came, DestinationUnreachableError | DestinationStoppedError):
            raise came

    def _received(self, item: Item, file: InstanceFile, receipt: Receipt) -> None:
        flaws = file.header.flaws if file.header is not None else (item.plan.opaque_reason,)
        code, message = "", receipt.warning
        if receipt.transcoding and not message:
            code, message = "transcoded", receipt.transcoding
        elif flaws and not message:
            code, message = "flawed", f"stored as it is, but: {flaws[0]}"
        elif message:
            code = "stored_with_warning"
        if item.plan.earlier_version_there and not self.destination.keeps_versions:
            code = "changed_at_source"
            message = "sent again because it changed; a PACS may keep the version it had"
        if receipt.transcoding and code != "transcoded":
            message = f"{message}; it has been {receipt.transcoding}"
        if self.sent_is_held and receipt.already_there and not self.destination.keeps_versions:
            # It kept what it had (0111): that is no receipt for our bytes.
            self._note(
                item,
                ItemState.FAILED,
                code="duplicate",
                status=receipt.status,
                message=message,
                hint="Ask for the level `complete`, which looks at what the destination has.",
            )
            return
        self._note(
            item,
            ItemState.HELD if self.sent_is_held else ItemState.SENT,
            code=code,
            status=receipt.status,
            message=message,
            hint=receipt.hint if code == "stored_with_warning" else "",
            receipt=receipt,
        )

    def _destination_failed(self, due: Sequence[Item], error: DestinationError) -> None:
        """Count an attempt for everything that was due: none of it could be delivered."""
        _log.warning("%s: %s", self.destination.name, error.code)
        status = error.status if isinstance(error, DestinationStoppedError) else ""
        for item in due:
            if item.item_id not in self._noted:
                self._attempt_failed(item, error, status=status)

    def _attempt_failed(self, item: Item, error: DcmvaultError, *, status: str = "") -> None:
        again = error.retry is Retry.LATER and item.attempts + 1 < self.policy.attempts
        self._note(
            item,
            ItemState.WAITING if again else ItemState.FAILED,
            code=error.code,
            status=status,
            message=error.message,
            hint=error.hint,
        )

    def _note(
        self,
        item: Item,
        state: ItemState,
        *,
        code: str = "",
        status: str = "",
        message: str = "",
        hint: str = "",
        receipt: Receipt | None = None,
    ) -> None:
        self._noted.add(item.item_id)
        self._pending.append(
            Outcome(
                item.item_id,
                state,
                item.attempts + 1,
                code,
                status,
                message,
                hint,
                receipt,
                self._found.pop(item.item_id, None),
            )
        )

    def _write_now_and_then(self, delivery: Delivery | None) -> None:
        if self.clock.monotonic() - self._written_at >= self.destination.flush_interval_s:
            if delivery is None:
                self._write()
            else:
                self._flush_and_write(delivery)
            self._wanted.look_again()

    def _flush_and_write(self, delivery: Delivery) -> None:
        try:
            shared_bytes = delivery.flush()
        except DestinationError:
            # Not durable, so not sent: they count as failed with the rest of the batch.
            lost = {outcome.item_id for outcome in self._pending if outcome.receipt is not None}
            self._pending = [o for o in self._pending if o.item_id not in lost]
            self._noted -= lost
            raise
        _count_shared(self._pending, shared_bytes)
        self._write()

    def _write(self) -> None:
        if self._pending:
            by_job: dict[JobId, list[Outcome]] = defaultdict(list)
            for outcome in self._pending:
                by_job[self._job_of[outcome.item_id].job_id].append(outcome)
            with self.jobs.together():
                for job_id, outcomes in by_job.items():
                    self.jobs.record_outcomes(job_id, outcomes)
            self._pending = []
        self._written_at = self.clock.monotonic()


def _count_shared(pending: list[Outcome], shared_bytes: int) -> None:
    """Count what no receipt did (packs, indexes) with the last receipt of the flush."""
    for number in reversed(range(len(pending))):
        receipt = pending[number].receipt
        if shared_bytes and receipt is not None:
            moved = receipt.transferred_bytes + shared_bytes
            receipt = replace(receipt, transferred_bytes=moved)
            pending[number] = replace(pending[number], receipt=receipt)
            break
