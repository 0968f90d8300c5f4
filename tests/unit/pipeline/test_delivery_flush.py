"""What could not be made durable was not sent, whatever `put` returned."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from dcmvault.config.sections import FolderDestinationSection, FolderSourceSection
from dcmvault.destinations.folder import FolderDestination
from dcmvault.dicom.part10 import scan
from dcmvault.errors import DestinationStoppedError
from dcmvault.model.identifiers import DestinationId, JobId, RunId, VersionId
from dcmvault.model.job import ItemState, Job, JobState, Priority
from dcmvault.model.plan import PlanItem
from dcmvault.object_stores.local import LocalStore
from dcmvault.pipeline.delivery import BatchDelivery
from dcmvault.pipeline.retry import CircuitBreaker, RetryPolicy
from dcmvault.ports.catalogue import Item, ItemCatalogue, Outcome
from dcmvault.sources.folder import FolderSource
from dcmvault.testing.clock import FakeClock
from dcmvault.testing.dicom_files import make_study


class _Written:
    """The one method of a job catalogue that a delivery calls."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    def record_outcomes(self, _job_id: JobId, outcomes: Sequence[Outcome]) -> None:
        self.outcomes += outcomes


class _NoManifests(LocalStore):
    """A store on a disk that becomes full just when the manifest is written."""

    def put(self, key: str, chunks: object) -> int:
        raise DestinationStoppedError(f"no space left for {key}")


def test_receipts_without_a_flush_are_not_recorded_as_sent(tmp_path: Path) -> None:
    make_study(tmp_path / "source", instances=3)
    clock, written = FakeClock(), _Written()
    source = FolderSource(FolderSourceSection(path=tmp_path / "source"))
    section = FolderDestinationSection(path=tmp_path / "copies")
    items = []
    for study in source.studies():
        for number, entry in enumerate(source.entries(study)):
            header = scan(tmp_path / "source" / entry.locator)
            plan = PlanItem(VersionId(number), entry, header.identity, header.kind, "new")
            items.append(Item(number, plan, ItemState.DUE, 0))
    BatchDelivery(
        job=Job(
            JobId("j"),
            RunId("r"),
            DestinationId(1),
            "",
            "",
            JobState.IN_PROGRESS,
            Priority.NORMAL,
            3,
            3,
            1,
        ),
        source=source,
        destination=FolderDestination(section, _NoManifests(section.path, clock), clock),
        jobs=cast(ItemCatalogue, written),
        policy=RetryPolicy(),
        breaker=CircuitBreaker(clock),
        clock=clock,
        stopping=threading.Event(),
        sent_is_held=False,
    ).run(items)
    assert [outcome.state for outcome in written.outcomes] == [ItemState.FAILED] * 3
    assert {outcome.code for outcome in written.outcomes} == {"destination_stopped"}
