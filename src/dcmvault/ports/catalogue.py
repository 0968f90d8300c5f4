"""What we know: sources, what they hold, what destinations hold, and what runs did.

Several narrow ports over one catalogue; ask for the narrowest. Every method is one transaction:
durable on return, nothing on error. Safe for several threads; rows are values, never live objects.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from dcmvault.model.evidence import ExpectedStudy, Level, Verification
from dcmvault.model.identifiers import DestinationId, JobId, RunId, SourceId, VersionId
from dcmvault.model.instance import InstanceEntry, InstanceIdentity, ScannedEntry
from dcmvault.model.job import ItemState, Job, JobState, Priority
from dcmvault.model.plan import PlanItem, PlannedJob, RunRequest, Strategy
from dcmvault.model.receipt import Receipt
from dcmvault.model.report import RunReport, RunState
from dcmvault.model.selection import EVERYTHING, Selection
from dcmvault.model.snapshot import SnapshotRef


class KnownEntry(NamedTuple):
    """An entry as it was last scanned. `version_id` is None for what is not DICOM or unreadable."""

    entry: InstanceEntry
    version_id: VersionId | None
    #: It could not be read then: worth reading again though the fingerprint is the same.
    unreadable: bool = False


@dataclass(frozen=True, slots=True)
class News:
    """What is not known of entries that a source lists."""

    unchanged: int  #: hold what they were last known to hold, by their fingerprints
    #: The rest, in order, each with what was known of it.
    others: Sequence[tuple[InstanceEntry, KnownEntry | None]]


@dataclass(frozen=True, slots=True)
class KnownVersion:
    """A content that some present entry has under an identity."""

    version_id: VersionId
    entry: InstanceEntry
    source_id: SourceId
    file_sha256: bytes  #: empty until read once
    data_set_digest: bytes = b""  #: empty unless two contents were compared
    source: str = ""  #: canonical address of the entry's source


@dataclass(frozen=True, slots=True)
class ScanCounts:
    """What one pass over a source saw."""

    instances: int  #: entries that are or claim to be DICOM, unreadable ones included
    new: int
    changed: int
    gone: int
    not_dicom: int
    unreadable: int
    #: Instances that were present before this pass.
    known_before: int


class Scan(Protocol):
    """One pass over one source. Unchanged entries cost no write."""

    def news(self, entries: Sequence[InstanceEntry]) -> News:
        """Look up entries by locator; each counts as seen by this pass."""
        ...

    def versions(
        self, identities: Collection[InstanceIdentity]
    ) -> Mapping[InstanceIdentity, list[KnownVersion]]:
        """List versions that present entries of any source have under these identities.

        And those whose data set was digested, though their entries are gone.
        """
        ...

    def set_digest(
        self, version_id: VersionId, file_sha256: bytes, data_set_digest: bytes = b""
    ) -> None:
        """Record a version's digests, read because it had to be compared; known ones stay."""
        ...

    def record(self, scanned: Sequence[ScannedEntry]) -> None:
        """Write down new and changed entries (studies, series, instances, versions).

        An entry whose identity and `file_sha256` equal a known version gets that version; any
        other gets a new one. Opaque entries get a version without identity. What an index told
        (`InstanceHeader.was_scanned`) never takes the place of what is known.
        """
        ...

    def keep_unseen(self, expected: int) -> bool:
        """Count entries from before that were not seen as seen: the source says they are as before.

        Believed only where so many entries are present then, and none of those that were not seen
        is unreadable; else nothing happens, and the answer is False.
        """
        ...

    def finish(
        self,
        *,
        believe_absence: bool,
        bookmark: str = "",
        held_at: Collection[DestinationId] | None = None,
    ) -> ScanCounts:
        """End the pass. Entries not seen are marked gone only if `believe_absence`.

        The `bookmark` is kept instead of the one before. Gone entries keep their versions and
        holdings; nothing is ever deleted here. With `held_at` what all these destinations hold
        (`complete` at least) does not count as gone; what one of them lacks does, and the run
        could not read it (`lost_at_source`).
        """
        ...


class SourceCatalogue(Protocol):
    """Sources and passes over them."""

    def source(self, name: str) -> SourceId:
        """Return the id of the source with this canonical address, made at first sight."""
        ...

    def present_instances(self, source_id: SourceId) -> int:
        """Count the instances that the last believed pass saw."""
        ...

    def bookmark(self, source_id: SourceId) -> str:
        """Return where the source's log stood at its last recorded pass; empty for none."""
        ...

    def present_studies(self, source_id: SourceId) -> Iterator[str]:
        """Yield the Study Instance UIDs of all that is listed there, in order, each once."""
        ...

    def scan(self, source_id: SourceId, run_id: RunId | None) -> Scan:
        """Begin a pass; without a run, it is only looked what a run would find."""
        ...


class PlanCatalogue(Protocol):
    """What is due, and plans written down."""

    def destination(self, name: str, *, keeps_versions: bool | None = None) -> DestinationId:
        """Return the id of the destination with this canonical address, made at first sight.

        Whether it keeps several contents under one identity is written down where it is said.
        Until then it counts as if it did: every content is due, and held by itself only.
        """
        ...

    def due(
        self,
        source_id: SourceId,
        destination_id: DestinationId,
        *,
        strategy: Strategy,
        level: Level,
        run_id: RunId | None,
        selection: Selection = EVERYTHING,
        study_keys: Sequence[int] | None = None,
    ) -> Iterator[PlanItem]:
        """List selected present versions that are due, by study, series, instance number.

        Not held at `level`: always due. Held: due (with `held` set) under FULL, and under
        DIFFERENTIAL if first seen after the last finished FULL run of this source and destination.
        Versions that already are items of `run_id` at this destination are left out. Sent but not
        verified: due with `held` set. Found missing or damaged by a verification: for delivery.
        At a destination that keeps no versions, of those with equal data sets one is delivered: a
        version is left out while another one is held there at `level`, is sent there and present,
        or is due in the same source. Of several that are due it is the one seen first, among those
        that did not fail there; else the one that failed longest ago.
        `conflict` is set on every version but the first seen where several present versions of
        the source share an identity, and where a present version of any source, with other
        content, is held or sent there. `earlier_version_there` where another, no longer present
        version of the identity is held or sent. Opaque files come last, with empty UIDs.
        """
        ...

    def expected(self, source_id: SourceId, destination_id: DestinationId) -> Iterator[PlanItem]:
        """List every present version; `held` is set where one was sent or held at any time.

        At a destination that keeps no versions, of those with equal data sets the one that is there
        is listed, whichever source has or had it.
        """
        ...

    def holds_copies(self, destination_id: DestinationId) -> bool:
        """Say whether any copy, of whatever source, is sent to or held at the destination."""
        ...

    def forget_copies(self, destination_id: DestinationId, study_instance_uid: str) -> None:
        """Know no longer of copies of a study at a destination that was told to forget them.

        An empty UID means files that are no instances.
        """
        ...

    def held_versions(
        self,
        source_id: SourceId,
        destination_id: DestinationId,
        level: Level,
        selection: Selection = EVERYTHING,
    ) -> int:
        """Count distinct selected present versions held at a level, or what stands for them."""
        ...

    def add_jobs(
        self, run_id: RunId, destination_id: DestinationId, jobs: Sequence[PlannedJob]
    ) -> list[Job]:
        """Write jobs with their items; held items start as SENT, conflicts as CONFLICT."""
        ...

    def drop_unstarted_jobs(self, run_id: RunId) -> None:
        """Forget the PENDING jobs of a run whose planning was interrupted."""
        ...


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a job, for the worker."""

    item_id: int
    plan: PlanItem
    state: ItemState
    attempts: int
    #: Code of the last attempt's error in this run; empty before the first.
    code: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one item in a batch; written with its receipt in one transaction.

    `found` is what reading the file found, where the catalogue knew less or something else of it:
    then the entry is recorded as what it is. The item itself stays what was planned.
    """

    item_id: int
    state: ItemState
    attempts: int
    code: str = ""
    status: str = ""
    message: str = ""
    hint: str = ""
    receipt: Receipt | None = None
    found: ScannedEntry | None = None


class ItemCatalogue(Protocol):
    """What delivery needs: a job, its items, and where to write what became of them."""

    def together(self) -> AbstractContextManager[None]:
        """Make what this thread writes inside one transaction: durable when left.

        Undone as a whole by any exception. What is read inside shows what was written before.
        """
        ...

    def job(self, job_id: JobId) -> Job:
        """Return a job; KeyError if there is none."""
        ...

    def set_job_state(self, job_id: JobId, state: JobState, *, attempt: int | None = None) -> None:
        """Move a job along JOB_TRANSITIONS (ValueError otherwise; the same state is a no-op).

        A cancelled job stays cancelled, whatever its worker says late.
        """
        ...

    def items(self, job_id: JobId, states: frozenset[ItemState], limit: int) -> list[Item]:
        """List items in plan order."""
        ...

    def count_items(self, job_id: JobId) -> Mapping[ItemState, int]:
        """Count a job's items by state; states without items are left out."""
        ...

    def record_outcomes(self, job_id: JobId, outcomes: Sequence[Outcome]) -> None:
        """Write a batch: item states, receipts (a version's digest is set from its receipt).

        Items that were cancelled meanwhile stay cancelled; their receipts count all the same.
        """
        ...

    def release_waiting(self, job_id: JobId) -> int:
        """Make WAITING items DUE again; return how many."""
        ...


class EvidenceCatalogue(Protocol):
    """What verification needs: what was claimed of a study, and where to write what was found."""

    def study_settled(self, job_id: JobId) -> bool:
        """Say whether no other job of the same run, study and destination has items to deliver."""
        ...

    def sent_items(self, job_id: JobId) -> list[Item]:
        """List the SENT items of the job's run, study and destination, whichever job has them."""
        ...

    def expected_study(self, job_id: JobId, items: Sequence[Item]) -> ExpectedStudy:
        """Say what the destination should hold of the job's study for these items to be held."""
        ...

    def record_verification(
        self,
        job_id: JobId,
        items: Sequence[Item],
        verification: Verification,
        *,
        lost_are_due: Collection[int] = (),
    ) -> None:
        """Write evidence, holdings and item states (HELD, or FAILED with the reason).

        A MISSING or DAMAGED finding ends the holding; its item is DUE instead of FAILED if its id
        is among `lost_are_due`. UNKNOWN leaves an earlier holding alone and fails the item. Items
        that moved on since they were read are left alone.
        """
        ...


class JobCatalogue(ItemCatalogue, EvidenceCatalogue, Protocol):
    """What a worker needs for a job, from its delivery to its verification."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run as stored."""

    run_id: RunId
    request: RunRequest
    state: RunState
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    planned_at: datetime | None
    #: When another command last asked for the same work since the run last began to plan.
    continued_at: datetime | None


@dataclass(frozen=True, slots=True)
class RunProgress:
    """Live counters of a run, summed over destinations."""

    state: RunState
    items: int
    #: Items that reached an end (held, failed, unreadable, conflict, cancelled).
    settled: int
    sent: int  #: SENT and HELD
    failed: int
    bytes: int
    settled_bytes: int
    scanned: int  #: entries listed so far while planning


class RunBook(Protocol):
    """The lives of runs: asked for, planned, ended."""

    def ask_for_run(self, run_id: RunId, request: RunRequest, now: datetime) -> RunId:
        """Write down a run before it is enqueued, unless one of an equal request is unfinished.

        Then it is noted there that the same work was asked for again (the run plans once more
        before it ends), and its name is returned instead. Two who ask at once get one run.
        """
        ...

    def run(self, run_id: RunId) -> RunRecord:
        """Return a run; KeyError if there is none."""
        ...

    def runs(self, limit: int = 20) -> list[RunRecord]:
        """List runs, newest first."""
        ...

    def set_run_state(self, run_id: RunId, state: RunState, now: datetime) -> None:
        """Move a run; sets `started_at`, `planned_at` (on RUNNING) and `finished_at` on the way.

        A run that ended stays as it ended. PLANNING answers every asking so far: `continued_at`
        is None again.
        """
        ...

    def finish_run(self, run_id: RunId, now: datetime) -> bool:
        """End a run as FINISHED, unless it was asked for again since it last began to plan.

        Then it is left as it is, and False is returned.
        """
        ...

    def record_plan(
        self,
        run_id: RunId,
        *,
        counts: ScanCounts | None,
        already_held: Mapping[DestinationId, int],
        levels: Mapping[DestinationId, Level],
        warnings: Sequence[str],
    ) -> None:
        """Write what planning found (added up if a run plans more than once)."""
        ...

    def record_closing(
        self,
        run_id: RunId,
        *,
        snapshot_failures: Mapping[DestinationId, tuple[str, str, str]],
        warnings: Sequence[str],
    ) -> None:
        """Write what ending the run found: why destinations took no snapshot, and warnings.

        Failures are (code, message, hint) and take the place of those of an earlier closing;
        warnings are added, each once.
        """
        ...

    def record_error(self, run_id: RunId, code: str, message: str, hint: str) -> None:
        """Write down the error that ended a run."""
        ...


class RunMeter(Protocol):
    """What runs did, while they do it and afterwards."""

    def add_stage_seconds(self, run_id: RunId, seconds: Mapping[str, float]) -> None:
        """Add to the run's seconds by stage."""
        ...

    def set_scanned(self, run_id: RunId, entries: int) -> None:
        """Note how many entries planning has listed, for progress."""
        ...

    def progress(self, run_id: RunId) -> RunProgress:
        """Return live counters, cheaply."""
        ...

    def report(self, run_id: RunId, *, studies: bool = True, items: bool = True) -> RunReport:
        """Assemble the report of a run, finished or not; without `items` no instance is named."""
        ...


class RunJobs(Protocol):
    """The jobs of all runs, for those who look at them and steer."""

    def cancel_items(self, run_id: RunId, job_id: JobId | None = None) -> int:
        """End open jobs and mark what is not delivered yet as CANCELLED; return how many items."""
        ...

    def jobs(self, *, open_only: bool = True, limit: int = 1000) -> list[Job]:
        """List jobs in queue order."""
        ...

    def set_job_priority(self, job_id: JobId, priority: Priority) -> None:
        """Write a job's priority."""
        ...


class RunCatalogue(RunBook, RunMeter, RunJobs, Protocol):
    """Runs, what they did, and their jobs."""


class SnapshotWitness(Protocol):
    """Which snapshots a destination was seen to have: an outside witness of lost ones.

    A destination alone cannot tell that its newest snapshots are gone, or all since a day.
    """

    def record_snapshot(
        self, destination_id: DestinationId, ref: SnapshotRef, run_id: RunId | None = None
    ) -> None:
        """Remember a snapshot, and the run that took it; one that is known is left as it is."""
        ...

    def known_snapshots(self, destination_id: DestinationId) -> list[SnapshotRef]:
        """List the snapshots that should be there, by generation, then by name."""
        ...

    def forget_snapshots(self, destination_id: DestinationId, snapshot_ids: Sequence[str]) -> None:
        """Expect these no longer: they were forgotten on purpose. Unknown ones are left out."""
        ...

    def doubt_copies(
        self, destination_id: DestinationId, snapshot_ids: Sequence[str], run_id: RunId
    ) -> None:
        """Expect these snapshots no longer, which were lost, and believe less in copies there.

        Copies of any source that the run itself did not verify become claims: the next run
        looks for them before it relies on them.
        """
        ...
