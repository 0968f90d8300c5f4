"""One opened state folder: what is known, what is to be done, and the right to do it."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

from dcmvault.app.at_destinations import Probed
from dcmvault.app.classifying import classifier_of
from dcmvault.app.reach import Reach, name_of_host
from dcmvault.app.wiring.audit import audit_journal
from dcmvault.app.wiring.clock import SystemClock
from dcmvault.app.wiring.destinations import build_destination
from dcmvault.app.wiring.sources import build_source
from dcmvault.app.wiring.stores import open_vault_at
from dcmvault.app.wiring.together import Together, new_worker_id
from dcmvault.config.addresses import destination_section, source_section
from dcmvault.config.monitoring_section import MonitoringSection
from dcmvault.config.readable import as_source
from dcmvault.config.sections import (
    DestinationSection,
    FolderDestinationSection,
    SourceSection,
    VaultSection,
    VaultSourceSection,
)
from dcmvault.config.settings import Settings
from dcmvault.config.window_rates import rate_table
from dcmvault.errors import DaemonRunningError, StateError
from dcmvault.model.bandwidth import RateTable
from dcmvault.model.identifiers import DestinationId, RunId
from dcmvault.model.job import Priority
from dcmvault.model.plan import RunRequest
from dcmvault.pipeline.association_leases import AssociationLeases
from dcmvault.pipeline.bandwidth import Bandwidth
from dcmvault.pipeline.bandwidth_leases import Leases
from dcmvault.pipeline.classification import Classifier
from dcmvault.pipeline.metered_pacing import MeteredPacing
from dcmvault.pipeline.retry import RetryPolicy
from dcmvault.pipeline.slowing import SlowablePacing, Slowing, slowed_by_address
from dcmvault.pipeline.sudden_change import HoldPolicy
from dcmvault.ports.clock import Clock
from dcmvault.ports.destination import Destination, TakesSeveral
from dcmvault.ports.pacing import Pacing
from dcmvault.ports.queue import RunStages, Worker, WorkQueue
from dcmvault.ports.schedules import HoldState
from dcmvault.ports.source import Source
from dcmvault.telemetry.meter import ByteMeter

if TYPE_CHECKING:
    from types import TracebackType

    from dcmvault.app.monitoring_thread import MonitoringThread
    from dcmvault.app.stages import BackupStages
    from dcmvault.catalogue import Catalogue
    from dcmvault.engine.database import WorkDatabase
    from dcmvault.engine.ownership import Ownership
    from dcmvault.vault.repository import Vault

#: Jobs that run at once for one destination (the number of associations at first).
JOBS_PER_DESTINATION = 2
#: Seconds after which work that a window holds back asks again.
_HELD_BACK_S = 60.0


@dataclass(slots=True)
class Workplace:
    """One opened state folder: its settings, catalogue and queue, and the right to work there.

    At most one process works in an embedded state folder at a time; others enqueue and follow.
    """

    home: Path
    settings: Settings
    clock: Clock
    catalogue: Catalogue
    queue: WorkQueue
    ownership: Ownership
    bandwidth: Bandwidth
    slowing: Slowing
    together: Together
    _work_database: WorkDatabase
    #: Called when there is something to tell; None: whoever looks next tells it.
    heard: Callable[[], None] | None = None
    meter: ByteMeter = field(default_factory=ByteMeter)
    probed: Probed = field(default_factory=Probed)
    _worker: Worker | None = None
    _watch: MonitoringThread | None = None
    _shared: dict[str, Destination] = field(default_factory=dict)
    #: Vaults that are read, by address: opening one takes a quarter of a second.
    _vaults: dict[str, Vault] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    #: Set while the work is being ended: then no store is waited for.
    _ending: threading.Event = field(default_factory=threading.Event)

    @property
    def working(self) -> bool:
        """Whether this process does the work."""
        return self._worker is not None

    def work(self) -> bool:
        """Begin to work here unless another process does; say whether this process works now.

        Raises StateError when the work cannot be written down any more.
        """
        if self._worker is not None and self._worker.is_broken:
            raise StateError(
                "the state of the work cannot be written down",
                hint="check free space and permissions of the state folder, or the database"
                " server; the same command continues where this one stopped",
            )
        if self._worker is None and self.ownership.try_acquire():
            from dcmvault.app.monitoring_thread import MonitoringThread  # noqa: PLC0415 - when needed
            from dcmvault.engine.worker import DurableWorker  # noqa: PLC0415 - when needed

            self._ending.clear()
            stages = self._stages()
            self._worker = DurableWorker(
                self._work_database,
                self._audited(stages),
                concurrency=lambda _destination_id: JOBS_PER_DESTINATION,
                stopping=stages.stopping,
                membership=self.together.membership(
                    stages.at_destinations, lambda: self._worker.running if self._worker else 0
                ),
            )
            try:
                self._worker.start()
            except BaseException:
                self._worker = None
                self.ownership.release()
                raise
            self._watch = MonitoringThread(
                self.home,
                lambda: self.settings,
                self.catalogue,
                self.meter,
                stages.at_destinations,
                self.probed,
                self.clock,
                self.together.others(),
            )
            self._watch.start()
        return self.working

    def rest(self, grace_s: float = 5.0) -> None:
        """Stop working: instances in flight end within `grace_s` seconds, the rest stays queued."""
        if self._worker is not None:
            self._ending.set()
            self._worker.stop(grace_s)
            if self._watch is not None:
                self._watch.stop()
                self._watch = None
            self.bandwidth.give_back()
            self._worker = None
            with self._lock:
                shared = list(self._shared.values())
            for destination in shared:
                if isinstance(destination, TakesSeveral):
                    destination.close_idle()
            self.ownership.release()

    def close(self) -> None:
        """Stop working and close what is open."""
        self.rest()
        self.together.close()
        self._work_database.dispose()
        self.catalogue.close()

    def adopt(self, settings: Settings) -> None:
        """Work by other settings from now on; what is in flight ends as it began.

        Database, listener, retries and a destination's own bandwidth stay as they were when the
        folder was opened.
        """
        with self._lock:
            before = {address: self.destination_section(address) for address in self._shared}
            overall = settings.bandwidth.table()
            is_limited_anew = overall != self.settings.bandwidth.table()
            if is_limited_anew:
                self.bandwidth.limit_all(overall)
            self.settings = settings
            changed = [
                self._shared.pop(address)
                for address, section in before.items()
                if is_limited_anew or self.destination_section(address) != section
            ]
            self._vaults.clear()
        for destination in changed:
            if isinstance(destination, TakesSeveral):
                destination.close_idle()

    def destination(self, address: str) -> Destination:
        """Make the adapter for a destination by its canonical address, with configured options.

        A PACS has one adapter for all its jobs: it counts the associations that are open. So has
        a DICOMweb service, and a vault: it knows what is there.
        """
        with self._lock:
            if address in self._shared:
                return self._shared[address]
            section = self.destination_section(address)
            plans, witness = self.catalogue.plans, self.catalogue.snapshots

            def known_snapshots() -> list[str]:
                known = witness.known_snapshots(plans.destination(address))
                return [ref.snapshot_id for ref in known]

            destination = build_destination(
                section,
                self.clock,
                lambda: plans.holds_copies(plans.destination(address)),
                self.settings.retry,
                known_snapshots,
                self._ending.wait,
                SlowablePacing(
                    self.slowing,
                    address,
                    MeteredPacing(
                        self.meter,
                        address,
                        self.bandwidth.pacing(address, rate_table(self.settings, section)),
                    ),
                ),
            )
            self.together.share(destination, self._ending.is_set)
            if not isinstance(section, FolderDestinationSection):
                self._shared[address] = destination
            return destination

    def destination_section(self, address: str) -> DestinationSection:
        """Return the configured section with this canonical address, else what the address says."""
        for name in self.settings.destinations:
            section = self.settings.destination(name).section
            if section.address == address:
                return section
        return destination_section(address)

    def source(self, address: str) -> Source:
        """Make the adapter for a source by its canonical address, with configured options."""
        known = self.catalogue.sources

        def known_studies() -> Iterator[str]:
            return known.present_studies(known.source(address))

        section = self.source_section(address)
        return build_source(section, self.settings.listener, self.vault, known_studies)

    def source_section(self, address: str) -> SourceSection:
        """Return the configured section with this canonical address, else what the address says.

        A destination is read with its own options, and a vault with the same at any snapshot.
        """
        wanted = source_section(address)
        destinations = [as_source(one.section) for one in self.settings.destinations.values()]
        for section in (*self.settings.sources.values(), *destinations):
            if section.address == address:
                return section
            if (
                isinstance(wanted, VaultSourceSection)
                and isinstance(section, VaultSourceSection)
                and section.location == wanted.location
            ):
                return section.model_copy(update={"snapshot": wanted.snapshot})
        return wanted

    def vault(self, section: VaultSection) -> Vault:
        """Open a vault to be read, once; errors as `wiring.open_vault_at` raises them."""
        with self._lock:
            if section.address not in self._vaults:
                vault = open_vault_at(section, self.clock, self.settings.retry, self._ending.wait)
                self._vaults[section.address] = vault
            return self._vaults[section.address]

    def classifier(self) -> Classifier:
        """Make the classifier that the configuration and the lessons come to now."""
        catalogue = self.catalogue
        return classifier_of(self.settings, catalogue.lessons, catalogue.study_facts)

    def _audited(self, stages: BackupStages) -> RunStages:
        """Have runs written down in the audit journal as they begin and end."""
        from dcmvault.app.audited_stages import AuditedStages  # noqa: PLC0415 - when needed

        journal = audit_journal(self.home, self.settings.audit.rotate_mib)
        return AuditedStages(stages, journal, self.catalogue.statistics)

    def _stages(self) -> BackupStages:
        from dcmvault.app.announcing import Announcer  # noqa: PLC0415 - imported when needed
        from dcmvault.app.around_runs import AroundRuns  # noqa: PLC0415 - imported when needed
        from dcmvault.app.stages import BackupStages  # noqa: PLC0415 - imported when needed

        retry = self.settings.retry

        def source_of(request: RunRequest) -> Source:
            return self.source(request.source)

        def seal(run_id: RunId) -> None:
            from dcmvault.app.manifest_chain import seal_run  # noqa: PLC0415 - when needed

            seal_run(self.home, self.catalogue.manifests, run_id, self.clock.now)

        def heard() -> None:
            if self.heard is not None:
                self.heard()

        stopping = threading.Event()

        # By the settings of the moment: a daemon adopts others.
        def around() -> AroundRuns:
            runs, book = self.catalogue.runs, self.catalogue.notices
            announcer = Announcer(self.settings, book, book, runs, self.catalogue.schedules)
            return AroundRuns(self.settings, runs, announcer, self.clock, heard, stopping)

        return BackupStages(
            sources=self.catalogue.sources,
            plans=self.catalogue.plans,
            jobs=self.catalogue.jobs,
            runs=self.catalogue.runs,
            snapshots=self.catalogue.snapshots,
            reverification=self.catalogue.reverification,
            exclusions=self.catalogue.exclusions,
            facts=self.catalogue.study_facts,
            routes=self.catalogue.routes,
            classifier=self.classifier,
            meter=self.catalogue.statistics,
            open_source=source_of,
            open_destination=self.destination,
            reach=self.together.reach,
            policy=RetryPolicy(retry.attempts, retry.wait_s, retry.jitter, retry.longest_wait_s),
            clock=self.clock,
            seal_run=seal,
            held_back_s=partial(_held_back_s, self.catalogue),
            around=around,
            stopping=stopping,
            signs=self.catalogue.signs,
            hold=lambda: _hold_policy(self.settings.monitoring),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _hold_policy(watched: MonitoringSection) -> HoldPolicy:
    return HoldPolicy(
        watched.hold_changed_percent / 100,
        watched.hold_gone_percent / 100,
        watched.hold_instances,
        timedelta(days=watched.hold_days),
    )


def _held_back_s(catalogue: Catalogue, destination_id: DestinationId, priority: Priority) -> float:
    """Hold back what is not urgent where a window is closed and its queue open for the rest."""
    if priority >= Priority.URGENT:
        return 0.0
    held = catalogue.queue_holds.holds().get(destination_id) is HoldState.HELD
    return _HELD_BACK_S if held else 0.0


@contextmanager
def known_catalogue(home: Path, settings: Settings) -> Iterator[Catalogue | None]:
    """Open the catalogue of a state folder; None if there is none, and none is made.

    Raises StateError when it cannot be used.
    """
    from dcmvault.catalogue import has_catalogue, open_catalogue  # noqa: PLC0415 - when needed

    place = _catalogue_place(home, settings)
    if not has_catalogue(place):
        yield None
        return
    catalogue = open_catalogue(place)
    try:
        yield catalogue
    finally:
        catalogue.close()


def _catalogue_place(home: Path, settings: Settings) -> str:
    return settings.database_url() or str(home / "catalogue.sqlite3")


@contextmanager
def only_daemon(home: Path) -> Iterator[None]:
    """Be the daemon of a state folder; DaemonRunningError where another process is."""
    from dcmvault.engine.ownership import Ownership  # noqa: PLC0415 - imported when needed

    right = Ownership(home, "daemon.lock")
    if not right.try_acquire():
        raise DaemonRunningError(
            f"a daemon runs in this state folder already (process {right.owner_pid() or '?'})",
            hint="stop that one first, or choose another state folder with DCMVAULT_HOME",
        )
    try:
        yield
    finally:
        right.release()


def open_workplace(home: Path, settings: Settings) -> Workplace:
    """Open a state folder, made (mode 0700) if there is none.

    Raises StateError when it cannot be used.
    """
    # What is imported stays: looking through it for garbage, again and again, takes a tenth.
    gc.disable()
    try:
        from dcmvault.catalogue import open_catalogue  # noqa: PLC0415 - imported when needed
        from dcmvault.engine.client import DurableQueue  # noqa: PLC0415 - imported when needed
        from dcmvault.engine.database import WorkDatabase  # noqa: PLC0415 - imported when needed
        from dcmvault.engine.ownership import Ownership  # noqa: PLC0415 - imported when needed
    finally:
        gc.freeze()
        gc.enable()

    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(
            f"the state folder cannot be made: {error.strerror}",
            hint="Set DCMVAULT_HOME to a folder that you may write to.",
        ) from error
    database = settings.database_url()
    worker_id = new_worker_id()
    work = WorkDatabase(database or home / "engine.sqlite3")
    clock = SystemClock()
    catalogue = open_catalogue(_catalogue_place(home, settings))
    leases = None
    if catalogue.bandwidth is not None:
        # Workers on PostgreSQL share limits.
        leases = Leases(catalogue.bandwidth, worker_id, clock)
    meter = ByteMeter()
    workplace = Workplace(
        home,
        settings,
        clock,
        catalogue,
        DurableQueue(work),
        Ownership(home),
        Bandwidth(settings.bandwidth.table(), clock, time.sleep, leases=leases),
        _slowing(clock, catalogue, leases),
        _together(settings, catalogue, meter, worker_id),
        work,
        meter=meter,
    )
    reach = workplace.together.reach
    reach.settings = lambda: workplace.settings
    reach.source_section = workplace.source_section
    reach.destination_section = workplace.destination_section
    return workplace


def _together(
    settings: Settings, catalogue: Catalogue, meter: ByteMeter, worker_id: str
) -> Together:
    shares = catalogue.associations
    reach = Reach(
        lambda: settings,
        source_section,
        destination_section,
        name_of_host(settings),
        worker_id,
        catalogue.workers,
    )
    associations = AssociationLeases(shares, worker_id) if shares is not None else None
    return Together(catalogue, meter, reach, associations)


def _slowing(clock: Clock, catalogue: Catalogue, leases: Leases | None) -> Slowing:
    """Make the limits for a while that are kept in this process."""

    def make(address: str, bytes_per_s: float) -> Pacing | None:
        bandwidth = Bandwidth(RateTable(), clock, time.sleep, leases=leases)
        return bandwidth.pacing(address, RateTable(bytes_per_s))

    return Slowing(partial(slowed_by_address, catalogue.slowed, catalogue.status), make, clock)
