"""A small world for catalogues: files at a source, runs that plan, send and verify them."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

from dcmvault.model.evidence import Finding, Level, Verification
from dcmvault.model.identifiers import DestinationId, RunId, SourceId
from dcmvault.model.instance import (
    Fingerprint,
    InstanceEntry,
    InstanceHeader,
    InstanceIdentity,
    ScannedEntry,
    SeriesAttributes,
    StudyAttributes,
    UnreadableEntry,
)
from dcmvault.model.job import ItemState, Job, JobState
from dcmvault.model.plan import (
    DestinationRequest,
    PlanItem,
    PlannedJob,
    RunKind,
    RunRequest,
    Strategy,
)
from dcmvault.model.receipt import Receipt
from dcmvault.model.report import RunState
from dcmvault.ports.alerts import AlertBook
from dcmvault.ports.catalogue import (
    Item,
    JobCatalogue,
    Outcome,
    PlanCatalogue,
    RunCatalogue,
    ScanCounts,
    SnapshotWitness,
    SourceCatalogue,
)
from dcmvault.ports.deletion import DeletionCatalogue
from dcmvault.ports.exclusions import ExclusionBook
from dcmvault.ports.holdings import HoldingCatalogue
from dcmvault.ports.live import LiveCatalogue, SlowedBook
from dcmvault.ports.overview import OverviewCatalogue
from dcmvault.ports.reverification import ReverificationCatalogue
from dcmvault.ports.samples import SampleBook, WorkFigures
from dcmvault.ports.signs import SignBook
from dcmvault.ports.statistics import StatisticsCatalogue
from dcmvault.ports.status import StatusCatalogue
from dcmvault.ports.strategy import LessonBook, RouteBook, StudyFactsCatalogue
from dcmvault.ports.study_details import StudyDetails
from dcmvault.ports.study_matrix import StudyMatrix, ViewBook
from dcmvault.testing.catalogue_of_dashboard import DashboardCatalogue

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
START = datetime(2026, 1, 31, 2, 0, tzinfo=UTC)


class ObservingCatalogue(DashboardCatalogue, Protocol):
    """What a catalogue knows beside the flow: of studies, of people, of the work itself."""

    @property
    def study_facts(self) -> StudyFactsCatalogue:
        """What rules ask of studies."""
        ...

    @property
    def lessons(self) -> LessonBook:
        """What people did to studies."""
        ...

    @property
    def routes(self) -> RouteBook:
        """Where studies went."""
        ...

    @property
    def alerts(self) -> AlertBook:
        """Alerts."""
        ...

    @property
    def samples(self) -> SampleBook:
        """What was measured."""
        ...

    @property
    def signs(self) -> SignBook:
        """What happened to sources."""
        ...

    @property
    def matrix(self) -> StudyMatrix:
        """Studies and their copies, counted."""
        ...

    @property
    def details(self) -> StudyDetails:
        """Single studies."""
        ...

    @property
    def views(self) -> ViewBook:
        """Saved views."""
        ...

    @property
    def exclusions(self) -> ExclusionBook:
        """Studies that are left out."""
        ...

    @property
    def work(self) -> WorkFigures:
        """What is left to be done."""
        ...

    @property
    def overview(self) -> OverviewCatalogue:
        """Counts and strips."""
        ...

    @property
    def live(self) -> LiveCatalogue:
        """What goes on now."""
        ...

    @property
    def slowed(self) -> SlowedBook:
        """Limits for a while."""
        ...


class OpenedCatalogue(ObservingCatalogue, Protocol):
    """What opening a catalogue gives: its narrow ports, and a way to close it."""

    @property
    def sources(self) -> SourceCatalogue:
        """Sources and passes."""
        ...

    @property
    def plans(self) -> PlanCatalogue:
        """What is due."""
        ...

    @property
    def jobs(self) -> JobCatalogue:
        """Jobs and items."""
        ...

    @property
    def runs(self) -> RunCatalogue:
        """Runs."""
        ...

    @property
    def status(self) -> StatusCatalogue:
        """Status."""
        ...

    @property
    def holdings(self) -> HoldingCatalogue:
        """What is held by evidence."""
        ...

    @property
    def reverification(self) -> ReverificationCatalogue:
        """Ages of evidence."""
        ...

    @property
    def deletion(self) -> DeletionCatalogue:
        """Facts for whoever wants to delete originals."""
        ...

    @property
    def statistics(self) -> StatisticsCatalogue:
        """What many runs did."""
        ...

    @property
    def snapshots(self) -> SnapshotWitness:
        """Snapshots."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


def digest(content: str) -> bytes:
    """Return the SHA-256 that stands for a file with this content."""
    return hashlib.sha256(content.encode()).digest()


def entry(locator: str, content: str = "1") -> InstanceEntry:
    """Make an entry whose fingerprint follows from its content."""
    number = int.from_bytes(digest(content)[:6], "big")
    # An inode beyond 63 bits: some file systems have them.
    return InstanceEntry(locator, Fingerprint(1000 + number % 1000, number, (1 << 63) + number))


def header(study: int, series: int, instance: int, **attributes: str) -> InstanceHeader:
    """Make the header of an instance named by three numbers."""
    return InstanceHeader(
        sop_class_uid=CT_IMAGE_STORAGE,
        sop_instance_uid=f"2.25.{study}.{series}.{instance}",
        study_instance_uid=f"2.25.{study}",
        series_instance_uid=f"2.25.{study}.{series}",
        transfer_syntax_uid=EXPLICIT_VR_LITTLE_ENDIAN,
        study=StudyAttributes(patient_name="Doe^Jane", study_date="20260130", **attributes),
        series=SeriesAttributes(modality="CT", series_number=str(series)),
        instance_number=str(instance),
        data_set_start=400,
        data_set_end=1000,
    )


def told(
    study: int, series: int, instance: int, *, sop_class_uid: str = "", **attributes: str
) -> InstanceHeader:
    """Make what an index tells of an instance named by three numbers: these attributes, no more."""
    return header(study, series, instance)._replace(
        sop_class_uid=sop_class_uid,
        transfer_syntax_uid="",
        study=StudyAttributes(**attributes),
        series=SeriesAttributes(),
        data_set_start=0,
        data_set_end=0,
    )


def scanned(
    locator: str, content: str, head: InstanceHeader, *, compared: bool = False
) -> ScannedEntry:
    """Make what a pass learns about a file; `compared` adds its digest."""
    return ScannedEntry(
        entry(locator, content), head, file_sha256=digest(content) if compared else b""
    )


def unreadable(locator: str, code: str = "unreadable") -> ScannedEntry:
    """Make what a pass learns about a file that cannot be read."""
    what = InstanceEntry(locator, Fingerprint(0, 0, 0))
    return ScannedEntry(what, unreadable=UnreadableEntry(what, code, "permission denied"))


@dataclass(slots=True)
class World:
    """One source and one destination over a catalogue, and the steps of a run as methods.

    The clock advances by a second with every step that needs a time.
    """

    catalogue: OpenedCatalogue
    source_name: str = "/library"
    destination_name: str = "dicom://PACS@peer:104?calling=DCMVAULT"
    now: datetime = START
    keeps_versions: bool = True
    #: Part of the runs' names; worlds over one catalogue need different ones.
    label: str = "first"
    _runs: int = 0

    @property
    def source(self) -> SourceId:
        """The source's id."""
        return self.catalogue.sources.source(self.source_name)

    @property
    def destination(self) -> DestinationId:
        """The destination's id."""
        return self.catalogue.plans.destination(
            self.destination_name, keeps_versions=self.keeps_versions
        )

    def tick(self) -> datetime:
        """Advance the clock."""
        self.now += timedelta(seconds=1)
        return self.now

    def run(
        self, strategy: Strategy = Strategy.INCREMENTAL, kind: RunKind = RunKind.BACKUP
    ) -> RunId:
        """Create a run and start it, whether or not an earlier one ended."""
        self._runs += 1
        run_id = RunId(f"{self.label}-{self._runs:04d}")
        request = RunRequest(
            kind,
            self.source_name,
            # Another one each time: equal requests would be one run.
            (DestinationRequest(self.destination_name), DestinationRequest(run_id)),
            strategy,
        )
        self.catalogue.runs.ask_for_run(run_id, request, self.tick())
        self.catalogue.runs.set_run_state(run_id, RunState.PLANNING, self.tick())
        return run_id

    def scan(
        self,
        run_id: RunId,
        listed: Iterable[ScannedEntry],
        *,
        believe_absence: bool = True,
    ) -> ScanCounts:
        """Make a pass over a source that lists these entries; only what is new is recorded."""
        listed = list(listed)
        scan_pass = self.catalogue.sources.scan(self.source, run_id)
        fresh = {
            entry.locator
            for entry, before in scan_pass.news([one.entry for one in listed]).others
            if before is None or before.unreadable or before.entry.fingerprint != entry.fingerprint
        }
        scan_pass.record([one for one in listed if one.entry.locator in fresh])
        return scan_pass.finish(believe_absence=believe_absence)

    def due(
        self,
        run_id: RunId,
        strategy: Strategy = Strategy.INCREMENTAL,
        level: Level = Level.COMPLETE,
    ) -> list[PlanItem]:
        """List what is due at the destination."""
        return list(
            self.catalogue.plans.due(
                self.source, self.destination, strategy=strategy, level=level, run_id=run_id
            )
        )

    def present_versions(self) -> int:
        """Count the versions that the source has."""
        return len(list(self.catalogue.plans.expected(self.source, self.destination)))

    def plan(
        self, run_id: RunId, items: Sequence[PlanItem], level: Level = Level.COMPLETE
    ) -> list[Job]:
        """Write one job per series, and the plan."""
        by_series: dict[tuple[str, str], list[PlanItem]] = {}
        for item in items:
            identity = item.identity
            key = (identity.study_instance_uid, identity.series_instance_uid)
            by_series.setdefault(key, []).append(item)
        jobs = self.catalogue.plans.add_jobs(
            run_id,
            self.destination,
            [PlannedJob(*key, tuple(some)) for key, some in by_series.items()],
        )
        plans = self.catalogue.plans
        held = plans.held_versions(self.source, self.destination, level)
        held -= sum(item.reason in ("full", "differential") for item in items)
        self.catalogue.runs.record_plan(
            run_id,
            counts=None,
            already_held={self.destination: held},
            levels={self.destination: level},
            warnings=(),
        )
        self.catalogue.runs.set_run_state(run_id, RunState.RUNNING, self.tick())
        return jobs

    def receipt(self, item: Item, content: str) -> Receipt:
        """Make the destination's claim for an item."""
        return Receipt(
            locator=item.plan.entry.locator,
            fingerprint=item.plan.entry.fingerprint,
            file_sha256=digest(content),
            status="0000",
            object_key=f"key/{content}",
            transferred_bytes=10,
            received_at=self.tick(),
        )

    def send(self, job: Job, contents: Mapping[str, str]) -> list[Item]:
        """Deliver every due item; `contents` says what the files hold. Return the sent items."""
        jobs = self.catalogue.jobs
        if job.state is JobState.PENDING:
            jobs.set_job_state(job.job_id, JobState.IN_PROGRESS, attempt=1)
        due = jobs.items(job.job_id, frozenset({ItemState.DUE}), 1000)
        jobs.record_outcomes(
            job.job_id,
            [
                Outcome(
                    item.item_id,
                    ItemState.SENT,
                    1,
                    receipt=self.receipt(item, contents[item.plan.entry.locator]),
                )
                for item in due
            ],
        )
        return jobs.sent_items(job.job_id)

    def verify(
        self,
        job: Job,
        items: Sequence[Item],
        findings: Mapping[str, Finding] | None = None,
        level: Level = Level.COMPLETE,
    ) -> None:
        """Record a verification of these items; HELD unless `findings` says else by locator."""
        found = self.verification(job, items, findings, level)
        self.catalogue.jobs.record_verification(job.job_id, items, found)

    def verification(
        self,
        job: Job,
        items: Sequence[Item],
        findings: Mapping[str, Finding] | None = None,
        level: Level = Level.COMPLETE,
    ) -> Verification:
        """Make the verification that `verify` records."""
        by_locator = findings or {}
        expected = self.catalogue.jobs.expected_study(job.job_id, items)
        found = {one.version_id: Finding.HELD for one in expected.instances}
        for item in items:
            locator = item.plan.entry.locator
            found[item.plan.version_id] = by_locator.get(locator, Finding.HELD)
        return Verification(level, job.study_instance_uid, self.tick(), found, {"listed": 1})

    def backup(
        self,
        listed: Sequence[ScannedEntry],
        contents: Mapping[str, str],
        *,
        strategy: Strategy = Strategy.INCREMENTAL,
        level: Level = Level.COMPLETE,
    ) -> RunId:
        """Make a whole run in which all goes well."""
        run_id = self.run(strategy)
        self.scan(run_id, listed)
        for job in self.plan(run_id, self.due(run_id, strategy, level), level):
            self.verify(job, self.send(job, contents), level=level)
            self.catalogue.jobs.set_job_state(job.job_id, JobState.VERIFYING)
            self.catalogue.jobs.set_job_state(job.job_id, JobState.COMPLETED)
        self.catalogue.runs.set_run_state(run_id, RunState.FINISHED, self.tick())
        return run_id


def identity(study: int, series: int, instance: int) -> InstanceIdentity:
    """Return the identity of the instance named by three numbers."""
    return header(study, series, instance).identity


def with_digest(one: ScannedEntry, content: str) -> ScannedEntry:
    """Add the digest that stands for `content`."""
    return replace(one, file_sha256=digest(content))


def reasons(items: Sequence[PlanItem]) -> list[tuple[str, str, bool]]:
    """Return locator, reason and `held` of each item."""
    return [(item.entry.locator, item.reason, item.held) for item in items]


class CatalogueCases(ABC):
    """Every suite opens the catalogue that its subclass provides."""

    @abstractmethod
    def open_catalogue(self) -> OpenedCatalogue:
        """Open the catalogue of this test; the same one each time within one test."""

    def world(self) -> World:
        """Return a world over the catalogue."""
        return World(self.open_catalogue())
