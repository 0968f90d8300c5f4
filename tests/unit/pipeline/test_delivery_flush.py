"""What could not be made durable was not sent, whatever `put` returned; moved bytes are counted."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from dcmvault.config.sections import FolderDestinationSection, FolderSourceSection
from dcmvault.destinations.folder import FolderDelivery, FolderDestination
from dcmvault.dicom.part10 import scan
from dcmvault.errors import AssociationLostError, DestinationStoppedError
from dcmvault.i18n import sentence, use_language
from dcmvault.model.identifiers import DestinationId, JobId, RunId, VersionId
from dcmvault.model.instance import InstanceFile, InstanceKind
from dcmvault.model.job import ItemState, Job, JobState, Priority
from dcmvault.model.plan import PlanItem
from dcmvault.model.receipt import Receipt
from dcmvault.model.snapshot import Origin
from dcmvault.object_stores.local import LocalStore
from dcmvault.pipeline.delivery import BatchDelivery
from dcmvault.pipeline.retry import CircuitBreaker, RetryPolicy
from dcmvault.ports.catalogue import Item, ItemCatalogue, Outcome
from dcmvault.ports.destination import Destination
from dcmvault.sources.folder import FolderSource
from dcmvault.testing.clock import FakeClock
from dcmvault.testing.destination_suite import ORIGIN
from dcmvault.testing.dicom_files import make_study


class _Written:
    """The three methods of a job catalogue that a delivery calls."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self.batches: list[list[Outcome]] = []

    @property
    def outcomes(self) -> list[Outcome]:
        return [outcome for batch in self.batches for outcome in batch]

    def together(self) -> AbstractContextManager[None]:
        return nullcontext()

    def record_outcomes(self, _job_id: JobId, outcomes: Sequence[Outcome]) -> None:
        self.batches.append(list(outcomes))

    def job(self, _job_id: JobId) -> Job:
        return self._job


class _NoManifests(LocalStore):
    """A store on a disk that becomes full just when the manifest is written."""

    def put(self, key: str, chunks: object) -> int:
        raise DestinationStoppedError(f"no space left for {key}")


class _PackingDelivery(FolderDelivery):
    """Moves everything when it is flushed, as a vault does; each put takes four seconds."""

    clock: FakeClock
    waiting = 0

    def put(self, file: InstanceFile) -> Receipt:
        receipt = super().put(file)
        self.clock.advance(4)
        self.waiting += 1000
        return receipt

    def flush(self) -> int:
        super().flush()
        moved, self.waiting = self.waiting, 0
        return moved


class _Packing(FolderDestination):
    """Remembers from where it was opened, and how often it was flushed."""

    flush_interval_s = 15.0
    origins: tuple[Origin, ...] = ()

    def open(self, kinds: Collection[InstanceKind], origin: Origin) -> FolderDelivery:
        super().open(kinds, origin)
        self.origins += (origin,)
        delivery = _PackingDelivery(self._store, self._clock)
        delivery.clock = cast(FakeClock, self._clock)
        return delivery


class _Ending(FolderDestination):
    """Loses the association before anything is sent."""

    def open(self, kinds: Collection[InstanceKind], origin: Origin) -> FolderDelivery:
        raise AssociationLostError("gone")


class _TellingDelivery(FolderDelivery):
    """Says of each file what it was told to say."""

    receipt: dict[str, str]

    def put(self, file: InstanceFile) -> Receipt:
        return replace(super().put(file), **self.receipt)  # type: ignore[arg-type]


class _Telling(FolderDestination):
    keeps_versions = False
    receipt: dict[str, str]

    def open(self, kinds: Collection[InstanceKind], origin: Origin) -> FolderDelivery:
        super().open(kinds, origin)
        delivery = _TellingDelivery(self._store, self._clock)
        delivery.receipt = self.receipt
        return delivery


def _deliver(
    folder: Path,
    destination: Destination,
    clock: FakeClock,
    instances: int,
    *,
    changed: bool = False,
) -> _Written:
    make_study(folder / "source", instances=instances)
    source = FolderSource(FolderSourceSection(path=folder / "source"))
    items = []
    for study in source.studies():
        for number, entry in enumerate(source.entries(study)):
            header = scan(folder / "source" / entry.locator)
            plan = PlanItem(VersionId(number), entry, header.identity, header.kind, "new")
            plan = replace(plan, earlier_version_there=changed)
            items.append(Item(number, plan, ItemState.DUE, 0))
    job = Job(
        JobId("j"),
        RunId("r"),
        DestinationId(1),
        "",
        "",
        JobState.IN_PROGRESS,
        Priority.NORMAL,
        instances,
        instances,
        1,
    )
    written = _Written(job)
    BatchDelivery(
        source=source,
        origin=ORIGIN,
        destination=destination,
        jobs=cast(ItemCatalogue, written),
        policy=RetryPolicy(),
        breaker=CircuitBreaker(clock),
        clock=clock,
        stopping=threading.Event(),
        sent_is_held=False,
    ).run([(job, items)])
    return written


def _section(folder: Path) -> FolderDestinationSection:
    return FolderDestinationSection(path=folder / "copies")


def test_an_association_lost_over_no_instance_is_an_attempt_for_each(tmp_path: Path) -> None:
    clock, section = FakeClock(), _section(tmp_path)
    written = _deliver(tmp_path, _Ending(section, LocalStore(section.path, clock), clock), clock, 3)
    assert [outcome.state for outcome in written.outcomes] == [ItemState.WAITING] * 3
    assert {outcome.code for outcome in written.outcomes} == {"unreachable"}


def test_receipts_without_a_flush_are_not_recorded_as_sent(tmp_path: Path) -> None:
    clock, section = FakeClock(), _section(tmp_path)
    destination = FolderDestination(section, _NoManifests(section.path, clock), clock)
    written = _deliver(tmp_path, destination, clock, 3)
    assert [outcome.state for outcome in written.outcomes] == [ItemState.FAILED] * 3
    assert {outcome.code for outcome in written.outcomes} == {"destination_stopped"}


def test_outcomes_wait_as_long_as_the_destination_says_and_shared_bytes_are_counted_once(
    tmp_path: Path,
) -> None:
    clock, section = FakeClock(), _section(tmp_path)
    destination = _Packing(section, LocalStore(section.path, clock), clock)
    written = _deliver(tmp_path, destination, clock, 6)
    assert [len(batch) for batch in written.batches] == [4, 2]  # 16 seconds, and the rest
    assert destination.origins == (ORIGIN,)
    receipts = [outcome.receipt for outcome in written.outcomes if outcome.receipt]
    shared = [r.transferred_bytes - r.fingerprint.size for r in receipts]
    assert shared == [0, 0, 0, 4000, 0, 2000]


@pytest.mark.parametrize(
    ("warning", "changed", "code", "message"),
    [
        ("", False, "transcoded", "{}"),
        ("B000: coercion", False, "stored_with_warning", "B000: coercion; it has been {}"),
        (
            "",
            True,
            "changed_at_source",
            "sent again because it changed; a PACS may keep the version it had; it has been {}",
        ),
    ],
)
def test_what_was_transcoded_is_told_beside_what_else_is_to_be_told(
    tmp_path: Path, warning: str, changed: bool, code: str, message: str
) -> None:
    transcoding = "sent as A instead of B, without loss"
    clock, section = FakeClock(), _section(tmp_path)
    destination = _Telling(section, LocalStore(section.path, clock), clock)
    destination.receipt = {"warning": warning, "transcoding": transcoding}
    (outcome,) = _deliver(tmp_path, destination, clock, 1, changed=changed).outcomes
    assert (outcome.code, outcome.message) == (code, message.format(transcoding))
    use_language("pt-BR")
    try:
        assert "instead of" not in sentence(outcome.message)
    finally:
        use_language("en")
